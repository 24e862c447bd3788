"""Mistakes in ``versions`` and ``kubernetes``."""

from __future__ import annotations

import pytest

from agentcanary.config import Config, parse_config
from agentcanary.errors import ConfigError
from agentcanary.manifests import Mesh

NAMES = "agent: {agent}\nstable: support-v1\ncanary: support-v2\n"


def parsed(more: str, agent: str = "support") -> Config:
    return parse_config(NAMES.format(agent=agent) + more, "canary.yaml")


def test_a_section_that_states_nothing_stands_for_the_agents_own_name() -> None:
    assert parsed("kubernetes: {}", agent="Support_Agent").kubernetes == Mesh(
        name="support-agent", service="support-agent"
    )
    assert parsed("").kubernetes is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("versions: {v2: {}}", "canary.yaml:4: versions.v2.url is missing"),
        (
            "versions: {v2: {url: 'support:80'}}",
            "canary.yaml:4: versions.v2.url is no http or https URL without a query",
        ),
        ("versions: {v2: {url: 'http://a:hunter2@b'}}", "canary.yaml:4: versions.v2.url must hold no password"),
        ("versions: {v2: {url: 'http://a', timeout: 3s}}", "unknown key 'timeout' in versions.v2; did you mean"),
        ("versions: {v2: {url: 'http://a', read_timeout: 3}}", "read_timeout must have a unit, got 3; write 3s"),
        ("kubernetes: {api: istoi}", "kubernetes.api"),
        ("kubernetes: {name: Support}", "kubernetes.name must be a name in Kubernetes"),
        ("kubernetes: {stable_service: a}", "stable_service and canary_service belong together"),
        ("kubernetes: {api: gateway-api}", "an HTTPRoute has no subsets: state stable_service and canary_service"),
        ("kubernetes: {port: 0}", "kubernetes.port"),
        (
            "kubernetes: {mode: mesh}",
            "kubernetes.mode: mesh draws every request by itself, so no conversation",
        ),
        ("kubernetes: {patch: true}", "patch needs mode: mesh"),
    ],
)
def test_each_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(text)
    (mistake,) = raised.value.mistakes
    assert message in mistake
    assert "hunter2" not in mistake


def test_an_agent_without_a_name_in_kubernetes_is_told_to_give_one() -> None:
    with pytest.raises(ConfigError, match=r"kubernetes.name is missing, and 'a\.+' is no name in Kubernetes"):
        parsed("kubernetes: {}", agent="a..")
