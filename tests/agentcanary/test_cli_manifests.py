"""``agentcanary manifests`` as its users call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentcanary.cli import app
from agentcanary.config import load_config
from agentcanary.state_machine import new_rollout
from agentcanary.store import Store
from agentcanary.transitions import enter

NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"

# The manifest of the article that the project grew from, with the indentation that its page lost put back.
ARTICLE = """apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: ai-agent
spec:
  hosts:
  - ai-agent.internal
  http:
  - route:
    - destination: {host: ai-agent-stable, port: {number: 8080}}
      weight: 95
    - destination: {host: ai-agent-canary, port: {number: 8080}}
      weight: 5
    match:
    - headers: {x-canary: {exact: "true"}}
    route:
    - destination: {host: ai-agent-canary}
      weight: 100
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.yaml").write_text(NAMES)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["manifests", *arguments])


def rendered(*arguments: str) -> list[dict[str, Any]]:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_istio_at_a_weight(folder: Path) -> None:
    service, rule = rendered("istio", "canary.yaml", "--weight", "0.05")
    header, split = service["spec"]["http"]
    assert header["match"] == [{"headers": {"x-canary": {"exact": "true"}}}]
    assert [(route["destination"]["subset"], route["weight"]) for route in split["route"]] == [
        ("stable", 95),
        ("canary", 5),
    ]
    assert rule["kind"] == "DestinationRule"


def test_separate_services_as_in_the_article(folder: Path) -> None:
    (service,) = rendered("istio", "--services", "--weight", "0.05")
    assert [route["destination"]["host"] for route in service["spec"]["http"][1]["route"]] == [
        "support-stable",
        "support-canary",
    ]


def test_gateway_api_at_half_a_percent(folder: Path) -> None:
    (route,) = rendered("gateway-api", "--weight", "0.005")
    assert [(ref["name"], ref["weight"]) for ref in route["spec"]["rules"][1]["backendRefs"]] == [
        ("support-stable", 995),
        ("support-canary", 5),
    ]


def test_the_weight_of_the_rollout_that_runs(folder: Path) -> None:
    config = load_config(folder / "canary.yaml")
    store = Store(config.store)
    store.open()
    rollout = new_rollout("support", "support-v1", "support-v2", config.plan, now=0.0, new_salt=b"s" * 16)
    store.start(enter(rollout, 1, 0.0, "test", "", {}).rollout)
    store.close()
    (service, _) = rendered("istio")
    stable, canary = (route["weight"] for route in service["spec"]["http"][1]["route"])
    assert canary / (stable + canary) == config.plan.stages[1].weight


def test_without_a_rollout_it_is_weight_0_and_says_so(folder: Path) -> None:
    done = run("istio")
    assert done.exit_code == 0
    assert "so this is weight 0" in done.stderr
    assert yaml.safe_load(done.stdout.split("---")[0])["spec"]["http"][1]["route"][1]["weight"] == 0


def test_in_mode_process_our_hash_decides_and_the_mesh_splits_nothing(folder: Path) -> None:
    (folder / "canary.yaml").write_text(NAMES + "kubernetes: {namespace: agents}\n")
    done = run("istio")
    assert "Mode process: our hash decides" in done.stderr
    service = yaml.safe_load(done.stdout.split("---")[0])
    assert [route["weight"] for route in service["spec"]["http"][1]["route"]] == [100, 0]
    assert service["metadata"]["namespace"] == "agents"


def test_what_was_rendered_passes_its_own_check(folder: Path) -> None:
    for api in ("istio", "gateway-api"):
        (folder / "m.yaml").write_text(run(api, "--weight", "0.15").stdout)
        done = run(api, "--weight", "0.15", "--check", "m.yaml")
        assert (done.exit_code, done.stdout) == (0, "m.yaml: no fault, and as it should be.\n")
        drifted = run(api, "--weight", "0.5", "--check", "m.yaml")
        assert drifted.exit_code == 1
        assert "has the weights 85, 15; they should be 50, 50" in drifted.stdout


def test_the_articles_manifest_is_found_to_lose_everybody(folder: Path) -> None:
    (folder / "article.yaml").write_text(ARTICLE)
    done = run("istio", "--weight", "0.05", "--check", "article.yaml", "--json")
    assert done.exit_code == 1
    found = [f"{fault['where']} {fault['what']}" for fault in json.loads(done.stdout)["faults"]]
    twice, header, nobody = found
    assert twice == "line 16 has the key 'route' a second time: the first one is lost"
    assert header == (
        "VirtualService ai-agent: spec.http[0] matches x-canary and holds the weighted route at once: requests without "
        "the header match nothing (404), and those with it are still split"
    )
    assert (
        nobody == "VirtualService ai-agent: spec.http has no entry without match: a request that matches none gets 404"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("istio", "--weight", "5"), 2, "--weight is a share in 0..1, got 5 (write 0.05, not 5)"),
        (("linkerd",), 2, "linkerd"),
        (("istio", "none.yaml"), 2, "none.yaml: there is no such file"),
        (("istio", "canary.yaml", "-c", "canary.yaml"), 2, "name one file"),
        (("istio", "--check", "none.yaml"), 1, "none.yaml cannot be read: No such file or directory"),
        (("istio", "--check", "bad.yaml"), 1, "is no YAML"),
    ],
)
def test_each_mistake_is_named(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    (folder / "bad.yaml").write_text("a: [1, 2\nb: }")
    done = run(*arguments)
    assert done.exit_code == code
    assert message in " ".join((done.stdout + done.stderr).replace("│", " ").split())
