"""Where an agent's two Deployments stand in a cluster, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

HEADER = "x-canary"
HEADER_ENTRY = "agentcanary-header"
SPLIT_ENTRY = "agentcanary-split"
STABLE, CANARY = "stable", "canary"


class MeshApi(StrEnum):
    """Whose resource splits the traffic."""

    ISTIO = "istio"
    GATEWAY_API = "gateway-api"


class MeshMode(StrEnum):
    """Who decides which version a conversation gets.

    In mode ``process`` agentcanary does, in the stable Deployment: the mesh sends everything there (weight 0), but what
    carries ``x-canary: true`` to the canary. In mode ``mesh`` the mesh draws every request by itself, so that a
    conversation changes its version.
    """

    PROCESS = "process"
    MESH = "mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """How an agent is reached in a cluster.

    Attributes:
        api: Whose resource splits the traffic.
        mode: Who decides.
        name: Of the VirtualService and DestinationRule, or of the HTTPRoute.
        namespace: Of these.
        service: The Service in front of both Deployments.
        stable_service: The stable Deployment's own Service, or None where subsets tell the two apart (Istio).
        canary_service: The canary Deployment's.
        port: Of the Services, or None where they have only one (Istio).
        hosts: What clients call; by default the Service.
        gateways: Through which traffic comes from outside; none for traffic within the mesh.
        version_label: The label of the Pods whose value is ``stable`` or ``canary``, for subsets.
        patch: True lets the controller patch the weights of the running cluster.
    """

    api: MeshApi = MeshApi.ISTIO
    mode: MeshMode = MeshMode.PROCESS
    name: str
    namespace: str = "default"
    service: str
    stable_service: str | None = None
    canary_service: str | None = None
    port: int | None = None
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    version_label: str = "version"
    patch: bool = False

    def __post_init__(self) -> None:
        if (self.stable_service is None) != (self.canary_service is None):
            raise ValueError(
                "stable_service and canary_service belong together: state both, or neither for subsets of one Service"
            )
        if self.stable_service is not None and self.stable_service == self.canary_service:
            raise ValueError(f"stable_service and canary_service must be two Services, got {self.stable_service!r}")
        if self.patch and self.mode is MeshMode.PROCESS:
            raise ValueError("patch needs mode: mesh; in mode process the weights stay, and our hash decides")
        if self.api is MeshApi.GATEWAY_API and self.stable_service is None:
            raise ValueError(
                "an HTTPRoute has no subsets: state stable_service and canary_service, a Service for each Deployment"
            )
        if self.api is MeshApi.GATEWAY_API and self.port is None:
            raise ValueError("an HTTPRoute names the port of each Service: state port")

    @property
    def subsets(self) -> bool:
        """True where one Service stands before both Deployments and labels tell them apart."""
        return self.stable_service is None

    def metadata(self) -> dict[str, Any]:
        """Name and namespace of every resource of ours."""
        labels = {"app.kubernetes.io/managed-by": "agentcanary"}
        return {"name": self.name, "namespace": self.namespace, "labels": labels}
