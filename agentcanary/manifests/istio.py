"""Istio's resources for a canary: VirtualService and DestinationRule. Pure.

Source:
    Istio, networking.istio.io/v1: entries of ``http`` are tried in order, and the first whose ``match`` holds routes
    the request. So the rule for the header stands by itself, before the split.
"""

from __future__ import annotations

from typing import Any

from agentcanary.manifests.mesh import CANARY, HEADER, HEADER_ENTRY, SPLIT_ENTRY, STABLE, Mesh
from agentcanary.manifests.weights import relative_weights

API_VERSION = "networking.istio.io/v1"


def virtual_service(mesh: Mesh, weight: float) -> dict[str, Any]:
    """The VirtualService at a weight.

    Args:
        mesh: Where the agent is.
        weight: Share of the canary in [0, 1], of the requests without the header.

    >>> split = virtual_service(Mesh(name="support", service="support"), 0.05)["spec"]["http"][1]
    >>> [(route["destination"]["subset"], route["weight"]) for route in split["route"]]
    [('stable', 95), ('canary', 5)]
    """
    stable, canary = relative_weights(weight)
    spec: dict[str, Any] = {"hosts": list(mesh.hosts or (mesh.service,))}
    if mesh.gateways:
        spec["gateways"] = list(mesh.gateways)
    spec["http"] = [
        {
            "name": HEADER_ENTRY,
            "match": [{"headers": {HEADER: {"exact": "true"}}}],
            "route": [{"destination": _destination(mesh, CANARY)}],
        },
        {
            "name": SPLIT_ENTRY,
            "route": [
                {"destination": _destination(mesh, STABLE), "weight": stable},
                {"destination": _destination(mesh, CANARY), "weight": canary},
            ],
        },
    ]
    return {"apiVersion": API_VERSION, "kind": "VirtualService", "metadata": mesh.metadata(), "spec": spec}


def destination_rule(mesh: Mesh) -> dict[str, Any] | None:
    """The DestinationRule that makes the two subsets; None where each Deployment has its own Service."""
    if not mesh.subsets:
        return None
    subsets = [{"name": arm, "labels": {mesh.version_label: arm}} for arm in (STABLE, CANARY)]
    return {
        "apiVersion": API_VERSION,
        "kind": "DestinationRule",
        "metadata": mesh.metadata(),
        "spec": {"host": mesh.service, "subsets": subsets},
    }


def _destination(mesh: Mesh, arm: str) -> dict[str, Any]:
    own = mesh.stable_service if arm == STABLE else mesh.canary_service
    destination: dict[str, Any] = {"host": mesh.service, "subset": arm} if own is None else {"host": own}
    if mesh.port is not None:
        destination["port"] = {"number": mesh.port}
    return destination
