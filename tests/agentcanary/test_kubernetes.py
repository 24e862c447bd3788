"""Weights of a cluster, against a small API server: JSON Patch, resource versions, conflicts, read-back; and kubectl.

No live mesh is used: what Istio or a Gateway does with the resources is not tested here.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import Configuration

from agentcanary.effects.delivery import deliver
from agentcanary.effects.kubernetes import MeshWeights
from agentcanary.errors import ManifestError
from agentcanary.manifests import Mesh, MeshApi, MeshMode, http_route, virtual_service
from agentcanary.manifests.patching import weight_patch, weights_in
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Effect, EffectKind
from agentcanary.state_machine import new_rollout
from agentcanary.store import Pending
from agentcanary_analysis.aggregates import Epoch

ISTIO = Mesh(name="support", namespace="agents", service="support", mode=MeshMode.MESH, patch=True)
GATEWAY = Mesh(
    api=MeshApi.GATEWAY_API,
    name="support",
    namespace="agents",
    service="support",
    stable_service="support-stable",
    canary_service="support-canary",
    port=80,
    mode=MeshMode.MESH,
    patch=True,
)


class ApiServer:
    """As much of an API server as one resource needs."""

    def __init__(self, resource: dict[str, Any], plural: str) -> None:
        self.resource = copy.deepcopy(resource)
        self.resource["metadata"]["resourceVersion"] = "1"
        self.patches: list[list[dict[str, Any]]] = []
        self.status: int | None = None
        self.before_patch: Callable[[], None] = lambda: None
        api = resource["apiVersion"]
        path = f"/apis/{api}/namespaces/agents/{plural}/support"
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if server.status is not None:
                    self._answer(server.status, {"kind": "Status", "code": server.status})
                elif self.path.partition("?")[0] == path:
                    self._answer(200, server.resource)
                elif self.path.startswith(f"/apis/{api}"):
                    resources = [
                        {"name": plural, "kind": resource["kind"], "namespaced": True, "verbs": ["get", "patch"]}
                    ]
                    listed = {
                        "kind": "APIResourceList",
                        "apiVersion": "v1",
                        "groupVersion": api,
                        "resources": resources,
                    }
                    self._answer(200, listed)
                elif self.path.startswith("/apis"):
                    group, _, version = api.partition("/")
                    found = {"groupVersion": api, "version": version}
                    groups = [{"name": group, "versions": [found], "preferredVersion": found}]
                    self._answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
                elif self.path.startswith("/api"):
                    self._answer(200, {"kind": "APIVersions", "versions": ["v1"]})
                else:
                    self._answer(404, {"kind": "Status", "code": 404, "reason": "NotFound"})

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.before_patch()
                if self.headers["content-type"] != "application/json-patch+json":
                    self._answer(415, {"kind": "Status", "code": 415, "reason": "UnsupportedMediaType"})
                    return
                server.patches.append(body)
                try:
                    changed = applied(server.resource, body)
                except ValueError as error:
                    self._answer(422, {"kind": "Status", "code": 422, "message": str(error)})
                    return
                changed["metadata"]["resourceVersion"] = str(int(changed["metadata"]["resourceVersion"]) + 1)
                server.resource = changed
                self._answer(200, changed)

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.configuration = Configuration(host=self.url)


def applied(resource: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902's ``test`` and ``add``."""
    changed = copy.deepcopy(resource)
    for operation in operations:
        *way, last = operation["path"].strip("/").split("/")
        inner: Any = changed
        for key in way:
            inner = inner[int(key)] if isinstance(inner, list) else inner[key]
        if operation["op"] == "test":
            if inner[last] != operation["value"]:
                raise ValueError(f"testing value {operation['path']} failed")
        elif operation["op"] == "add":
            inner[last] = operation["value"]
        else:
            raise ValueError(f"not used by us: {operation['op']}")
    return changed


@pytest.fixture(params=["istio", "gateway-api"])
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[Mesh, ApiServer]]:
    if request.param == "istio":
        mesh, server = ISTIO, ApiServer(virtual_service(ISTIO, 0.0), "virtualservices")
    else:
        mesh, server = GATEWAY, ApiServer(http_route(GATEWAY, 0.0), "httproutes")
    yield mesh, server
    server.server.shutdown()
    server.server.server_close()


def test_a_ramp_and_a_rollback_are_set_and_read_back(cluster: tuple[Mesh, ApiServer]) -> None:
    mesh, server = cluster
    set_weight = MeshWeights(mesh, configuration=server.configuration)
    for weight, expected in [(0.05, (95, 5)), (0.005, (995, 5)), (1.0, (0, 100)), (0.0, (100, 0))]:
        set_weight(weight)
        assert weights_in(server.resource, mesh) == expected
    set_weight(0.0)
    assert len(server.patches) == 4, "what is right already is not patched"


def test_nothing_but_our_two_weights_is_touched(cluster: tuple[Mesh, ApiServer]) -> None:
    mesh, server = cluster
    listed = server.resource["spec"]["http" if mesh.api is MeshApi.ISTIO else "rules"]
    listed.insert(0, {"name": "of the team", "timeout": "3s"})
    before = copy.deepcopy(server.resource)
    MeshWeights(mesh, configuration=server.configuration)(0.05)
    after = copy.deepcopy(server.resource)
    for resource in (before, after):
        del resource["metadata"]["resourceVersion"]
        key = "route" if mesh.api is MeshApi.ISTIO else "backendRefs"
        for route in resource["spec"]["http" if mesh.api is MeshApi.ISTIO else "rules"][2][key]:
            del route["weight"]
    assert before == after


def test_a_resource_that_changes_meanwhile_is_read_again(cluster: tuple[Mesh, ApiServer]) -> None:
    mesh, server = cluster
    others = iter([True, True, False])

    def somebody_else() -> None:
        if next(others):
            server.resource["metadata"]["resourceVersion"] += "0"
            entries = server.resource["spec"]["http" if mesh.api is MeshApi.ISTIO else "rules"]
            entries.insert(0, {"name": "new"})

    server.before_patch = somebody_else
    MeshWeights(mesh, configuration=server.configuration)(0.05)
    assert len(server.patches) == 3
    assert weights_in(server.resource, mesh) == (95, 5)


def test_somebody_who_sets_the_weights_back_each_time_is_reported(cluster: tuple[Mesh, ApiServer]) -> None:
    mesh, server = cluster

    def argocd() -> None:
        server.resource["metadata"]["resourceVersion"] += "0"

    server.before_patch = argocd
    with pytest.raises(ManifestError, match="somebody else sets its weights"):
        MeshWeights(mesh, configuration=server.configuration)(0.05)


@pytest.mark.parametrize(("status", "message"), [(403, "answered 403"), (404, "answered 404"), (500, "answered 500")])
def test_a_refusal_is_named(cluster: tuple[Mesh, ApiServer], status: int, message: str) -> None:
    mesh, server = cluster
    server.status = status
    with pytest.raises(ManifestError, match=f"agents/support: the API server {message}"):
        MeshWeights(mesh, configuration=server.configuration)(0.05)


def test_an_api_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ManifestError, match="agents/support: the API server does not answer"):
        MeshWeights(ISTIO, configuration=Configuration(host="http://127.0.0.1:1"))(0.05)


def test_without_a_cluster_there_is_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ManifestError, match="no cluster is configured, by a Pod's account or a kubeconfig"):
        MeshWeights(ISTIO)(0.05)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcanary.effects.kubernetes.find_spec", lambda _: None)
    with pytest.raises(ManifestError, match=r"pip install 'agentcanary\[kubernetes\]'"):
        MeshWeights(ISTIO)


def test_a_resource_without_our_entry_is_left_alone() -> None:
    resource = virtual_service(ISTIO, 0.05)
    resource["spec"]["http"][1]["name"] = "theirs"
    with pytest.raises(ManifestError, match=r"has no entry named 'agentcanary-split' under spec\.http"):
        weight_patch(resource, ISTIO, 0.1)
    resource = virtual_service(ISTIO, 0.05)
    resource["spec"]["http"][1]["route"].append({"destination": {"host": "third"}, "weight": 1})
    with pytest.raises(ManifestError, match="does not split between the two destinations"):
        weight_patch(resource, ISTIO, 0.1)


class Waiting:
    """An outbox in memory."""

    def __init__(self, now: float, *weights: float) -> None:
        plan = Plan(stages=(Stage(name="full", weight=1.0, duration=0.0),))
        made = new_rollout("support", "v1", "v2", plan, now=0.0, new_salt=b"s" * 16)
        self.rollout = replace(made, epochs=(Epoch(number=0, weight=now, stage=0),))
        self.waiting = [
            Pending(
                id=str(number),
                agent="support",
                rollout=self.rollout.id,
                effect=Effect(kind=EffectKind.WEIGHT, event="weight", message="", weight=weight),
                created_at=float(number),
                attempts=0,
                error="",
            )
            for number, weight in enumerate(weights)
        ]
        self.errors: dict[str, str] = {}

    def due(self, now: float, agent: str | None = None) -> list[Pending]:
        return list(self.waiting)

    def done(self, effect_id: str, now: float) -> None:
        self.waiting = [pending for pending in self.waiting if pending.id != effect_id]

    def failed(self, effect_id: str, error: str, next_attempt: float) -> None:
        self.errors[effect_id] = error

    def rollouts(self, agent: str | None = None) -> list[Any]:
        return [self.rollout]


def test_a_weight_that_failed_is_tried_again_and_never_sets_what_does_not_hold_any_more() -> None:
    outbox, set_to = Waiting(0.0, 0.05, 0.0), []

    def set_weight(weight: float) -> None:
        set_to.append(weight)
        if len(set_to) == 1:
            raise ManifestError("the API server does not answer")

    deliver(outbox, lambda _: None, agent="support", now=1.0, set_weight=set_weight)
    assert [pending.effect.weight for pending in outbox.waiting] == [0.05]
    assert outbox.errors == {"0": "the API server does not answer"}
    deliver(outbox, lambda _: None, agent="support", now=9.0, set_weight=set_weight)
    assert outbox.waiting == []
    assert set_to == [0.0, 0.0, 0.0], "the canary was taken back meanwhile"


@pytest.mark.needs("kubectl")
def test_kubectl_reads_what_we_render_and_sees_what_we_patched(cluster: tuple[Mesh, ApiServer], tmp_path: Path) -> None:
    mesh, server = cluster
    kubectl = str(shutil.which("kubectl"))
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    kind = "virtualservices" if mesh.api is MeshApi.ISTIO else "httproutes"

    def get() -> dict[str, Any]:
        command = [kubectl, f"--server={server.url}", "-n", "agents", "get", kind, "support", "-o", "json"]
        shown = subprocess.run(command, env=home, capture_output=True, text=True, timeout=30, check=False)
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    rendered = virtual_service(mesh, 0.0) if mesh.api is MeshApi.ISTIO else http_route(mesh, 0.0)
    assert get()["spec"] == yaml.safe_load(yaml.safe_dump(rendered))["spec"]
    MeshWeights(mesh, configuration=server.configuration)(0.05)
    assert weights_in(get(), mesh) == (95, 5)
