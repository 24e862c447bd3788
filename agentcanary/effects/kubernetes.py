"""Setting the weights of a running cluster. Shell around ``manifests.patching``: get, patch, read back.

The Python process needs to get and patch one resource: docs/kubernetes.md has the role for it.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import structlog

from agentcanary.errors import ManifestError
from agentcanary.manifests import Mesh, MeshApi, relative_weights
from agentcanary.manifests.patching import weight_patch, weights_in

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration

log = structlog.get_logger("agentcanary")

_RESOURCE = {
    MeshApi.ISTIO: ("networking.istio.io", "v1", "virtualservices"),
    MeshApi.GATEWAY_API: ("gateway.networking.k8s.io", "v1", "httproutes"),
}
_JSON_PATCH = "application/json-patch+json"
# The resource changed between our reading and our patch: 409, or 422 for a test that does not hold.
_CHANGED = (409, 422)
_ATTEMPTS = 5
_TIMEOUT = 10.0


class MeshWeights:
    """Sets the weights of one agent's resource.

    Args:
        mesh: Where it is.
        configuration: Of the API server; None takes that of the Pod, or of kubectl outside of one.

    Raises:
        ManifestError: If the extra ``kubernetes`` is not installed.
    """

    def __init__(self, mesh: Mesh, *, configuration: Configuration | None = None) -> None:
        if find_spec("kubernetes_asyncio") is None:
            raise ManifestError("kubernetes.patch needs the extra: pip install 'agentcanary[kubernetes]'")
        self._mesh = mesh
        self._configuration = configuration

    def __call__(self, weight: float) -> None:
        """Give the canary a share of the requests, and see that it has it.

        Args:
            weight: In [0, 1].

        Raises:
            ManifestError: If the API server does not answer or does not let us, if the resource is not what our
                manifests render, or if it does not have the weights afterwards. The outbox tries again.
        """
        asyncio.run(asyncio.wait_for(self._set(weight), _TIMEOUT * _ATTEMPTS))

    async def _set(self, weight: float) -> None:
        from aiohttp import ClientError
        from kubernetes_asyncio.client import ApiClient, ApiException, CustomObjectsApi

        configuration = self._configuration or await _found_configuration()
        name = f"{self._mesh.api.value} {self._mesh.namespace}/{self._mesh.name}"
        async with ApiClient(configuration) as client:
            objects = CustomObjectsApi(client)
            try:
                for _ in range(_ATTEMPTS):
                    resource = await self._get(objects)
                    if weights_in(resource, self._mesh) == relative_weights(weight):
                        return
                    try:
                        await self._patch(objects, weight_patch(resource, self._mesh, weight))
                    except ApiException as error:
                        if error.status not in _CHANGED:
                            raise
            except ApiException as error:
                raise ManifestError(f"{name}: the API server answered {error.status} {error.reason}") from None
            except (ClientError, TimeoutError, OSError) as error:
                raise ManifestError(f"{name}: the API server does not answer: {type(error).__name__}") from None
        raise ManifestError(f"{name}: somebody else sets its weights: after {_ATTEMPTS} patches it has not ours")

    async def _get(self, objects: Any) -> dict[str, Any]:
        found: dict[str, Any] = await objects.get_namespaced_custom_object(*self._place, _request_timeout=_TIMEOUT)
        return found

    async def _patch(self, objects: Any, operations: list[dict[str, Any]]) -> None:
        group, version, namespace, plural, name = self._place
        # Without its type, a list of operations is sent as what it is not.
        await objects.patch_namespaced_custom_object(
            group, version, namespace, plural, name, operations, _content_type=_JSON_PATCH, _request_timeout=_TIMEOUT
        )

    @property
    def _place(self) -> tuple[str, str, str, str, str]:
        group, version, plural = _RESOURCE[self._mesh.api]
        return group, version, self._mesh.namespace, plural, self._mesh.name


async def _found_configuration() -> Configuration:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # it has no types
    except ConfigException:
        try:
            await load_kube_config(client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise ManifestError(f"no cluster is configured, by a Pod's account or a kubeconfig: {error}") from None
    return configuration
