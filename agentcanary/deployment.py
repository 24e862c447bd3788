"""Where versions run that are not in this process, made from the configuration: remote URLs, and a mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agentcanary.config import Config
from agentcanary.errors import ConfigError
from agentcanary.manifests import MeshMode
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from agentcanary.versions import ASGIApp

ARM = "AGENTCANARY_ARM"


def remote_versions(config: Config) -> dict[str, ASGIApp]:
    """What serves the versions that run in another Deployment."""
    if not config.versions:
        return {}
    # httpx is loaded only where a version is remote.
    from agentcanary.remote import RemoteVersion

    return {
        name: RemoteVersion(remote.url, connect_timeout=remote.connect_timeout, read_timeout=remote.read_timeout)
        for name, remote in config.versions.items()
    }


def mesh_weights(config: Config) -> Callable[[float], None] | None:
    """What sets the weights of the mesh, or None where nothing is to be set."""
    if config.kubernetes is None or not config.kubernetes.patch:
        return None
    from agentcanary.effects.kubernetes import MeshWeights

    return MeshWeights(config.kubernetes)


def deployed_arm(config: Config, environment: Mapping[str, str]) -> Arm | None:
    """The arm that this Deployment is, in mode mesh; None where our hash decides.

    Args:
        config: The same in both Deployments.
        environment: Usually ``os.environ``; ``AGENTCANARY_ARM`` tells them apart.

    Raises:
        ConfigError: If mode mesh is configured and the variable is neither stable nor canary.
    """
    if config.kubernetes is None or config.kubernetes.mode is MeshMode.PROCESS:
        return None
    stated = environment.get(ARM, "")
    if stated not in set(Arm):
        needs = f"kubernetes.mode: mesh needs {ARM} in the environment of each Deployment, got {stated[:60]!r}"
        raise ConfigError([f"{needs}; set it to stable in one and to canary in the other"])
    return Arm(stated)
