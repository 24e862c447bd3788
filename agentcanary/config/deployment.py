"""Where versions run that are not in this process: remote URLs, and the two Deployments in a cluster. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from agentcanary.config.fields import Count, LongDuration, Switch, Text, Unstated
from agentcanary.config.refusals import refused
from agentcanary.config.section import Section
from agentcanary.config.values import Remote
from agentcanary.manifests import Mesh, MeshApi, MeshMode

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _remote_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or not value.isprintable():
        raise refused("is no http or https URL without a query; write http://support-canary:8080")
    if parts.username is not None or parts.password is not None:
        raise refused("must hold no password: the client's own headers are sent on; write http://support-canary:8080")
    return value


def _kubernetes_name(value: str) -> str:
    if _DNS_LABEL.fullmatch(value) is None:
        raise refused(
            f"must be a name in Kubernetes: lower-case letters, digits and '-', at most 63, got {value[:80]!r}; "
            "write support-agent"
        )
    return value


RemoteUrl = Annotated[str, AfterValidator(_remote_url), Field(max_length=2000)]
KubernetesName = Annotated[str, AfterValidator(_kubernetes_name), Field(max_length=200)]


class RemoteSection(Section):
    """A version that runs in another Deployment: every request of its conversations is handed on to a URL."""

    durations = ("connect_timeout", "read_timeout")
    placeholders: ClassVar[dict[str, Any]] = {"url": "http://unknown"}

    url: RemoteUrl = Field(description="Where it runs, such as http://support-canary:8080.")
    connect_timeout: LongDuration = Field(5.0, description="Time to connect.")
    read_timeout: LongDuration = Field(600.0, description="Time without a byte of its answer.")

    def remote(self) -> Remote:
        """What it means."""
        return Remote(url=self.url, connect_timeout=self.connect_timeout, read_timeout=self.read_timeout)


class KubernetesSection(Section):
    """How the two Deployments are reached in a cluster, for agentcanary manifests and for patching."""

    api: MeshApi = Field(MeshApi.ISTIO, description="istio: VirtualService. gateway-api: HTTPRoute.")
    mode: MeshMode = Field(
        MeshMode.PROCESS, description="process: our hash decides, the mesh obeys x-canary. mesh: it draws each request."
    )
    name: Unstated[KubernetesName] = Field(None, description="Of the resources; else that of the agent.")
    namespace: KubernetesName = "default"
    service: Unstated[KubernetesName] = Field(None, description="In front of both Deployments; else the name.")
    stable_service: Unstated[KubernetesName] = Field(None, description="The stable Deployment's own Service.")
    canary_service: Unstated[KubernetesName] = Field(None, description="The canary Deployment's own Service.")
    port: Unstated[Annotated[Count, Field(ge=1, le=65_535)]] = Field(None, description="Of the Services.")
    hosts: Annotated[list[Text], Field(max_length=20)] = Field([], description="What clients call; else the service.")
    gateways: Annotated[list[Text], Field(max_length=20)] = Field([], description="For traffic from outside.")
    version_label: Text = Field("version", description="The Pods' label that is stable or canary, for subsets.")
    patch: Switch = Field(False, description="true: the controller patches the weights of the running cluster.")

    def mesh(self, agent: str) -> Mesh:
        """What it means for an agent.

        Raises:
            ValueError: If its keys do not go together, or the agent's name is none in Kubernetes and no other is given.
        """
        name = self.name or agent.lower().replace("_", "-").replace(".", "-")
        if _DNS_LABEL.fullmatch(name) is None:
            raise ValueError(f"kubernetes.name is missing, and {agent!r} is no name in Kubernetes; write support-agent")
        return Mesh(
            api=self.api,
            mode=self.mode,
            name=name,
            namespace=self.namespace,
            service=self.service or name,
            stable_service=self.stable_service,
            canary_service=self.canary_service,
            port=self.port,
            hosts=tuple(self.hosts),
            gateways=tuple(self.gateways),
            version_label=self.version_label,
            patch=self.patch,
        )
