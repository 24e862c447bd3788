"""Mode mesh: the mesh draws each request, each Deployment is one arm, and the numbers are the rollout's."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentcanary import Canary, current_version
from agentcanary.assignment import Reason, RolloutView, assign, bucket, force, on_stable, place
from agentcanary.config import parse_config
from agentcanary.errors import ConfigError
from agentcanary.middleware import CanaryMiddleware
from agentcanary.state_machine import new_rollout
from agentcanary.transitions import enter
from agentcanary_analysis.aggregates import Arm

YAML = """
agent: support
stable: support-v1
canary: support-v2
controller: false
sticky: false
kubernetes: {mode: mesh}
canary_stages:
  - {name: initial, weight: 0.2, duration_minutes: 30}
  - {name: full, weight: 1.0, duration_minutes: 0}
"""


@given(st.text(min_size=1, max_size=20), st.floats(0, 1), st.sampled_from(Arm), st.booleans(), st.booleans())
def test_every_request_is_of_the_arm_that_the_deployment_is(
    unit: str, weight: float, arm: Arm, opened: bool, fresh: bool
) -> None:
    view = RolloutView(
        agent="support", rollout="r-1", stable="v1", canary="v2", weight=weight, max_weight=weight, open=opened,
        sticky=False, deployed=arm, epoch=3, salt=b"s",
    )  # fmt: skip
    placed = place(view, unit, unit, 10.0, fresh)
    assert placed == assign(view, unit, bucket(view.salt, unit), now=10.0, fresh=fresh)
    assert placed is not None
    assert (placed.arm, placed.version) == (arm, view.version(arm))
    assert (placed.excluded is None) == (opened and fresh)
    for other in (on_stable(view, "", Reason.FALLBACK), force(view, unit, Arm.CANARY, placed.buckets)):
        assert (other.arm, other.version) == (arm, view.version(arm))
        assert other.excluded is not None


async def version(_: Request) -> Response:
    return JSONResponse({"version": current_version()})


@pytest.mark.parametrize("stated", ["", "blue"])
def test_a_deployment_that_does_not_say_which_it_is_does_not_start(
    stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCANARY_ARM", stated)
    with pytest.raises(ConfigError, match=f"kubernetes.mode: mesh needs AGENTCANARY_ARM .* got '{stated}'; set it to"):
        Canary(parse_config(YAML, str(tmp_path / "canary.yaml")))


def test_two_deployments_behind_a_mesh_count_for_their_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(20261123)
    canaries: dict[Arm, Canary] = {}
    for arm in Arm:
        monkeypatch.setenv("AGENTCANARY_ARM", arm.value)
        canaries[arm] = Canary(parse_config(YAML, str(tmp_path / "canary.yaml")), notifiers=[])
    store = canaries[Arm.STABLE].store
    store.open()
    begun = canaries[Arm.STABLE].clock() - 60.0
    plan = canaries[Arm.STABLE].config.plan
    rollout = new_rollout("support", "support-v1", "support-v2", plan, now=begun, new_salt=b"s" * 32)
    rollout = enter(rollout, 0, begun, "test", "", {}).rollout
    store.start(rollout)

    async def run() -> Counter[tuple[Arm, str]]:
        seen: Counter[tuple[Arm, str]] = Counter()
        clients = {}
        for arm, canary in canaries.items():
            app: Any = CanaryMiddleware(Starlette(routes=[Route("/", version)]), canary=canary)
            await app.start()
            clients[arm] = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://mesh")
        for _ in range(200):
            arm = Arm.CANARY if rng.random() < rollout.weight else Arm.STABLE
            answer = await clients[arm].get("/")
            seen[arm, answer.json()["version"]] += 1
        # A tester's request, which the mesh sent to the canary by its header.
        await clients[Arm.CANARY].get("/", headers={"x-canary": "true"})
        for canary in canaries.values():
            assert canary.recorder.flush_and_wait(10.0)
            await canary.stop()
        return seen

    seen = asyncio.run(run())
    assert set(seen) == {(Arm.STABLE, "support-v1"), (Arm.CANARY, "support-v2")}
    connection = sqlite3.connect(canaries[Arm.STABLE].config.store.removeprefix("sqlite:///"))
    query = "SELECT arm, count(*), sum(excluded IS NOT NULL) FROM conversations WHERE rollout = ? GROUP BY arm"
    rows = connection.execute(query, (rollout.id,)).fetchall()
    connection.close()
    counted = {Arm(arm): (requests - excluded, excluded) for arm, requests, excluded in rows}
    assert counted == {
        Arm.STABLE: (seen[Arm.STABLE, "support-v1"], 0),
        Arm.CANARY: (seen[Arm.CANARY, "support-v2"], 1),
    }
