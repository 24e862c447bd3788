"""A mounted canary, whole: middleware, pins, recorder, store, controller, in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from agentcanary import Canary, CanaryMiddleware, StoreError, current, current_version
from agentcanary.config import parse_config
from agentcanary.rollout import Phase
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary_analysis.aggregates import Arm

YAML = """
agent: support
stable: support-v1
canary: support-v2
look_every: 1s
canary_stages:
  - {name: half, weight: 0.5, duration_minutes: 30, min_requests: 50, checks: ["safety_violations == 0"]}
  - {name: full, weight: 1.0, duration_minutes: 0}
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Canary]:
    def make(text: str = YAML) -> Canary:
        return Canary(parse_config(text, filename=str(tmp_path / "canary.yaml")), notifiers=[])

    return make


@pytest.fixture
async def canary(make: Callable[..., Canary]) -> AsyncIterator[Canary]:
    made = make()
    await made.start()
    await until(lambda: handed_over(made), 20.0)
    yield made
    await made.stop()


def handed_over(canary: Canary) -> bool:
    """New conversations are split: the rollout runs, and the hand-over of its first weight is behind."""
    view = canary.view()[0]
    return view.open and canary.clock() >= view.handover_until


def application(canary: Canary) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CanaryMiddleware, canary=canary)

    @app.post("/chat")
    async def chat(body: dict[str, str], version: str = Depends(current_version)) -> dict[str, str]:
        assignment = current()
        assert assignment is not None
        if body.get("message") == "fail":
            raise RuntimeError("the model is away")
        if body.get("message") == "harm":
            canary.record(assignment.unit, "safety_violation", 1, label="self_harm")
        return {"version": version, "arm": assignment.arm.value}

    return app


def client(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://agent")


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """Wait for something; how long it took in seconds."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen"
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def chat(http: httpx.AsyncClient, conversation: str, message: str = "hello") -> dict[str, str]:
    response = await http.post("/chat", json={"conversation_id": conversation, "message": message})
    answer: dict[str, str] = response.json() if response.status_code == 200 else {}
    return answer


async def on_the_canary(http: httpx.AsyncClient) -> str:
    """A conversation that the canary serves."""
    for number in range(200):
        if (await chat(http, f"looking-{number}")).get("arm") == "canary":
            return f"looking-{number}"
    raise AssertionError("no conversation of 200 was given to the canary")


async def test_turns_and_outcomes_reach_the_store(canary: Canary) -> None:
    async with client(application(canary)) as http:
        answers = [await chat(http, f"c-{number}") for number in range(60)]
        await chat(http, "c-0", "fail")
    assert {answer["version"] for answer in answers} == {"support-v1", "support-v2"}
    canary.record("c-1", "task_completion", 1)
    await canary.arecord("c-1", "satisfaction", 4.5, id="rating-1")
    rollout = canary.store.current("support")
    assert rollout is not None

    def assigned() -> dict[Arm, int]:
        counts = canary.store.aggregates(rollout).assigned
        return {arm: sum(units for (_, of), units in counts.items() if of is arm) for arm in Arm}

    await until(lambda: sum(assigned().values()) == 60)
    assert assigned() == {arm: sum(answer["arm"] == arm.value for answer in answers) for arm in Arm}
    known = canary.store.conversation("support", "c-1")
    assert known is not None
    assert {(outcome.name, outcome.value) for outcome in known.outcomes} == {
        ("task_completion", 1.0),
        ("satisfaction", 4.5),
    }
    failed = canary.store.conversation("support", "c-0")
    assert failed is not None
    assert (failed.parts[-1].turns, failed.parts[-1].errors) == (2, 1)


async def test_a_safety_violation_stops_this_worker_before_record_returns(canary: Canary) -> None:
    async with client(application(canary)) as http:
        victim = await on_the_canary(http)
        await chat(http, victim, "harm")
        assert not canary.view()[0].open
        after = [await chat(http, f"after-{number}") for number in range(50)]
        assert {answer["version"] for answer in after} == {"support-v1"}
        assert (await chat(http, victim))["version"] == "support-v1"

    def rolled_back() -> bool:
        rollout = canary.store.current("support")
        return rollout is not None and rollout.phase is Phase.ROLLED_BACK and rollout.cause == "safety"

    await until(rolled_back)


async def test_a_safety_violation_of_stable_stops_nothing(canary: Canary) -> None:
    async with client(application(canary)) as http:
        answers = {f"c-{number}": await chat(http, f"c-{number}") for number in range(40)}
    of_stable = next(unit for unit, answer in answers.items() if answer["arm"] == "stable")
    await canary.arecord(of_stable, "safety_violation", 1)
    rollout = canary.store.current("support")
    assert rollout is not None
    assert (canary.view()[0].open, rollout.stopped_at) == (True, None)
    assert canary.store.aggregates(rollout).safety.stable == 1


async def test_another_worker_sees_a_rollback_within_a_second(canary: Canary, make: Callable[..., Canary]) -> None:
    other: SnapshotKeeper = make().snapshots
    other.start()
    await until(lambda: other.view.open)
    rollout = canary.store.current("support")
    assert rollout is not None
    action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="a test")
    canary.store.save(
        advance(rollout, action, now=canary.clock()), expected_revision=rollout.revision, now=canary.clock()
    )
    assert await until(lambda: not other.view.open) < 1.0
    assert await until(lambda: not canary.view()[0].open) < 1.0
    other.stop()


async def test_a_conversation_without_http_is_assigned_timed_and_recorded(canary: Canary) -> None:
    async with client(application(canary)) as http:
        served = await chat(http, "call-1")
    with canary.conversation("call-1") as turn:
        assert turn.version == served["version"] == current_version()
    with pytest.raises(ValueError, match="no tone"):
        async with canary.conversation("call-1"):
            raise ValueError("no tone")
    with pytest.raises(RuntimeError, match="has not begun"):
        _ = canary.conversation("call-1").version
    assert current() is None
    assert canary.recorder.flush_and_wait(5.0)
    known = canary.store.conversation("support", "call-1")
    assert known is not None
    assert (known.parts[-1].turns, known.parts[-1].errors) == (3, 1)


async def test_with_a_broken_store_every_request_is_served_on_stable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    text = YAML + f"store: sqlite:///{tmp_path / 'file' / 'store.sqlite3'}\n"
    canary = Canary(parse_config(text, filename=str(tmp_path / "canary.yaml")), notifiers=[])
    await canary.start()
    try:
        async with client(application(canary)) as http:
            answers = [await chat(http, f"c-{number}") for number in range(20)]
        assert {answer["version"] for answer in answers} == {"support-v1"}
        await until(lambda: canary.degraded.totals.get("snapshot", 0) > 0)
        with pytest.raises(StoreError, match="has not taken task_completion"):
            await asyncio.wait_for(canary.arecord("c-1", "task_completion", 1), 20)
    finally:
        await canary.stop()


async def test_disabled_it_serves_stable_and_touches_no_store(
    make: Callable[..., Canary], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTCANARY_DISABLED", "1")
    canary = make()
    app = FastAPI()
    app.add_middleware(CanaryMiddleware, canary=canary)

    @app.get("/version")
    async def version() -> str:
        return current_version()

    await canary.start()
    async with client(app) as http:
        assert (await http.get("/version")).json() == "support-v1"
    canary.record("c-1", "task_completion", 1)
    await canary.arecord("c-1", "task_completion", 1)
    await canary.stop()
    assert list(tmp_path.rglob("*.sqlite3")) == []


async def test_bad_outcomes_are_refused_by_name_and_value(canary: Canary) -> None:
    with pytest.raises(ValueError, match="value of satisfaction must be a finite number or None for missing, got nan"):
        canary.record("c-1", "satisfaction", float("nan"))
    with pytest.raises(
        ValueError, match="value of satisfaction must be a finite number or None for missing, got 'yes'"
    ):
        canary.record("c-1", "satisfaction", "yes")  # type: ignore[arg-type]  # what a caller without types does
    with pytest.raises(ValueError, match="needs a name and a conversation id"):
        canary.record("", "satisfaction", 1)


async def test_it_starts_again_after_it_was_stopped(canary: Canary) -> None:
    await canary.stop()
    await canary.start()
    async with client(application(canary)) as http:
        assert (await chat(http, "c-1"))["version"]
    assert canary.recorder.flush_and_wait(5.0)
