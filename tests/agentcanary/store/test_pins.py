from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentcanary.assignment import Pin
from agentcanary.rollout import Phase
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make

CANARY = Pin(Arm.CANARY, 2)


def pin(store: Store, make: Make, unit: str = "c-1", at: float = 100.0) -> Pin | None:
    return store.pin("support", "r-1", unit, now=make.start + at, idle_after=300.0)


def test_a_new_unit_has_no_pin(store: Store, make: Make) -> None:
    assert pin(store, make) is None


@pytest.mark.parametrize(
    "stored",
    [CANARY, Pin(Arm.STABLE, -1, "handover"), Pin(Arm.CANARY, 0, None, True)],
    ids=["canary", "excluded", "fallback"],
)
def test_a_pin_is_read_as_it_was_stored(store: Store, make: Make, stored: Pin) -> None:
    assert store.put_pin("support", "r-1", "c-1", stored, make.start) == stored
    assert pin(store, make) == stored
    assert store.pin("support", "r-2", "c-1", now=make.start, idle_after=300.0) is None
    assert store.pin("sales", "r-1", "c-1", now=make.start, idle_after=300.0) is None


def test_the_first_writer_wins(store: Store, make: Make) -> None:
    store.put_pin("support", "r-1", "c-1", CANARY, make.start)
    assert store.put_pin("support", "r-1", "c-1", Pin(Arm.STABLE, 3), make.start) == CANARY
    assert pin(store, make) == CANARY


def test_all_workers_that_race_agree(store: Store, make: Make) -> None:
    store.open()
    wanted = [Pin(Arm.CANARY if number % 2 else Arm.STABLE, number) for number in range(40)]
    with ThreadPoolExecutor(8) as workers:
        got = list(workers.map(lambda mine: store.put_pin("support", "r-1", "c-1", mine, make.start), wanted))
    assert len(set(got)) == 1
    assert pin(store, make) == got[0]


def test_what_was_recorded_in_this_rollout_counts_as_a_pin(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.CANARY, epoch=2), 10.0))
    assert pin(store, make, at=100_000.0) == CANARY


def test_a_unit_of_the_canary_that_stable_served_stays_there(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.CANARY, epoch=2, version="v1"), 10.0))
    assert pin(store, make) == Pin(Arm.CANARY, 2, None, True)


def test_the_pin_has_the_say_over_what_was_recorded(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.STABLE, epoch=1), 10.0))
    store.put_pin("support", "r-1", "c-1", CANARY, make.start)
    assert pin(store, make) == CANARY


@pytest.mark.parametrize("elsewhere", ["", "r-0"], ids=["outside a rollout", "in the rollout before"])
def test_a_conversation_that_is_live_elsewhere_began_before(store: Store, make: Make, elsewhere: str) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1", rollout=elsewhere), 10.0, 5.0))
    assert pin(store, make, at=314.9) == Pin(Arm.STABLE, -1, "began_before")
    assert pin(store, make, at=315.0) is None


def test_a_conversation_that_began_after_the_promotion_stays_with_the_canary(store: Store, make: Make) -> None:
    store.start(make.rollout(phase=Phase.PROMOTED))
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.CANARY, rollout=""), 10.0, 5.0))
    assert pin(store, make, at=314.9) == Pin(Arm.CANARY, -1, "no_rollout")
    assert pin(store, make, at=315.0) is None


def test_one_that_an_earlier_promotion_gave_to_its_canary_began_before(store: Store, make: Make) -> None:
    store.start(replace(make.rollout(), stable="v2", canary="v3"))
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.CANARY, rollout=""), 10.0, 5.0))
    assert pin(store, make) == Pin(Arm.STABLE, -1, "began_before")


def exceptions(store: Store, make: Make, since: float = 0.0, limit: int = 99) -> set[str]:
    start = make.start
    found = store.exceptions("support", "r-1", since=start + since, elsewhere_since=start + since, limit=limit)
    return set(found)


def test_what_the_split_did_not_decide_is_an_exception_and_nothing_else_is(store: Store, make: Make) -> None:
    store.start(make.rollout())
    store.put_pin("support", "r-1", "pinned", CANARY, make.start + 10.0)
    turns = {
        "split": make.assignment("split", Arm.CANARY),
        "stable": make.assignment("stable"),
        "excluded": make.assignment("excluded", excluded="began_before", epoch=-1),
        "fallback": make.assignment("fallback", Arm.CANARY, version="v1"),
        "outside": make.assignment("outside", rollout=""),
        "sales": make.assignment("sales", rollout="", agent="sales"),
    }
    store.apply("b-1", [record for made in turns.values() for record in make.turn(made, 10.0)])
    assert exceptions(store, make) == {"pinned", "excluded", "fallback", "outside"}
    assert exceptions(store, make, since=10.0) == set()
    assert len(exceptions(store, make, limit=2)) == 2


def test_one_that_began_in_another_rollout_is_an_exception(store: Store, make: Make) -> None:
    store.start(make.rollout("r-0", phase=Phase.ROLLED_BACK))
    store.start(replace(make.rollout(), attempt=2))
    store.apply("b-1", make.turn(make.assignment("c-1", rollout="r-0"), 10.0))
    assert exceptions(store, make) == {"c-1"}


def test_exceptions_are_found_by_indexes_alone(store: Store, make: Make) -> None:
    store.open()
    here = ("support", "r-1", 0.0)
    parameters = (*here, *here, "support", "support", "r-1", 0.0, 99)
    if store._database.dialect == "sqlite":
        plan = store._database.fetch(f"EXPLAIN QUERY PLAN {store._exceptions}", parameters)
        steps = [step for *_, step in plan]
        assert [step for step in steps if step.startswith("SCAN")] == ["SCAN CONSTANT ROW"], steps
    else:
        with store._database.write() as connection:
            # Of a few rows the server would rather read all.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {store._exceptions}", parameters).all()
        steps = [step for (step,) in plan]
        assert not [step for step in steps if "Seq Scan" in step], steps
    assert any("pins_newest" in step for step in steps)
    assert any("conversations_exceptional" in step for step in steps)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_in_parts_all_that_were_live_elsewhere_are_found_once(store: Store, make: Make, rows: int) -> None:
    for number in range(10):
        store.apply(f"b-{number}", make.turn(make.assignment(f"c-{number}", rollout=""), float(number), None))
    store.apply("b-mine", make.turn(make.assignment("c-4"), 9.0, None))
    store.apply("b-only", make.turn(make.assignment("c-mine"), 9.0, None))
    found, after = list[str](), ""
    for _ in range(20):
        part, until = store.live_elsewhere("support", "r-1", after=after, active_since=make.start + 2.5, rows=rows)
        found += part
        if until is None:
            break
        after = until
    assert found == [f"c-{number}" for number in range(3, 10)]
