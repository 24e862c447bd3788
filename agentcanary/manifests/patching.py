"""The JSON Patch that sets the weights of a resource in a cluster, and reading them back. Pure.

Source:
    RFC 6902: an operation ``test`` makes the whole patch fail where the resource has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcanary.errors import ManifestError
from agentcanary.manifests.mesh import CANARY, SPLIT_ENTRY, STABLE, Mesh, MeshApi
from agentcanary.manifests.weights import relative_weights


def weight_patch(resource: Mapping[str, Any], mesh: Mesh, weight: float) -> list[dict[str, Any]]:
    """The operations that give the canary a share of the requests. Nothing but our two weights is touched.

    Args:
        resource: As the API server returned it.
        mesh: Where the agent is.
        weight: Share of the canary in [0, 1].

    Raises:
        ManifestError: If our entry, or one of its two destinations, is not in the resource.
    """
    stable, canary = relative_weights(weight)
    places = _places(resource, mesh)
    version = resource.get("metadata", {}).get("resourceVersion")
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "test", "path": f"{_entry_of(places[STABLE])}/name", "value": SPLIT_ENTRY},
    ]
    # ``add`` sets what is there and what is not: a weight may be left out.
    operations += [
        {"op": "add", "path": f"{places[arm]}/weight", "value": value}
        for arm, value in ((STABLE, stable), (CANARY, canary))
    ]
    return operations


def weights_in(resource: Mapping[str, Any], mesh: Mesh) -> tuple[int, int]:
    """The weights of stable and canary in a resource.

    Raises:
        ManifestError: As for ``weight_patch``.
    """
    entries, key = _entries(resource, mesh)
    found = {}
    for arm, path in _places(resource, mesh).items():
        entry, route = int(path.split("/")[3]), int(path.split("/")[5])
        # Where a weight is left out it is 1 (Gateway API v1), or 100 for the only destination (Istio).
        found[arm] = int(entries[entry][key][route].get("weight", 1))
    return found[STABLE], found[CANARY]


def _entry_of(place: str) -> str:
    return "/".join(place.split("/")[:4])


def _places(resource: Mapping[str, Any], mesh: Mesh) -> dict[str, str]:
    entries, key = _entries(resource, mesh)
    listed = "rules" if mesh.api is MeshApi.GATEWAY_API else "http"
    name = f"{resource.get('kind', mesh.api.value)} {mesh.namespace}/{mesh.name}"
    number = next((at for at, entry in enumerate(entries) if entry.get("name") == SPLIT_ENTRY), None)
    if number is None:
        raise ManifestError(
            f"{name} has no entry named {SPLIT_ENTRY!r} under spec.{listed}; render one with: agentcanary manifests"
        )
    routes = entries[number].get(key, [])
    places: dict[str, str] = {}
    for position, route in enumerate(routes):
        for arm in (STABLE, CANARY):
            if _is(route, mesh, arm):
                places[arm] = f"/spec/{listed}/{number}/{key}/{position}"
    if len(places) != 2 or len(routes) != 2:
        raise ManifestError(
            f"{name}: entry {SPLIT_ENTRY!r} does not split between the two destinations of {STABLE} and {CANARY}; "
            "compare it with: agentcanary manifests --check FILE"
        )
    return places


def _entries(resource: Mapping[str, Any], mesh: Mesh) -> tuple[list[dict[str, Any]], str]:
    spec = resource.get("spec", {})
    if mesh.api is MeshApi.GATEWAY_API:
        return list(spec.get("rules", [])), "backendRefs"
    return list(spec.get("http", [])), "route"


def _is(route: Mapping[str, Any], mesh: Mesh, arm: str) -> bool:
    own = mesh.stable_service if arm == STABLE else mesh.canary_service
    if mesh.api is MeshApi.GATEWAY_API:
        return route.get("name") == own
    destination = route.get("destination", {})
    if own is not None:
        return bool(destination.get("host") == own)
    return bool(destination.get("host") == mesh.service and destination.get("subset") == arm)
