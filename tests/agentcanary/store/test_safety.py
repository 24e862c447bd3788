"""A confirmed safety violation in a conversation that the canary served stops its rollout where it is recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentcanary.outcomes import Record
from agentcanary.rollout import Phase
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm, Safety

if TYPE_CHECKING:
    from agentcanary.outcomes import Outcome
    from tests.agentcanary.store.conftest import Make

CANARY = Arm.CANARY


@pytest.fixture
def running(store: Store, make: Make) -> Store:
    store.start(make.rollout())
    return store


def violation(make: Make, unit: str, at: float = 20.0, **changes: object) -> Outcome:
    return replace(make.outcome(unit, at, name="safety_violation"), **changes)  # type: ignore[arg-type] # any field


def stopped(store: Store) -> bool:
    revision = store.revision("support")
    assert revision is not None
    assert (revision.stopped_at is not None) is (revision.revision > 0)
    return revision.stopped_at is not None


def safety(store: Store, make: Make) -> Safety:
    return store.aggregates(make.rollout()).safety


def test_it_stops_in_the_transaction_that_records_it(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", CANARY), 10.0))
    running.apply("b-2", [violation(make, "c-1", id="o-7", label="self-harm")])
    rollout = running.current("support")
    assert rollout is not None
    assert (rollout.stopped_at, rollout.revision, rollout.phase) == (make.start + 20, 1, Phase.PROGRESSING)
    assert "self-harm" in rollout.stop_reason
    assert "o-7" in rollout.stop_reason
    # A conversation id may be a person's.
    assert "c-1" not in rollout.stop_reason
    assert safety(running, make) == Safety(canary=1, reports=1)


def test_it_stops_once(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", CANARY), 10.0))
    for number in range(3):
        running.apply(f"v-{number}", [violation(make, "c-1", 20.0 + number, id=f"o-{number}")])
    revision = running.revision("support")
    assert revision is not None
    assert (revision.revision, revision.stopped_at) == (1, make.start + 20)
    assert safety(running, make) == Safety(canary=3, reports=3)


def test_a_tester_who_forced_the_canary_stops_it_too(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", CANARY, excluded="forced", epoch=-1), 10.0))
    running.apply("b-2", [violation(make, "c-1")])
    assert stopped(running)


def test_one_forced_turn_in_a_conversation_of_stable_is_enough(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1"), 10.0))
    running.apply("b-2", make.turn(make.assignment("c-1", CANARY, excluded="forced", epoch=-1), 15.0))
    running.apply("b-3", [violation(make, "c-1")])
    assert stopped(running)


def test_the_violation_may_be_stored_before_the_turn_that_it_is_about(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", rollout=""), -5000.0))
    running.apply("b-2", [violation(make, "c-1")])
    assert not stopped(running)
    running.apply("b-3", make.turn(make.assignment("c-1", CANARY), 10.0))
    assert stopped(running)


def test_a_violation_that_waited_long_for_its_turn_is_found_by_the_next_count(running: Store, make: Make) -> None:
    running.apply("b-1", [violation(make, "c-1")])
    late = make.turn(make.assignment("c-1", CANARY), 10.0) + make.turn(make.assignment("c-2"), 5000.0)
    running.apply("b-2", late)
    assert not stopped(running)
    running.count(make.rollout(), (), make.start + 5001.0)
    assert stopped(running)


HARMLESS = {
    "stable served it": ("c-stable", {}),
    "nobody confirmed it": ("c-canary", {"confirmed": False}),
    "a report without a violation": ("c-canary", {"value": 0.0}),
    "a report without a value": ("c-canary", {"value": None}),
    "another outcome": ("c-canary", {"name": "satisfaction"}),
    "another agent's conversation": ("c-canary", {"agent": "sales"}),
    "an unknown conversation": ("c-9", {}),
    "a conversation of stable's history": ("c-before", {}),
    "a unit of the canary that stable served": ("c-fallback", {}),
}


@pytest.mark.parametrize(("unit", "changes"), HARMLESS.values(), ids=HARMLESS)
def test_nothing_else_stops_it(running: Store, make: Make, unit: str, changes: dict[str, object]) -> None:
    turns: list[Record] = [
        *make.turn(make.assignment("c-stable"), 10.0),
        *make.turn(make.assignment("c-canary", CANARY), 10.0),
        *make.turn(make.assignment("c-before", rollout=""), 10.0),
        *make.turn(make.assignment("c-fallback", CANARY, version="v1"), 10.0),
    ]
    running.apply("b-1", turns)
    running.apply("b-2", [violation(make, unit, 20.0, **changes)])
    running.count(make.rollout(), (), make.start + 30.0)
    assert not stopped(running)


def test_violations_of_stable_are_shown(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1"), 10.0))
    running.apply("b-2", [violation(make, "c-1"), violation(make, "c-9", value=0.0)])
    assert safety(running, make) == Safety(stable=1, reports=2)


def test_a_report_that_is_sent_again_is_one_report(running: Store, make: Make) -> None:
    for batch in ("b-1", "b-2"):
        running.apply(batch, [violation(make, "c-1", value=0.0, id="o-1"), violation(make, "c-2", value=0.0, id="o-2")])
    assert safety(running, make).reports == 2


def test_a_corrected_violation_is_none_but_the_rollout_stays_stopped(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", CANARY), 10.0))
    running.apply("b-2", [violation(make, "c-1", 20.0, id="o-1")])
    running.apply("b-3", [violation(make, "c-1", 30.0, id="o-1", value=0.0)])
    assert safety(running, make) == Safety(reports=1)
    assert stopped(running)


def test_a_confirmation_that_comes_later_stops_it_then(running: Store, make: Make) -> None:
    running.apply("b-1", make.turn(make.assignment("c-1", CANARY), 10.0))
    running.apply("b-2", [violation(make, "c-1", 20.0, id="o-1", confirmed=False)])
    assert not stopped(running)
    running.apply("b-3", [violation(make, "c-1", 30.0, id="o-1")])
    assert stopped(running)


def test_a_plan_may_tolerate_some(store: Store, make: Make) -> None:
    store.start(make.rollout(plan=replace(make.plan, max_safety_violations=2)))
    store.apply("b-1", make.turn(make.assignment("c-1", CANARY), 10.0))
    for number, expected in enumerate((False, False, True)):
        store.apply(f"v-{number}", [violation(make, "c-1", 20.0 + number)])
        assert stopped(store) is expected


def test_a_promoted_canary_is_not_stopped_and_one_that_drains_after_a_rollback_is(store: Store, make: Make) -> None:
    store.start(make.rollout("r-1", phase=Phase.PROMOTED))
    left = replace(make.rollout("r-2", phase=Phase.ROLLED_BACK), attempt=2, created_at=make.start + 1)
    store.start(left)
    store.apply("b-1", make.turn(make.assignment("c-1", CANARY, rollout="r-1"), 10.0))
    store.apply("b-2", [violation(make, "c-1")])
    assert store.rollout("r-1").stopped_at is None
    store.apply("b-3", make.turn(make.assignment("c-2", CANARY, rollout="r-2"), 10.0))
    store.apply("b-4", [violation(make, "c-2")])
    assert store.rollout("r-2").stopped_at == make.start + 20
