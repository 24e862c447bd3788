"""What we render is valid against the schemas that Istio and the Gateway API publish."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentcanary.manifests import Mesh, MeshApi, destination_rule, http_route, virtual_service

MESHES = [
    Mesh(name="support", service="support"),
    Mesh(name="support", service="support", hosts=("a.example.com",), gateways=("public",), port=8080),
    Mesh(name="support", service="support", stable_service="support-stable", canary_service="support-canary"),
]
ROUTES = [
    Mesh(
        api=MeshApi.GATEWAY_API,
        name="support",
        service="support",
        stable_service="support-stable",
        canary_service="support-canary",
        port=8080,
        gateways=gateways,
        hosts=("a.example.com",),
    )
    for gateways in ((), ("public",))
]


def judged(resources: list[dict[str, Any]]) -> list[str]:
    script = Path(__file__).with_name("published_schemas.cjs")
    command = ["node", str(script), os.environ["AGENTCANARY_MESH_SCHEMAS"]]
    done = subprocess.run(command, input=json.dumps(resources), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.needs("mesh schemas")
def test_every_form_at_every_weight_is_valid() -> None:
    resources: list[dict[str, Any]] = []
    for weight in (0.0, 0.005, 0.05, 1.0):
        for mesh in MESHES:
            rule = destination_rule(mesh)
            resources += [virtual_service(mesh, weight), *([] if rule is None else [rule])]
        resources += [http_route(mesh, weight) for mesh in ROUTES]
    assert {line.partition(": ")[2] for line in judged(resources)} == {"valid"}
    assert len(judged(resources)) == len(resources) == 28


@pytest.mark.needs("mesh schemas")
def test_what_is_not_valid_is_found() -> None:
    service, route = virtual_service(MESHES[0], 0.05), http_route(ROUTES[0], 0.05)
    service["spec"]["http"][1]["route"][1]["weight"] = "5"
    route["spec"]["rules"][1]["backendRefs"][1]["weight"] = 1_000_001
    found = judged([service, route])
    assert "weight must be integer" in found[0]
    assert "weight must be <= 1000000" in found[1]
