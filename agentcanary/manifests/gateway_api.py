"""The Gateway API's resource for a canary: HTTPRoute. Pure.

Source:
    Gateway API v1: of several rules the one with the most header matches wins, so the header's rule comes before the
    split whatever their order. ``sessionPersistence`` is left out on purpose: it keeps pinned users on the canary even
    at weight 0.
"""

from __future__ import annotations

from typing import Any

from agentcanary.manifests.mesh import HEADER, HEADER_ENTRY, SPLIT_ENTRY, Mesh
from agentcanary.manifests.weights import relative_weights

API_VERSION = "gateway.networking.k8s.io/v1"


def http_route(mesh: Mesh, weight: float) -> dict[str, Any]:
    """The HTTPRoute at a weight.

    Args:
        mesh: Where the agent is; with a Service for each Deployment, and a port.
        weight: Share of the canary in [0, 1], of the requests without the header.
    """
    stable, canary = relative_weights(weight)
    spec: dict[str, Any] = {"parentRefs": _parents(mesh)}
    if mesh.hosts and mesh.gateways:
        spec["hostnames"] = list(mesh.hosts)
    spec["rules"] = [
        {
            "name": HEADER_ENTRY,
            "matches": [{"headers": [{"type": "Exact", "name": HEADER, "value": "true"}]}],
            "backendRefs": [{"name": mesh.canary_service, "port": mesh.port}],
        },
        {
            "name": SPLIT_ENTRY,
            "backendRefs": [
                {"name": mesh.stable_service, "port": mesh.port, "weight": stable},
                {"name": mesh.canary_service, "port": mesh.port, "weight": canary},
            ],
        },
    ]
    return {"apiVersion": API_VERSION, "kind": "HTTPRoute", "metadata": mesh.metadata(), "spec": spec}


def _parents(mesh: Mesh) -> list[dict[str, Any]]:
    if mesh.gateways:
        return [{"name": name} for name in mesh.gateways]
    # Within a mesh the route is attached to the Service that clients call.
    return [{"group": "", "kind": "Service", "name": mesh.service, "port": mesh.port}]
