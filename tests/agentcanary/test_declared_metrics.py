"""Metrics of a file's own, of each kind: recorded, stored, counted, judged by the controller, shown by the status."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agentcanary.assignment import assign, bucket
from agentcanary.config import Config, parse_config
from agentcanary.controller import Controller
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.rollout import Phase, Rollout, view_of
from agentcanary.status.reading import situation
from agentcanary.status.status_data import status_data
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm

FILE = """\
agent: {agent}
stable: v1
canary: v2
rollback: {{max_error_increase: null, max_completion_drop: null, max_latency_increase: null}}
horizon: 60s
bake: 1m
canary_stages:
  - {{name: half, weight: 0.5, duration: 10m, checks: ["{check} < 0.30"]}}
  - {{name: full, weight: 1.0, duration: 0m}}
metrics:
  - {{name: {name}, kind: {kind}, worse: {worse}, rollback_margin: 0.5{more}}}
"""
Draw = Callable[[random.Random, float], Sequence[float]]
"""The values that a conversation reports, by how far the version is from stable."""


def share(rate: float) -> Draw:
    return lambda luck, factor: [float(luck.random() < rate * factor)]


def steps(luck: random.Random, factor: float) -> list[float]:
    """Of one to five steps some fail; the metric is failures per step."""
    return [float(luck.random() < 0.2 * factor) for _ in range(luck.randint(1, 5))]


# Kind and direction, what more is stated, the values, and how far a bad canary is from stable. All
# of it is five standard errors and more from the boundary.
KINDS: dict[str, tuple[str, str, str, Draw, float]] = {
    "proportion, up": ("proportion", "up", "", share(0.4), 2.2),
    "proportion, down": ("proportion", "down", "", share(0.8), 0.3),
    "mean, up": ("mean", "up", "", lambda luck, factor: [factor * luck.lognormvariate(0, 0.5)], 2.0),
    "mean, down": ("mean", "down", "", lambda luck, factor: [factor * luck.gauss(4, 1)], 0.4),
    "ratio, up": ("ratio", "up", "", steps, 3.0),
    "quantile, up": (
        "quantile",
        "up",
        ", quantile: 0.9",
        lambda luck, factor: [factor * luck.lognormvariate(0, 0.3)],
        3.0,
    ),
}


class Clock:
    now = 1_000_000.0
    speed = 1.0

    def __call__(self) -> float:
        return self.now


class Traffic:
    """Conversations of one turn, each with what a judge reports of it."""

    def __init__(self, store: Store, agent: str, clock: Clock, draw: Draw, canary: float) -> None:
        self._store, self._agent, self._clock, self._draw, self._canary = store, agent, clock, draw, canary
        self._luck = random.Random(3)
        self._begun = 0

    def talk(self, conversations: int, seconds: float) -> None:
        view = view_of(self._agent, self._store.current(self._agent), stable="v1", canary="v2", handover=2.0)
        records: list[Record] = []
        for _ in range(conversations):
            self._clock.now += seconds / conversations
            now, unit = self._clock.now, f"{self._agent}-conversation-{self._begun}"
            self._begun += 1
            assignment = assign(view, unit, bucket(view.salt, unit), now=now, fresh=True)
            records.append(TurnStarted(unit, assignment, now))
            records.append(TurnEnded(unit, assignment, now, now + 1.0, 1.0, 0.1, TurnOutcome.OK))
            factor = self._canary if assignment.arm is Arm.CANARY else 1.0
            records += [
                Outcome(id=f"{unit}-{at}", agent=self._agent, conversation_id=unit, name="own", value=value, at=now + 5)
                for at, value in enumerate(self._draw(self._luck, factor))
            ]
        self._store.apply(f"{self._agent}-{self._begun}", records)


AGENTS = itertools.count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.sqlite3'}")
    yield made
    made.close()


def current(store: Store, agent: str) -> Rollout:
    rollout = store.current(agent)
    assert rollout is not None
    return rollout


def controller(store: Store, config: Config, clock: Clock) -> Controller:
    return Controller(
        store,
        agent=config.agent,
        stable="v1",
        canary="v2",
        plan=config.plan,
        clock=clock,
        owner="one",
        notify=lambda _: None,
    )


def rolled_out(store: Store, config: Config, draw: Draw, canary: float) -> tuple[Rollout, dict[str, Any]]:
    """The rollout after 1,250 conversations or at its end, and what the status shows of it."""
    clock = Clock()
    traffic = Traffic(store, config.agent, clock, draw, canary)
    traffic.talk(250, 300.0)
    clock.now += 120
    control = controller(store, config, clock)
    control.tick()
    for _ in range(5):
        traffic.talk(250, 180.0)
        clock.now += 61
        control.tick()
        if current(store, config.agent).phase.ended or current(store, config.agent).current_stage.weight == 1:
            break
    rollout = current(store, config.agent)
    return rollout, status_data(situation(store, rollout, now=clock.now))


def config_of(kind: str, worse: str, more: str, file: str = FILE) -> Config:
    check = "own_increase" if worse == "up" else "own_regression"
    return parse_config(
        file.format(agent=f"agent-{next(AGENTS)}", check=check, name="own", kind=kind, worse=worse, more=more)
    )


@pytest.fixture(autouse=True)
def _one_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same split in every run: with a random one, a proof is a matter of luck now and then."""
    monkeypatch.setattr("agentcanary.controller.new_salt", lambda: b"a salt of 32 bytes for the tests")


@pytest.mark.parametrize(("kind", "worse", "more", "draw", "bad"), KINDS.values(), ids=KINDS)
def test_a_bad_canary_is_rolled_back_for_a_metric_of_the_files_own(
    store: Store, kind: str, worse: str, more: str, draw: Draw, bad: float
) -> None:
    rollout, shown = rolled_out(store, config_of(kind, worse, more), draw, bad)
    assert rollout.phase is Phase.ROLLED_BACK
    assert "own" in rollout.reason
    (metric,) = shown["criteria"]
    assert (metric["metric"], metric["kind"], metric["status"]) == ("own", kind, "harmed")
    assert (metric["relative_change"] > 0) is (worse == "up")


@pytest.mark.parametrize(("kind", "worse", "more", "draw", "bad"), KINDS.values(), ids=KINDS)
def test_an_equal_canary_is_proven_by_a_metric_of_the_files_own(
    store: Store, kind: str, worse: str, more: str, draw: Draw, bad: float
) -> None:
    rollout, shown = rolled_out(store, config_of(kind, worse, more), draw, 1.0)
    assert rollout.current_stage.weight == 1
    (metric,) = shown["criteria"]
    assert (metric["metric"], metric["status"]) == ("own", "safe")
    assert metric["boundary"]["direction"] == f"{worse}_is_worse"


def test_a_canary_that_fails_at_once_is_taken_back_long_before_the_horizon(store: Store) -> None:
    config = config_of("proportion", "up", ", early: true", FILE.replace("horizon: 60s", "horizon: 4h"))
    clock = Clock()
    traffic = Traffic(store, config.agent, clock, share(0.2), 4.0)
    control = Controller(
        store,
        agent=config.agent,
        stable="v1",
        canary="v2",
        plan=config.plan,
        clock=clock,
        owner="one",
        notify=lambda _: None,
    )
    control.tick()
    began = clock.now
    traffic.talk(400, 600.0)
    # A twentieth of the horizon are 12 minutes.
    clock.now += 720
    control.tick()
    assert current(store, config.agent).phase is Phase.ROLLED_BACK
    assert clock.now - began < 4 * 3600 / 4
