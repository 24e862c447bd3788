"""kill -9 of the controller at every step: persist → weight → verify → done → notify. Another one goes on there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcanary.controller import LEASE, Controller
from agentcanary.effects.events import Notification
from agentcanary.rollout import Phase
from agentcanary.store import Store
from agentcanary.testing import FrozenClock, RecordingNotifier
from tests.faults.world import PLAN, legal, rollout_under_way

NOW = 1_750_000_000.0


def die() -> None:
    """As the kernel ends a process: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Store):
    """A store whose user is killed before or after one of its steps."""

    def __init__(self, url: str, when: str, step: str) -> None:
        super().__init__(url)
        self._when, self._step = when, step

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name != super().__getattribute__("_step"):
            return found
        when = super().__getattribute__("_when")

        def step(*arguments: Any, **named: Any) -> Any:
            if when == "before":
                die()
            result = found(*arguments, **named)
            die()
            return result

        return step


def controller(store: Store, clock: FrozenClock, owner: str, notify: Callable[[Notification], None]) -> Controller:
    return Controller(
        store,
        agent="support",
        stable="v1",
        canary="v2",
        plan=PLAN,
        clock=clock,
        owner=owner,
        notify=notify,  # type: ignore[arg-type] # its argument has another name
    )


STEPS = [
    ("before", "acquire"),
    ("after", "acquire"),
    ("before", "count"),
    ("after", "count"),
    ("before", "save"),  # persist
    ("after", "save"),
    ("before", "due"),  # weight and verify: what a worker or a mesh has by now follows from what is stored
    ("after", "due"),
    ("before", "notify"),
    ("after", "notify"),
    ("before", "done"),
    ("after", "done"),
]


@pytest.mark.parametrize(("when", "step"), STEPS, ids=[f"{when} {step}" for when, step in STEPS])
def test_whoever_takes_over_finishes_what_the_killed_controller_began(
    url: str, tmp_path: Path, when: str, step: str
) -> None:
    clock = FrozenClock(NOW)
    setup = Store(url)
    rollout = rollout_under_way(NOW)
    setup.start(rollout)
    # The worker that recorded a violation stopped the rollout; the next look makes it a rollback.
    with setup._database.write() as connection:
        connection.exec_driver_sql(f"UPDATE rollouts SET stopped_at = {NOW}, stop_reason = 'unsafe', revision = 1")
    setup.close()
    letters = tmp_path / "letters"

    child = os.fork()
    if child == 0:
        try:

            def notify(told: Notification) -> None:
                if step == "notify" and when == "before":
                    die()
                with letters.open("a") as file:
                    file.write(f"{told.id} {told.event}\n")
                if step == "notify":
                    die()

            controller(Mortal(url, when, step), clock, "killed", notify).tick()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was to be killed at that step"

    store, heir = Store(url), RecordingNotifier()
    try:
        other = controller(store, clock, "heir", heir)
        if other.tick() is None and (when, step) != ("before", "acquire"):
            clock.advance(LEASE + 1.0)
        for _ in range(3):
            other.tick()
            clock.advance(60.0)
        ended = legal(store)
        assert (ended.phase, ended.cause) == (Phase.ROLLED_BACK, "safety")
        assert [entry.action for entry in store.audit(ended.id)][:1] == ["rollback"]
        assert store.undone(ended.id) == []
        sent = [line.split() for line in letters.read_text().splitlines()] if letters.exists() else []
        stops = [name for name, event in sent if event == "safety_stop"]
        stops += [told.id for told in heir.told if told.event == "safety_stop"]
        # Told at least once; a second time only where the kill came between sending and noting it, under one id.
        assert len(set(stops)) == 1
        assert len(stops) <= (2 if (when, step) in {("after", "notify"), ("before", "done")} else 1)
    finally:
        store.close()
