"""Kubernetes manifests that split an agent's traffic by weight: rendering them, and finding what is wrong in one."""

from agentcanary.manifests.drift import drift
from agentcanary.manifests.fault import Fault
from agentcanary.manifests.faults import faults
from agentcanary.manifests.gateway_api import http_route
from agentcanary.manifests.istio import destination_rule, virtual_service
from agentcanary.manifests.mesh import Mesh, MeshApi, MeshMode
from agentcanary.manifests.weights import relative_weights

__all__ = [
    "Fault",
    "Mesh",
    "MeshApi",
    "MeshMode",
    "destination_rule",
    "drift",
    "faults",
    "http_route",
    "relative_weights",
    "virtual_service",
]
