"""What is wrong with a manifest that somebody wrote, whatever weight it has. Pure.

Only what sends traffic elsewhere than its author means: the API server checks the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentcanary.manifests.fault import Fault
from agentcanary.manifests.mesh import HEADER

KINDS = ("VirtualService", "HTTPRoute", "DestinationRule")


def faults(documents: Iterable[object]) -> list[Fault]:
    """The faults of all documents of a manifest.

    Args:
        documents: As a YAML parser returns them. Kinds other than VirtualService, HTTPRoute and DestinationRule are
            passed over.
    """
    found: list[Fault] = []
    seen = [document for document in documents if document is not None]
    subsets = {host: names for document in seen for host, names in _subsets(document)}
    for number, document in enumerate(seen):
        if not isinstance(document, Mapping):
            found.append(Fault(f"document {number + 1}", f"is no mapping but {document!r:.60}", "write a resource"))
            continue
        match document.get("kind"):
            case "VirtualService":
                found += _virtual_service(document, subsets)
            case "HTTPRoute":
                found += _http_route(document)
            case _:
                continue
    return found


def _virtual_service(document: Mapping[str, Any], subsets: Mapping[str, frozenset[str]]) -> Iterator[Fault]:
    name = _name(document)
    spec = document.get("spec")
    yield from _flat(document, name)
    if not isinstance(spec, Mapping):
        return
    if not spec.get("hosts"):
        yield Fault(name, "spec.hosts is missing, so nothing is routed by it", "write the host that clients call")
    entries = spec.get("http")
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        yield Fault(name, "spec.http is missing, so nothing is split", "write the rule for the header and the split")
        return
    open_from: int | None = None
    for number, entry in enumerate(entries):
        where = f"{name}: spec.http[{number}]"
        if not isinstance(entry, Mapping):
            yield Fault(where, f"is no mapping but {entry!r:.60}", "write an entry with a route")
            continue
        routes = _routes(entry.get("route"))
        if open_from is not None:
            yield Fault(
                where, f"is never reached: spec.http[{open_from}] takes every request", "put it before that entry"
            )
        if _asks_header(entry.get("match"), "headers", HEADER) and len(routes) > 1:
            yield Fault(
                where,
                f"matches {HEADER} and holds the weighted route at once: requests without the header match nothing "
                "(404), and those with it are still split",
                "write the header's rule as an entry of its own, before the split",
            )
        if not entry.get("match"):
            open_from = number if open_from is None else open_from
        yield from _weights(routes, where)
        for route in routes:
            yield from _destination(route, where, subsets)
    if open_from is None:
        yield Fault(
            f"{name}: spec.http",
            "has no entry without match: a request that matches none gets 404",
            "add the split as the last entry, without match",
        )


def _destination(route: Mapping[str, Any], where: str, subsets: Mapping[str, frozenset[str]]) -> Iterator[Fault]:
    destination = route.get("destination")
    if not isinstance(destination, Mapping) or not destination.get("host"):
        yield Fault(where, "has a route without destination.host", "name the Service")
        return
    subset, host = destination.get("subset"), destination["host"]
    if subset is not None and host in subsets and subset not in subsets[host]:
        known = ", ".join(sorted(subsets[host])) or "none"
        yield Fault(where, f"names the subset {subset!r}, which its DestinationRule does not have", f"it has {known}")


def _http_route(document: Mapping[str, Any]) -> Iterator[Fault]:
    name = _name(document)
    yield from _flat(document, name)
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return
    if not spec.get("parentRefs"):
        yield Fault(name, "spec.parentRefs is missing, so nothing is routed by it", "name the Gateway or the Service")
    for number, rule in enumerate(_routes(spec.get("rules"))):
        where = f"{name}: spec.rules[{number}]"
        backends = _routes(rule.get("backendRefs"))
        headers = [match for match in _routes(rule.get("matches")) if _asks_route_header(match)]
        if headers and len(backends) > 1:
            yield Fault(
                where,
                f"matches {HEADER} and splits at once: testers are still drawn, and everybody else matches nothing",
                "write the header's rule by itself, with the canary as its only backend",
            )
        if "sessionPersistence" in rule:
            yield Fault(
                where,
                "has sessionPersistence, which keeps users on the canary even at weight 0: a rollback does not reach "
                "them",
                "leave it out; agentcanary pins conversations, in mode process",
            )
        yield from _weights(backends, where)


def _weights(routes: Sequence[Mapping[str, Any]], where: str) -> Iterator[Fault]:
    stated = [route.get("weight") for route in routes]
    for weight in stated:
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int) or weight < 0):
            yield Fault(where, f"has the weight {weight!r}, which is no whole number from 0 on", "write 5 and 95")
            return
    numbers = [weight for weight in stated if weight is not None]
    if len(routes) > 1 and not numbers:
        yield Fault(where, f"splits among {len(routes)} destinations without weights", "state the weight of each")
    elif len(routes) > 1 and len(numbers) < len(stated):
        yield Fault(where, "states some weights and leaves out others", "state the weight of each")
    elif numbers and not any(numbers):
        yield Fault(where, "has only weights of 0: no destination gets a request", "give stable what the canary loses")


def _flat(document: Mapping[str, Any], name: str) -> Iterator[Fault]:
    """Keys that lost their indentation, as when a manifest is copied from a page."""
    strays = sorted({"hosts", "http", "name", "route", "match", "rules", "weight"} & set(document))
    if strays or not isinstance(document.get("spec"), Mapping):
        lost = f"has {', '.join(strays)} beside spec" if strays else "has no spec"
        yield Fault(name, f"{lost}: the indentation is lost, and nothing of it is read", "indent what belongs to spec")


def _subsets(document: object) -> Iterator[tuple[str, frozenset[str]]]:
    if isinstance(document, Mapping) and document.get("kind") == "DestinationRule":
        spec = document.get("spec")
        if isinstance(spec, Mapping) and isinstance(spec.get("host"), str):
            names = (subset.get("name") for subset in _routes(spec.get("subsets")))
            yield spec["host"], frozenset(name for name in names if isinstance(name, str))


def _asks_header(matches: object, key: str, header: str) -> bool:
    return any(header in match[key] for match in _routes(matches) if isinstance(match.get(key), Mapping))


def _asks_route_header(match: Mapping[str, Any]) -> bool:
    return any(str(header.get("name", "")).lower() == HEADER for header in _routes(match.get("headers")))


def _routes(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def _name(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{document.get('kind')} {name or '(without a name)'}"
