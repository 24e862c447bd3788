"""What is rendered sends traffic where it should, by the meshes' own rules of matching."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.manifests import Mesh, MeshApi, destination_rule, http_route, relative_weights, virtual_service

SUBSETS = Mesh(name="support-agent", service="support-agent")
SERVICES = Mesh(
    name="ai-agent",
    service="ai-agent",
    stable_service="ai-agent-stable",
    canary_service="ai-agent-canary",
    port=8080,
    hosts=("ai-agent.internal",),
)
ROUTE = Mesh(
    api=MeshApi.GATEWAY_API,
    name="ai-agent",
    service="ai-agent",
    stable_service="ai-agent-stable",
    canary_service="ai-agent-canary",
    port=8080,
)


def istio_goes_to(resource: Mapping[str, Any], headers: Mapping[str, str], draw: float) -> str:
    """Where Istio sends a request: the first entry whose match holds; then by weight."""
    for entry in resource["spec"]["http"]:
        matches = entry.get("match")
        if matches and not any(
            all(headers.get(name) == rule["exact"] for name, rule in match["headers"].items()) for match in matches
        ):
            continue
        routes = entry["route"]
        destination = _drawn(routes, draw)["destination"]
        return str(destination.get("subset", destination["host"]))
    return "404"


def gateway_goes_to(resource: Mapping[str, Any], headers: Mapping[str, str], draw: float) -> str:
    """Where a Gateway sends a request: the rule with the most header matches; then by weight, 1 if unstated."""
    holding = []
    for rule in resource["spec"]["rules"]:
        for match in rule.get("matches", [{}]):
            wanted = match.get("headers", [])
            if all(headers.get(header["name"]) == header["value"] for header in wanted):
                holding.append((len(wanted), rule))
    rule = max(holding, key=lambda found: found[0])[1]
    return str(_drawn(rule["backendRefs"], draw)["name"])


def _drawn(routes: list[dict[str, Any]], draw: float) -> dict[str, Any]:
    total = sum(route.get("weight", 1) for route in routes)
    reached = 0.0
    for route in routes:
        reached += route.get("weight", 1) / total
        if draw < reached:
            return route
    raise AssertionError("weights of 0 only")


def test_the_example_of_istios_documentation_at_five_percent() -> None:
    assert virtual_service(SUBSETS, 0.05)["spec"] == {
        "hosts": ["support-agent"],
        "http": [
            {
                "name": "agentcanary-header",
                "match": [{"headers": {"x-canary": {"exact": "true"}}}],
                "route": [{"destination": {"host": "support-agent", "subset": "canary"}}],
            },
            {
                "name": "agentcanary-split",
                "route": [
                    {"destination": {"host": "support-agent", "subset": "stable"}, "weight": 95},
                    {"destination": {"host": "support-agent", "subset": "canary"}, "weight": 5},
                ],
            },
        ],
    }
    rule = destination_rule(SUBSETS)
    assert rule is not None
    assert rule["spec"] == {
        "host": "support-agent",
        "subsets": [
            {"name": "stable", "labels": {"version": "stable"}},
            {"name": "canary", "labels": {"version": "canary"}},
        ],
    }


def test_separate_services_need_no_destination_rule() -> None:
    assert destination_rule(SERVICES) is None
    split = virtual_service(SERVICES, 0.05)["spec"]["http"][1]["route"]
    assert [(route["destination"], route["weight"]) for route in split] == [
        ({"host": "ai-agent-stable", "port": {"number": 8080}}, 95),
        ({"host": "ai-agent-canary", "port": {"number": 8080}}, 5),
    ]


@pytest.mark.parametrize("weight", [0.0, 0.005, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("api", list(MeshApi))
def test_testers_reach_the_canary_and_everybody_else_is_split(api: MeshApi, weight: float) -> None:
    rng = random.Random(20261123)
    if api is MeshApi.ISTIO:
        resource, goes_to, canary = virtual_service(SUBSETS, weight), istio_goes_to, "canary"
    else:
        resource, goes_to, canary = http_route(ROUTE, weight), gateway_goes_to, "ai-agent-canary"
    assert {goes_to(resource, {"x-canary": "true"}, rng.random()) for _ in range(100)} == {canary}
    draws = 20_000
    reached = Counter(goes_to(resource, {}, rng.random()) for _ in range(draws))
    # Five standard deviations of a binomial count.
    assert abs(reached[canary] - weight * draws) <= 5 * (weight * (1 - weight) * draws) ** 0.5


@given(st.floats(0, 1))
def test_weights_are_whole_never_both_zero_and_as_close_as_a_millionth(weight: float) -> None:
    stable, canary = relative_weights(weight)
    assert stable >= 0 <= canary
    assert 100 <= stable + canary <= 1_000_000
    assert abs(canary / (stable + canary) - weight) <= 1e-6
    assert (canary == 0) == (weight == 0)
    assert (stable == 0) == (weight == 1)


@pytest.mark.parametrize(
    ("weight", "expected"), [(0.0, (100, 0)), (0.005, (995, 5)), (0.15, (85, 15)), (1 / 3, (666_667, 333_333))]
)
def test_the_smallest_whole_numbers_are_taken(weight: float, expected: tuple[int, int]) -> None:
    assert relative_weights(weight) == expected


@pytest.mark.parametrize("weight", [-0.1, 5, float("nan"), float("inf")])
def test_what_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight is a share in 0\.\.1, got .* \(write 0.05, not 5\)"):
        relative_weights(weight)


def test_an_http_route_keeps_no_session() -> None:
    assert "sessionPersistence" not in str(http_route(ROUTE, 0.05))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stable_service": "a"}, "belong together"),
        ({"stable_service": "a", "canary_service": "a"}, "must be two Services, got 'a'"),
        ({"api": MeshApi.GATEWAY_API}, "an HTTPRoute has no subsets"),
        ({"api": MeshApi.GATEWAY_API, "stable_service": "a", "canary_service": "b"}, "state port"),
    ],
)
def test_a_mesh_that_cannot_be_rendered_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mesh(name="support", service="support", **changes)
