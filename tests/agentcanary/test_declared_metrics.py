"""Metrics of a file's own, of each kind: recorded, stored, counted, judged by the controller, shown by the status."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcanary.assignment import assign, bucket
from agentcanary.config import parse_config
from agentcanary.controller import Controller
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.plan import Plan
from agentcanary.rollout import Phase, Rollout, view_of
from agentcanary.status.reading import situation
from agentcanary.status.status_data import status_data
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm

FILE = """\
agent: support
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


# Kind and direction, what more is stated, the values, and how far a bad canary is from stable.
KINDS: dict[str, tuple[str, str, str, Draw, float]] = {
    "proportion, up": ("proportion", "up", "", share(0.2), 3.0),
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

    def __init__(self, store: Store, clock: Clock, draw: Draw, canary: float) -> None:
        self._store, self._clock, self._draw, self._canary = store, clock, draw, canary
        self._luck = random.Random(3)
        self._begun = 0

    def talk(self, conversations: int, seconds: float) -> None:
        view = view_of("support", self._store.current("support"), stable="v1", canary="v2", handover=2.0)
        records: list[Record] = []
        for _ in range(conversations):
            self._clock.now += seconds / conversations
            now, unit = self._clock.now, f"conversation-{self._begun}"
            self._begun += 1
            assignment = assign(view, unit, bucket(view.salt, unit), now=now, fresh=True)
            records.append(TurnStarted(unit, assignment, now))
            records.append(TurnEnded(unit, assignment, now, now + 1.0, 1.0, 0.1, TurnOutcome.OK))
            factor = self._canary if assignment.arm is Arm.CANARY else 1.0
            records += [
                Outcome(id=f"{unit}-{at}", agent="support", conversation_id=unit, name="own", value=value, at=now + 5)
                for at, value in enumerate(self._draw(self._luck, factor))
            ]
        self._store.apply(f"batch-{self._begun}", records)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    yield made
    made.close()


def current(store: Store) -> Rollout:
    rollout = store.current("support")
    assert rollout is not None
    return rollout


def rolled_out(store: Store, plan: Plan, draw: Draw, canary: float) -> tuple[Rollout, dict[str, Any]]:
    """The rollout after 1,250 conversations or at its end, and what the status shows of it."""
    clock = Clock()
    traffic = Traffic(store, clock, draw, canary)
    traffic.talk(250, 300.0)
    clock.now += 120
    control = Controller(
        store,
        agent="support",
        stable="v1",
        canary="v2",
        plan=plan,
        clock=clock,
        owner="one",
        notify=lambda _: None,
    )
    control.tick()
    for _ in range(5):
        traffic.talk(250, 180.0)
        clock.now += 61
        control.tick()
        if current(store).phase.ended or current(store).current_stage.weight == 1:
            break
    rollout = current(store)
    return rollout, status_data(situation(store, rollout, now=clock.now))


def plan_of(kind: str, worse: str, more: str) -> Plan:
    check = "own_increase" if worse == "up" else "own_regression"
    return parse_config(FILE.format(check=check, name="own", kind=kind, worse=worse, more=more)).plan


@pytest.mark.parametrize(("kind", "worse", "more", "draw", "bad"), KINDS.values(), ids=KINDS)
def test_a_bad_canary_is_rolled_back_for_a_metric_of_the_files_own(
    store: Store, kind: str, worse: str, more: str, draw: Draw, bad: float
) -> None:
    rollout, shown = rolled_out(store, plan_of(kind, worse, more), draw, bad)
    assert rollout.phase is Phase.ROLLED_BACK
    assert "own" in rollout.reason
    (metric,) = shown["criteria"]
    assert (metric["metric"], metric["kind"], metric["status"]) == ("own", kind, "harmed")
    assert (metric["relative_change"] > 0) is (worse == "up")


@pytest.mark.parametrize(("kind", "worse", "more", "draw", "bad"), KINDS.values(), ids=KINDS)
def test_an_equal_canary_is_proven_by_a_metric_of_the_files_own(
    store: Store, kind: str, worse: str, more: str, draw: Draw, bad: float
) -> None:
    rollout, shown = rolled_out(store, plan_of(kind, worse, more), draw, 1.0)
    assert rollout.current_stage.weight == 1
    (metric,) = shown["criteria"]
    assert (metric["metric"], metric["status"]) == ("own", "safe")
    assert metric["boundary"]["direction"] == f"{worse}_is_worse"


def test_a_canary_that_fails_at_once_is_taken_back_long_before_the_horizon(store: Store) -> None:
    plan = parse_config(
        FILE.replace("horizon: 60s", "horizon: 4h").format(
            check="own_increase", name="own", kind="proportion", worse="up", more=", early: true"
        )
    ).plan
    clock = Clock()
    traffic = Traffic(store, clock, share(0.2), 4.0)
    control = Controller(
        store, agent="support", stable="v1", canary="v2", plan=plan, clock=clock, owner="one", notify=lambda _: None
    )
    control.tick()
    began = clock.now
    traffic.talk(400, 600.0)
    # A twentieth of the horizon are 12 minutes.
    clock.now += 720
    control.tick()
    assert current(store).phase is Phase.ROLLED_BACK
    assert clock.now - began < 4 * 3600 / 4
