from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentcanary.canary import Canary
from agentcanary.clock import Clock
from agentcanary.config import load_config
from agentcanary.context import current_version
from agentcanary.effects.events import Notification
from agentcanary.effects.notifications import Notifier
from agentcanary.middleware import CanaryMiddleware
from agentcanary.testing import FrozenClock, RecordingNotifier, arm_fixture, forced_arm
from agentcanary_analysis.aggregates import Arm

NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"


def canary_of(folder: Path, text: str = NAMES) -> Canary:
    file = folder / "canary.yaml"
    file.write_text(text)
    return Canary(load_config(file), clock=FrozenClock())


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    made = canary_of(tmp_path)
    yield made
    made.stop_blocking()


async def say_version(_: Request) -> PlainTextResponse:
    return PlainTextResponse(current_version())


def client_of(canary: Canary) -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/", say_version)])
    app.add_middleware(CanaryMiddleware, canary=canary)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent")


async def version_for(client: httpx.AsyncClient, conversation: str) -> str:
    return (await client.get("/", headers={"x-conversation-id": conversation})).text


def told(event: str) -> Notification:
    return Notification(
        id=event,
        event=event,
        at=0.0,
        agent="support",
        rollout="support-1",
        stable="v1",
        canary="v2",
        phase="progressing",
        stage="initial",
        weight=0.05,
        message=event,
    )


def test_a_frozen_clock_stands_until_it_is_moved() -> None:
    clock: Clock = FrozenClock(now=100.0, speed=60.0)
    assert (clock(), clock(), clock.speed) == (100.0, 100.0, 60.0)
    frozen = FrozenClock(now=100.0)
    assert frozen.advance(30) == 130.0
    assert frozen() == 130.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_frozen_clock_never_goes_back(seconds: float) -> None:
    clock = FrozenClock(now=100.0)
    with pytest.raises(ValueError, match=f"goes forward only, got {seconds}"):
        clock.advance(seconds)
    assert clock() == 100.0


def test_a_frozen_clock_refuses_a_speed_that_is_none() -> None:
    with pytest.raises(ValueError, match="speed must be positive, got 0"):
        FrozenClock(speed=0)


def test_a_recording_notifier_remembers_what_was_delivered_in_order() -> None:
    notifier = RecordingNotifier(failures=1)
    notify: Notifier = notifier
    with pytest.raises(ConnectionError):
        notify(told("started"))
    notify(told("started"))
    notify(told("promoted"))
    assert notifier.events == ["started", "promoted"]
    assert notifier.told[1].message == "promoted"


@pytest.mark.parametrize(("arm", "version"), [("canary", "support-v2"), (Arm.STABLE, "support-v1")])
async def test_a_forced_arm_serves_every_request(canary: Canary, arm: Arm | str, version: str) -> None:
    async with client_of(canary) as client:
        assert await version_for(client, "before") == "support-v1"
        with forced_arm(canary, arm) as view:
            assert {await version_for(client, f"c{n}") for n in range(20)} == {version}
            assert view.version(Arm(arm)) == version
        assert await version_for(client, "after") == "support-v1"


def test_a_forced_arm_counts_for_no_rollout(canary: Canary) -> None:
    canary.start_blocking()
    with forced_arm(canary, "canary"), canary.conversation("c1") as turn:
        assert turn.version == "support-v2"
    canary.recorder.flush_and_wait(5.0)
    known = canary.store.conversation("support", "c1")
    assert known is not None
    assert [(part.rollout, part.version, part.excluded) for part in known.parts] == [("", "support-v2", "no_rollout")]


async def test_an_arm_is_forced_before_the_application_starts(canary: Canary) -> None:
    async with client_of(canary) as client:
        with forced_arm(canary, "canary"):
            assert await version_for(client, "c1") == "support-v2"
    assert canary.view()[0].version(Arm.CANARY) == "support-v1"


def test_a_forced_arm_ends_when_the_test_fails(canary: Canary) -> None:
    with pytest.raises(ZeroDivisionError), forced_arm(canary, "canary"):
        raise ZeroDivisionError
    assert canary.view()[0].canary == "support-v1"


def test_an_unknown_arm_and_a_missing_canary_are_refused(tmp_path: Path, canary: Canary) -> None:
    with pytest.raises(ValueError, match="arm is 'stable' or 'canary', got 'blue'"), forced_arm(canary, "blue"):
        pass
    alone = canary_of(tmp_path, "agent: support\nstable: support-v1\n")
    with pytest.raises(ValueError, match="'support' has no canary version"), forced_arm(alone, "canary"):
        pass


_holder: list[Canary] = []
arm = arm_fixture(lambda: _holder[-1])


@pytest.fixture(autouse=True)
def _hold(canary: Canary) -> None:
    _holder.append(canary)


def test_the_arm_fixture_runs_a_test_with_each_arm(arm: Arm, canary: Canary) -> None:
    canary.start_blocking()
    with canary.conversation("c1") as turn:
        assert turn.version == {Arm.STABLE: "support-v1", Arm.CANARY: "support-v2"}[arm]
