"""Pages over a small rollout in a store of its own, and a browser without a window: Starlette's test client."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from agentcanary.assignment import assign, bucket, must_store
from agentcanary.config import Config, parse_config
from agentcanary.controller import Controller
from agentcanary.dashboard import Source, application
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.rollout import Rollout, view_of
from agentcanary.security import Guard, Scope, digest_of
from agentcanary.state_machine import Action, ActionKind, advance, new_rollout
from agentcanary.store import Store, Worker
from agentcanary.testing import FrozenClock, RecordingNotifier

OPERATOR = "anna-token-of-many-characters"
READER = "bob-token-of-many-characters"
RECORDER = "judge-token-of-many-characters"
CONFIG = """
agent: support
stable: support-v1
canary: support-v2
horizon: 5m
metrics:
  - {name: task_completion_rate, on_fail: warn}
canary_stages:
  - name: initial
    weight: 0.2
    duration: 40m
    min_requests: 50
    checks: ["error_rate_increase < 0.10", "task_completion_regression < 0.02", "safety_violations == 0"]
  - {name: half, weight: 0.5, duration: 1h, min_requests: 300}
  - {name: full, weight: 1.0, duration: 0s}
"""
T0 = 1_767_600_000.0  # 2026-01-05 08:00 UTC, a Monday
GUARD = Guard(
    [
        ("anna", {Scope.OPERATE}, digest_of(OPERATOR)),
        ("bob", {Scope.READ}, digest_of(READER)),
        ("judge", {Scope.RECORD}, digest_of(RECORDER)),
    ]
)


@dataclass
class Desk:
    """A store with a rollout, and the pages over it."""

    config: Config
    store: Store
    clock: FrozenClock
    app: Starlette

    @property
    def rollout(self) -> Rollout:
        found = self.store.current("support")
        assert found is not None
        return found

    def controller(self) -> Controller:
        return Controller(
            self.store,
            agent="support",
            stable=self.config.stable,
            canary=self.config.canary,
            plan=self.config.plan,
            clock=self.clock,
            owner="test",
            notify=RecordingNotifier(),
        )

    def act(self, kind: ActionKind, actor: str = "somebody") -> Rollout:
        now = self.clock()
        transition = advance(self.rollout, Action(kind=kind, actor=actor, reason="because"), now=now, new_salt=b"x")
        return self.store.save(transition, expected_revision=self.rollout.revision, now=now)

    def browser(self, token: str | None = None) -> Browser:
        browser = Browser(self.app)
        if token is not None:
            browser.sign_in(token)
        return browser


class Browser(TestClient):
    """What a browser does with our pages."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(app, base_url="http://pages.example", headers={"accept": "text/html"})

    def sign_in(self, token: str) -> None:
        answer = self.post("/canary/login", data={"token": token}, follow_redirects=False)
        assert answer.status_code == 303, answer.text

    def form_token(self, path: str = "/canary/") -> str:
        found = re.search(r'name="form_token" value="([^"]+)"', self.get(path).text)
        assert found is not None
        return found[1]


def serve(desk: Desk, conversations: int, *, minutes: float = 30.0, name: str = "c") -> None:
    """Conversations of one turn, each with its outcome; then one look."""
    rng = random.Random(7)
    view = view_of("support", desk.rollout, stable="support-v1", canary="support-v2", handover=2.0)
    records: list[Record] = []
    for number in range(conversations):
        at = desk.clock() + minutes * 60 * number / conversations
        unit = f"{name}{number}"
        given = assign(view, unit, bucket(view.salt, unit), now=at, fresh=True)
        if must_store(given):
            desk.store.put_pin("support", view.rollout, unit, given.pin, at)
        outcome = TurnOutcome.ERROR if rng.random() < 0.05 else TurnOutcome.OK
        latency = rng.lognormvariate(0.0, 0.5)
        completed = float(rng.random() < 0.85)
        records += [
            TurnStarted(unit, given, at),
            TurnEnded(unit, given, at, at + latency, latency, latency / 2, outcome),
            Outcome(
                id=f"o{unit}",
                agent="support",
                conversation_id=unit,
                name="task_completion",
                value=completed,
                at=at + 20,
            ),
        ]
    desk.store.apply(f"batch-{name}", records)
    desk.clock.advance(minutes * 60)
    now = desk.clock()
    desk.store.heartbeat(
        Worker(
            id="w1",
            agent="support",
            host="h1",
            pid=1,
            config_hash="a",
            started_at=now - 3600,
            reachable_since=now - 3600,
            heartbeat_at=now,
            flushed_until=now,
            degraded={"pin_lookup": 3},
        )
    )
    desk.controller().tick()


def desk_in(folder: Path, config: str = CONFIG, now: float = T0) -> Desk:
    parsed = parse_config(config, str(folder / "canary.yaml"))
    store, clock = Store(parsed.store), FrozenClock(now)
    source = Source(store=store, clock=clock, guard=GUARD, agent="support", config=parsed)
    app = Starlette(routes=[Mount("/canary", application(source))])
    return Desk(parsed, store, clock, app)


def start(desk: Desk, canary: str = "support-v2") -> None:
    salt = canary.encode()
    rollout = new_rollout("support", "support-v1", canary, desk.config.plan, now=desk.clock(), new_salt=salt)
    desk.store.start(rollout)
    desk.controller().tick()
    desk.clock.advance(10)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Desk]:
    desk = desk_in(tmp_path)
    yield desk
    desk.store.close()


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with a rollout in its first stage, half an hour old, and the time there."""
    folder = tmp_path_factory.mktemp("played")
    made = desk_in(folder)
    start(made)
    serve(made, 300)
    made.store.close()
    return folder / ".agentcanary", made.clock()


@pytest.fixture
def desk(played: tuple[Path, float], tmp_path: Path) -> Iterator[Desk]:
    """A rollout in its first stage, half an hour old."""
    folder, now = played
    shutil.copytree(folder, tmp_path / ".agentcanary")
    made = desk_in(tmp_path, now=now)
    yield made
    made.store.close()
