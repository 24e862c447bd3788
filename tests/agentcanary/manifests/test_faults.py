"""Faults are found in manifests that people write, and none in ours."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.manifests import Mesh, MeshApi, destination_rule, drift, faults, http_route, virtual_service

MESH = Mesh(name="support", service="support")
ROUTE = Mesh(
    api=MeshApi.GATEWAY_API, name="support", service="support", stable_service="s", canary_service="c", port=80
)

# The manifest of the article that the project grew from, with its indentation put back.
ARTICLE = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: ai-agent
spec:
  hosts: [ai-agent.internal]
  http:
  - match: [{headers: {x-canary: {exact: "true"}}}]
    route:
    - {destination: {host: ai-agent-stable, port: {number: 8080}}, weight: 95}
    - {destination: {host: ai-agent-canary, port: {number: 8080}}, weight: 5}
"""
FLAT = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
name: ai-agent
spec:
hosts: [ai-agent.internal]
http: []
"""


def found(text: str) -> list[str]:
    return [str(fault) for fault in faults(yaml.safe_load_all(text))]


@pytest.mark.parametrize("weight", [0.0, 0.005, 0.05, 1.0])
def test_what_we_render_has_no_fault_and_no_drift(weight: float) -> None:
    for documents in (
        [virtual_service(MESH, weight), destination_rule(MESH)],
        [http_route(ROUTE, weight)],
    ):
        written = list(yaml.safe_load_all(yaml.safe_dump_all(documents)))
        assert faults(written) == []
        assert drift(written, documents) == []


def test_the_articles_manifest_loses_everybody_without_the_header() -> None:
    matched, open_end = found(ARTICLE)
    assert matched == (
        "VirtualService ai-agent: spec.http[0]: matches x-canary and holds the weighted route at once: requests "
        "without the header match nothing (404), and those with it are still split; write the header's rule as an "
        "entry of its own, before the split"
    )
    assert open_end.startswith("VirtualService ai-agent: spec.http: has no entry without match")


def test_lost_indentation_is_named() -> None:
    (fault,) = found(FLAT)
    assert fault == (
        "VirtualService (without a name): has hosts, http, name beside spec: the indentation is lost, and nothing of "
        "it is read; indent what belongs to spec"
    )


SPLIT = {
    "name": "split",
    "route": [
        {"destination": {"host": "support", "subset": "stable"}, "weight": 95},
        {"destination": {"host": "support", "subset": "canary"}, "weight": 5},
    ],
}
HEADER = {
    "match": [{"headers": {"x-canary": {"exact": "true"}}}],
    "route": [{"destination": {"host": "support", "subset": "canary"}}],
}


def service(*entries: Any, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "VirtualService",
        "metadata": {"name": "support"},
        "spec": {"hosts": ["support"], "http": list(entries)} | spec,
    }


def split(*weights: Any) -> dict[str, Any]:
    route = []
    for weight in weights:
        target: dict[str, Any] = {"destination": {"host": "support"}}
        route.append(target if weight is None else target | {"weight": weight})
    return {"route": route}


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (service(SPLIT, HEADER), r"spec.http\[1\]: is never reached: spec.http\[0\] takes every request"),
        (service(HEADER), "has no entry without match"),
        (service(HEADER, split(0, 0)), "has only weights of 0"),
        (service(HEADER, split(None, None)), "splits among 2 destinations without weights"),
        (service(HEADER, split(95, None)), "states some weights and leaves out others"),
        (service(HEADER, split(99.5, 0.5)), "has the weight 99.5, which is no whole number"),
        (service(HEADER, split("95", "5")), "has the weight '95'"),
        (service(HEADER, {"route": [{"weight": 5}]}), "has a route without destination.host"),
        (service(HEADER, SPLIT, hosts=[]), "spec.hosts is missing"),
        (service(), "spec.http is missing"),
        (service("route"), "is no mapping but 'route'"),
    ],
)
def test_each_fault_of_a_virtual_service_is_named(resource: dict[str, Any], message: str) -> None:
    assert len(faults([resource])) >= 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(str(fault) for fault in faults([resource])))


def test_a_subset_that_the_destination_rule_does_not_have_is_named() -> None:
    rule = destination_rule(Mesh(name="support", service="support"))
    assert rule is not None
    rule["spec"]["subsets"].pop()
    (header, split_fault) = faults([service(HEADER, SPLIT), rule])
    assert "names the subset 'canary', which its DestinationRule does not have; it has stable" in str(header)
    assert "subset 'canary'" in str(split_fault)


def test_session_persistence_keeps_users_on_a_canary_that_was_taken_back() -> None:
    route = http_route(ROUTE, 0.0)
    route["spec"]["rules"][1]["sessionPersistence"] = {"type": "Cookie"}
    (fault,) = faults([route])
    assert "keeps users on the canary even at weight 0" in fault.what


def test_a_header_rule_that_splits_is_a_fault_of_an_http_route_too() -> None:
    route = http_route(ROUTE, 0.05)
    route["spec"]["rules"][0]["backendRefs"] = route["spec"]["rules"][1]["backendRefs"]
    (fault,) = faults([route])
    assert "matches x-canary and splits at once" in fault.what


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["http"][1]["route"][1].update(weight=7), "has the weights 95, 7; they should be 95, 5"),
        (lambda s: s["http"].pop(0), "entry agentcanary-header: is missing"),
        (lambda s: s["http"][0].update(match=[{"headers": {"x-beta": {"exact": "1"}}}]), "it should match"),
        (lambda s: s["http"][1]["route"].reverse(), "goes to support/canary, support/stable"),
        (lambda s: s.pop("http"), "entry agentcanary-split: is missing"),
    ],
)
def test_drift_is_shown_with_what_it_should_be(change: Any, message: str) -> None:
    resource = virtual_service(MESH, 0.05)
    change(resource["spec"])
    text = "\n".join(str(fault) for fault in drift([resource], [virtual_service(MESH, 0.05)]))
    assert message in text


def test_what_a_team_added_around_our_entries_is_its_own() -> None:
    resource = virtual_service(MESH, 0.05)
    resource["spec"]["http"][1] |= {"timeout": "30s", "retries": {"attempts": 2}}
    resource["spec"]["http"].insert(
        0, {"match": [{"uri": {"exact": "/health"}}], "route": [{"destination": {"host": "x"}}]}
    )
    assert drift([resource], [virtual_service(MESH, 0.05)]) == []
    assert faults([resource]) == []


def test_a_resource_that_is_not_there_is_drift() -> None:
    (fault,) = drift([virtual_service(MESH, 0.05)], [destination_rule(MESH)])
    assert str(fault).startswith("DestinationRule support: is not in the manifest")


KEYS = (
    ["kind", "metadata", "name", "spec", "http", "route", "match", "matches", "headers", "destination", "host"],
    ["subset", "weight", "rules", "backendRefs", "subsets", "hosts", "labels", "parentRefs"],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.sampled_from(["x-canary", "", "a", "true"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS[0] + KEYS[1]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(JSON, max_size=3), st.sampled_from(["VirtualService", "HTTPRoute", "DestinationRule"]))
def test_no_document_makes_it_fail(documents: list[Any], kind: str) -> None:
    for document in documents:
        if isinstance(document, dict):
            document["kind"] = kind
    for fault in [*faults(documents), *drift(documents, [virtual_service(MESH, 0.1), http_route(ROUTE, 0.1)])]:
        assert fault.where
        assert fault.what
        assert fault.remedy
