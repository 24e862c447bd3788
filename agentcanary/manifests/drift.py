"""How a manifest differs from what it should be. Pure.

Only what is ours is compared: the two entries, their destinations and their weights. What a team added around them
(time-outs, retries, further entries) is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentcanary.manifests.fault import Fault
from agentcanary.manifests.mesh import HEADER_ENTRY, SPLIT_ENTRY


def drift(documents: Iterable[object], expected: Iterable[Mapping[str, Any] | None]) -> list[Fault]:
    """The differences of a manifest from what ``virtual_service``, ``destination_rule`` or ``http_route`` render.

    Args:
        documents: The manifest's, as a YAML parser returns them.
        expected: The resources as they should be; None is passed over.
    """
    found: list[Fault] = []
    actual = [document for document in documents if isinstance(document, Mapping)]
    for wanted in expected:
        if wanted is None:
            continue
        name = f"{wanted['kind']} {wanted['metadata']['name']}"
        called = (wanted["kind"], wanted["metadata"]["name"])
        same = [there for there in actual if (there.get("kind"), _of(there, "metadata", "name")) == called]
        if not same:
            found.append(Fault(name, "is not in the manifest", "add it: agentcanary manifests renders it"))
            continue
        key = "rules" if wanted["kind"] == "HTTPRoute" else "http"
        if key not in wanted["spec"]:
            found += _rule(same[0], wanted, name)
        else:
            for entry in (HEADER_ENTRY, SPLIT_ENTRY):
                found += _entry(same[0], wanted, key, entry, name)
    return found


def _entry(actual: Mapping[str, Any], wanted: Mapping[str, Any], key: str, entry: str, name: str) -> list[Fault]:
    entries = _of(actual, "spec", key)
    listed = entries if isinstance(entries, list) else []
    there = [item for item in listed if isinstance(item, Mapping) and item.get("name") == entry]
    (should,) = (item for item in wanted["spec"][key] if item["name"] == entry)
    where = f"{name}: spec.{key} entry {entry}"
    if not there:
        return [Fault(where, "is missing", f"name our entry {entry!r}, so that its weights can be patched")]
    found = []
    routes = "backendRefs" if key == "rules" else "route"
    is_now, should_be = _destinations(there[0].get(routes)), _destinations(should[routes])
    if [target for target, _ in is_now] != [target for target, _ in should_be]:
        found.append(
            Fault(
                where,
                f"goes to {_shown([target for target, _ in is_now])}",
                f"it should go to {_shown([target for target, _ in should_be])}",
            )
        )
    elif is_now != should_be:
        found.append(
            Fault(
                where,
                f"has the weights {_shown([weight for _, weight in is_now])}",
                f"they should be {_shown([weight for _, weight in should_be])}",
            )
        )
    match = "matches" if key == "rules" else "match"
    if match in should and there[0].get(match) != should[match]:
        found.append(Fault(where, f"matches {there[0].get(match)!r:.120}", f"it should match {should[match]!r}"))
    return found


def _rule(actual: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> list[Fault]:
    is_now = {item.get("name"): item.get("labels") for item in _of(actual, "spec", "subsets") or []}
    return [
        Fault(
            f"{name}: subset {subset['name']}",
            f"selects {is_now.get(subset['name'])!r}",
            f"it should select {subset['labels']!r}",
        )
        for subset in wanted["spec"]["subsets"]
        if is_now.get(subset["name"]) != subset["labels"]
    ]


def _destinations(routes: object) -> list[tuple[str, int | None]]:
    found = []
    for route in routes if isinstance(routes, list) else []:
        target = route.get("destination", route) if isinstance(route, Mapping) else {}
        place = "/".join(str(target[key]) for key in ("host", "name", "subset") if key in target)
        found.append((place, route.get("weight") if isinstance(route, Mapping) else None))
    return found


def _shown(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values) or "nothing"


def _of(document: Mapping[str, Any], *keys: str) -> Any:
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
