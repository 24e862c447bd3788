"""An agent under traffic while something breaks, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from fastapi import FastAPI
from sqlalchemy import func, select

from agentcanary import Canary, CanaryMiddleware, current, current_version
from agentcanary.clock import Clock
from agentcanary.config import parse_config
from agentcanary.effects.notifications import Notifier
from agentcanary.errors import ConflictError
from agentcanary.plan import Pinned, Plan, Stage
from agentcanary.rollout import Phase, Rollout, view_of
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.store import Store
from agentcanary.store.schema import audit, conversations, outcomes
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.metrics import BUILT_IN

YAML = """
agent: support
stable: v1
canary: v2
store: {store}
look_every: {look_every}
stale_after: {stale_after}
conversation: {{id_from: [{{header: x-conversation-id}}]}}
"""
PLAN = Plan(
    stages=(Stage(name="half", weight=0.5, duration=3600.0), Stage(name="full", weight=1.0, duration=0.0)),
    metrics=BUILT_IN,
    pinned={"safety": Pinned.SWITCH, "harm": Pinned.SWITCH, "manual": Pinned.SWITCH},
)
_numbers = itertools.count(1)


def rollout_under_way(now: float, *, began: float = 600.0) -> Rollout:
    """Half of the traffic, past its hand-over."""
    return Rollout(
        id=f"r-{next(_numbers)}",
        agent="support",
        stable="v1",
        canary="v2",
        plan=PLAN,
        salt=b"a salt of sixteen",
        phase=Phase.PROGRESSING,
        created_at=now - began,
        stage_started_at=now - began,
        weight_changed_at=now - began,
        epochs=(Epoch(number=0, weight=0.5, stage=0),),
    )


class World:
    """An agent in this process, with what it was asked and what it answered.

    Args:
        url: Of an empty store.
        folder: For its configuration and its journals.
        start: False leaves the store without a rollout.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        look_every: str = "1s",
        stale_after: str = "10s",
        clock: Clock | None = None,
        notifiers: list[Notifier] | None = None,
        start: bool = True,
    ) -> None:
        text = YAML.format(store=url, look_every=look_every, stale_after=stale_after)
        config = parse_config(text, filename=str(folder / "canary.yaml"))
        self.canary = Canary(config, clock=clock, notifiers=notifiers or [])
        self.url = url
        self.asked: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.served: dict[str, list[str]] = {}
        self.slowest = 0.0
        self._start = start
        self._app = FastAPI()
        self._app.add_middleware(CanaryMiddleware, canary=self.canary)
        self._app.post("/chat")(self._chat)
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self._app), base_url="http://agent")

    async def __aenter__(self) -> Self:
        if self._start:
            await asyncio.to_thread(self._start_rollout)
        await self.canary.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        await self.canary.stop()

    def _start_rollout(self) -> None:
        store = self.store()
        store.start(rollout_under_way(self.canary.clock()))
        store.close()

    def store(self) -> Store:
        """The store as somebody else sees it."""
        return Store(self.url)

    async def turn(self, unit: str) -> str:
        """One turn: the version that answered."""
        began = time.perf_counter()
        response = await self._http.post("/chat", headers={"x-conversation-id": unit})
        self.slowest = max(self.slowest, time.perf_counter() - began)
        assert response.status_code == 200, response.text
        answer = response.json()
        self.asked[unit] += 1
        self.acknowledged.add(answer["outcome"])
        self.served.setdefault(unit, []).append(answer["version"])
        return str(answer["version"])

    async def talk(self, seconds: float, prefix: str = "c", pause: float = 0.01) -> None:
        """Traffic: each turn is of a new conversation or of one of the last ones."""
        until = time.monotonic() + seconds
        for number in itertools.count():
            if time.monotonic() > until:
                return
            await self.turn(f"{prefix}-{number - number % 3}")
            await asyncio.sleep(pause)

    async def stored(self, seconds: float = 20.0) -> None:
        """Wait until everything is in the store."""
        began = time.monotonic()
        while not await asyncio.to_thread(self.canary.recorder.flush_and_wait, 1.0):
            assert time.monotonic() - began < seconds, self.canary.recorder.counters

    async def until(self, condition: str, seconds: float = 10.0) -> None:
        """Wait until the view of this process is ``open``, ``closed``, ``fresh`` or ``stale``."""
        began = time.monotonic()
        while not self._is(condition):
            assert time.monotonic() - began < seconds, f"it is not {condition}"
            await asyncio.sleep(0.01)

    async def look(self) -> None:
        """A look now, whatever the controller's own thread does."""
        for _ in range(20):
            with contextlib.suppress(ConflictError):
                await asyncio.to_thread(self.canary.controller.look)
                return
        raise AssertionError("somebody else was faster twenty times")

    def rollback(self) -> None:
        """What an operator does, from another machine."""
        store = self.store()
        rollout, now = store.current("support"), self.canary.clock()
        assert rollout is not None
        action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="a test")
        store.save(advance(rollout, action, now=now), expected_revision=rollout.revision, now=now)
        store.close()

    def kept(self) -> None:
        """Nothing is lost, nothing is counted twice, the audit log is whole and the rollout legal."""
        store = self.store()
        with store._database.read() as connection:
            c = conversations.c
            turns = {
                row.unit: row.turns
                for row in connection.execute(select(c.unit, func.sum(c.turns).label("turns")).group_by(c.unit))
            }
            still_open = connection.scalar(select(func.sum(c.open)))
            kept = set(connection.scalars(select(outcomes.c.id)))
        wrong = {
            unit: (turns.get(unit), self.asked[unit])
            for unit in turns.keys() | self.asked.keys()
            if turns.get(unit) != self.asked[unit]
        }
        assert not wrong, f"turns that are stored and that were asked: {wrong}"
        assert not still_open, still_open
        assert kept == self.acknowledged, kept ^ self.acknowledged
        legal(store)
        store.close()

    @property
    def degraded(self) -> set[str]:
        """What went wrong in this process, by kind."""
        return set(self.canary.degraded.totals)

    def _is(self, condition: str) -> bool:
        view, fresh = self.canary.view()
        return {"open": view.open, "closed": not view.open, "fresh": fresh, "stale": not fresh}[condition]

    async def _chat(self) -> dict[str, str]:
        assignment = current()
        assert assignment is not None
        outcome = f"o-{next(_numbers)}"
        self.canary.record(assignment.unit, "task_completion", 1, id=outcome)
        return {"version": current_version(), "outcome": outcome}


def legal(store: Store) -> Rollout:
    """The agent's rollout, which is in a state that it can be in, by steps that are all in the audit log."""
    rollouts = store.rollouts("support")
    assert sum(not rollout.phase.ended for rollout in rollouts) <= 1
    newest = rollouts[0]
    for rollout in rollouts:
        entries = store.audit(rollout.id)
        for one, next_one in itertools.pairwise(entries):
            assert next_one.before.startswith(one.after), (one, next_one)
            assert one.at <= next_one.at + 3600.0
        with store._database.read() as connection:
            revisions = list(connection.scalars(select(audit.c.revision).where(audit.c.rollout == rollout.id)))
        assert len(revisions) == len(set(revisions))
        assert all(revision <= rollout.revision for revision in revisions)
        assert rollout.phase.ended == (rollout.ended_at is not None)
        assert 0.0 <= rollout.weight <= 1.0
        view_of("support", rollout, stable="v1", canary="v2", handover=2.0)
    return newest
