"""Retention: old conversations go, counted cohorts stay what they were, also while their rollout runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make


def test_a_running_rollout_loses_what_it_has_counted_and_nothing_else(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    for number, at in enumerate((10.0, 20.0, 500.0)):
        unit, arm = f"c-{number}", Arm.CANARY if number else Arm.STABLE
        store.apply(unit, make.turn(make.assignment(unit, arm), at))
        store.apply(f"o-{unit}", [make.outcome(unit, at + 1.0, 4.0, name="satisfaction")])
    store.count(rollout, make.plan.metrics, make.start + 300.0)
    counted = store.aggregates(rollout)
    # The last one is old enough too, but it has yet to be counted.
    assert store.prune(make.start + 10_000.0) == 2
    assert [store.conversation("support", f"c-{n}") is None for n in range(3)] == [True, True, False]
    assert store.aggregates(rollout) == counted
    store.count(rollout, make.plan.metrics, make.start + 1000.0)
    after = store.aggregates(rollout)
    assert sum(after.assigned.values()) == 3
    assert store.prune(make.start + 10_000.0) == 1
    assert store.aggregates(rollout) == after


def test_a_conversation_with_a_violation_stays_until_its_rollout_has_ended(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b", make.turn(make.assignment("c-1"), 10.0))
    store.apply("v", [make.outcome("c-1", 11.0, name="safety_violation")])
    store.count(rollout, make.plan.metrics, make.start + 300.0)
    assert store.prune(make.start + 10_000.0) == 0
    assert store.aggregates(rollout).safety.stable == 1


def test_what_is_newer_stays(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("old", rollout=""), 10.0))
    store.apply("b-2", make.turn(make.assignment("new", rollout=""), 100.0))
    store.apply("b-3", make.turn(make.assignment("both", rollout=""), 10.0))
    store.apply("b-4", make.turn(make.assignment("both", rollout=""), 100.0))
    assert store.prune(make.start + 50.0) == 1
    assert store.conversation("support", "old") is None
    assert store.conversation("support", "both") is not None


def test_outcomes_of_nobody_go_too(store: Store, make: Make) -> None:
    store.apply("b", [make.outcome("never seen", 10.0)])
    store.prune(make.start + 5.0)
    assert store.conversation("support", "never seen") is not None
    store.prune(make.start + 50.0)
    assert store.conversation("support", "never seen") is None


def test_it_goes_on_where_it_stopped(store: Store, make: Make) -> None:
    records = [record for n in range(30) for record in make.turn(make.assignment(f"c-{n}", rollout=""), 1.0)]
    store.apply("b", records)
    assert store.prune(make.start + 50.0, slices=0) == 0
    assert store.prune(make.start + 50.0, slices=1) == 30
