"""What is recorded is stored once, whatever the order and however often it is sent."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.errors import StoreError
from agentcanary.outcomes import Record, TurnOutcome
from agentcanary.store import Known, Store, coalesce
from agentcanary.store.batch import storable
from agentcanary.store.turn_log import ENTRY_LENGTH, FULL
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make


def known(store: Store, unit: str, agent: str = "support") -> Known:
    found = store.conversation(agent, unit)
    assert found is not None
    return found


def test_a_turn_that_starts_and_ends_within_a_batch_is_one_entry(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1"), 10.0, 2.0, TurnOutcome.ERROR))
    (part,) = known(store, "c-1").parts
    assert (part.turns, part.open, part.errors, part.aborted, len(part.log)) == (1, 0, 1, 0, 1)
    assert (part.started_at, part.last_turn_at) == (make.start + 10, make.start + 12)
    assert (part.arm, part.epoch, part.version, part.bucket, part.on_canary) == (Arm.STABLE, 0, "v1", 7, False)


def test_a_turn_that_hangs_is_seen_and_ends_in_a_later_batch(store: Store, make: Make) -> None:
    start, end = make.turn(make.assignment("c-1", Arm.CANARY), 10.0, 60.0)
    store.apply("b-1", [start])
    assert [(part.turns, part.open, part.on_canary) for part in known(store, "c-1").parts] == [(1, 1, True)]
    store.apply("b-2", [end])
    assert [(part.turns, part.open, len(part.log)) for part in known(store, "c-1").parts] == [(1, 0, 2)]


def test_a_batch_is_added_once_however_often_it_is_sent(store: Store, make: Make) -> None:
    records = [*make.turn(make.assignment("c-1"), 10.0), make.outcome("c-1", 11.0)]
    for _ in range(3):
        store.apply("b-1", records)
    assert [part.turns for part in known(store, "c-1").parts] == [1]
    assert len(known(store, "c-1").outcomes) == 1


def test_a_settled_batch_need_not_be_remembered(store: Store, make: Make) -> None:
    store.add("b-1", coalesce(make.turn(make.assignment("c-1"), 10.0)))
    store.add("b-2", coalesce(make.turn(make.assignment("c-1"), 20.0)), settled=["b-1"])
    store.add("b-2", coalesce(make.turn(make.assignment("c-1"), 20.0)))
    assert [part.turns for part in known(store, "c-1").parts] == [2]
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT id FROM batches").scalars().all() == ["b-2"]


def test_a_batch_that_fails_leaves_nothing_behind(store: Store, make: Make) -> None:
    records = [*make.turn(make.assignment("c-1"), 10.0), make.outcome("c-1", 11.0)]
    store.open()
    with store._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE outcomes RENAME TO elsewhere")
    with pytest.raises(StoreError):
        store.apply("b-1", records)
    with store._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO outcomes")
    assert store.conversation("support", "c-1") is None
    store.apply("b-1", records)
    assert [part.turns for part in known(store, "c-1").parts] == [1]


def test_the_first_writer_fixes_the_assignment_and_the_earliest_turn_the_start(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("c-1", Arm.STABLE, epoch=1), 20.0))
    store.apply("b-2", make.turn(make.assignment("c-1", Arm.CANARY, epoch=2), 10.0))
    (part,) = known(store, "c-1").parts
    assert (part.arm, part.epoch, part.version) == (Arm.STABLE, 1, "v1")
    assert (part.started_at, part.turns, part.on_canary) == (make.start + 10, 2, True)


def test_within_a_batch_the_earlier_turn_decides(make: Make) -> None:
    later = make.turn(make.assignment("c-1", Arm.CANARY, epoch=2), 20.0)
    earlier = make.turn(make.assignment("c-1", Arm.STABLE, epoch=1), 10.0, None)
    (row,) = coalesce(later + earlier).conversations
    assert (row.arm, row.epoch, row.started_at, row.turns, row.open) == ("stable", 1, make.start + 10, 2, 1)


def test_rollouts_and_agents_are_kept_apart(store: Store, make: Make) -> None:
    records = make.turn(make.assignment("c-1", rollout=""), 1.0) + make.turn(make.assignment("c-1"), 2.0)
    store.apply("b-1", records + make.turn(make.assignment("c-1", agent="sales"), 3.0))
    assert [(part.rollout, part.excluded) for part in known(store, "c-1").parts] == [("", "no_rollout"), ("r-1", None)]
    assert [part.rollout for part in known(store, "c-1", "sales").parts] == ["r-1"]


def test_turns_without_a_conversation_are_counted_by_their_reason(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    nameless = make.assignment("", excluded="no_conversation_id", epoch=-1)
    store.apply("b-1", make.turn(nameless, 1.0) + make.turn(nameless, 2.0))
    store.apply("b-2", make.turn(nameless, 3.0))
    assert store.aggregates(rollout).excluded == {"no_conversation_id": 3}
    assert store.conversation("support", "") is None


def test_an_outcome_sent_again_changes_nothing_and_a_later_one_corrects_it(store: Store, make: Make) -> None:
    first = make.outcome("c-1", 10.0, 0.0, id="o-1")
    store.apply("b-1", [first])
    store.apply("b-2", [make.outcome("c-1", 10.0, 0.0, id="o-1")])
    assert known(store, "c-1").outcomes == (first,)
    store.apply("b-3", [make.outcome("c-1", 30.0, 1.0, id="o-1")])
    store.apply("b-4", [make.outcome("c-1", 20.0, 0.5, id="o-1")])
    (corrected,) = known(store, "c-1").outcomes
    assert (corrected.value, corrected.at) == (1.0, make.start + 10)


def test_the_log_of_an_endless_conversation_stops_growing_and_its_totals_do_not(store: Store, make: Make) -> None:
    talkative = make.assignment("c-1")
    for batch in range(5):
        turns = [record for turn in range(500) for record in make.turn(talkative, batch * 500 + turn, 0.5)]
        store.apply(f"b-{batch}", turns)
    (part,) = known(store, "c-1").parts
    assert part.turns == 2500
    assert len(part.log) * ENTRY_LENGTH == FULL


@pytest.mark.parametrize("unit", ["a\x00b", "\ud800", "naïve ✓", "'; DROP TABLE pins; --"])
def test_any_text_can_name_a_conversation(store: Store, make: Make, unit: str) -> None:
    store.apply("b-1", make.turn(make.assignment(unit), 1.0))
    assert known(store, unit).unit == storable(unit)
    pin = make.assignment(unit, Arm.CANARY).pin
    assert store.put_pin("support", "r-2", unit, pin, make.start) == pin
    assert store.pin("support", "r-2", unit, now=make.start, idle_after=300.0) == pin


def test_many_conversations_come_in_whole_and_in_odd_numbers(store: Store, make: Make) -> None:
    for number, count in enumerate((1, 249, 250, 251, 999)):
        units = [f"{number}-{unit}" for unit in range(count)]
        store.apply(f"b-{number}", [record for unit in units for record in make.turn(make.assignment(unit), 1.0)])
    assert store.live_conversations("support", "r-1", Arm.STABLE, now=make.start + 2.0, idle_after=300.0) == 1750


def test_live_conversations_are_those_with_a_recent_turn(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("old"), 0.0, 1.0) + make.turn(make.assignment("new"), 200.0, 1.0))
    store.apply("b-2", make.turn(make.assignment("canary", Arm.CANARY, excluded="forced"), 200.0, 1.0))
    at = make.start + 302.0
    assert store.live_conversations("support", "r-1", Arm.STABLE, now=at, idle_after=300.0) == 1
    assert store.live_conversations("support", "r-1", Arm.CANARY, now=at, idle_after=300.0) == 1


turn_of = st.tuples(
    st.integers(0, 3),  # the conversation
    st.integers(0, 100),  # when it starts
    st.sampled_from([None, 0.5, 30.0]),
    st.sampled_from(list(TurnOutcome)),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(turn_of, min_size=1, max_size=12), seed=st.integers(0, 2**32))
def test_any_division_into_batches_sent_in_any_order_any_number_of_times_gives_the_same(
    new_store: Callable[[], Store], make: Make, turns: list[tuple[int, int, float | None, TurnOutcome]], seed: int
) -> None:
    rng = random.Random(seed)
    records: list[Record] = []
    for unit, at, seconds, outcome in turns:
        # A unit has one assignment; which of several writers comes first is tested above.
        arm = Arm.CANARY if unit % 2 else Arm.STABLE
        records += make.turn(make.assignment(f"c-{unit}", arm), float(at), seconds, outcome)
        records.append(make.outcome(f"c-{unit}", float(at) + 1.0, id=f"o-{len(records)}"))
    at_once, in_parts = new_store(), new_store()
    at_once.apply("all", records)
    shuffled = rng.sample(records, len(records))
    batches: list[list[Record]] = [[] for _ in range(rng.randint(1, 5))]
    for record in shuffled:
        rng.choice(batches).append(record)
    sent = [number for number in range(len(batches)) for _ in range(rng.randint(1, 3))]
    for number in rng.sample(sent, len(sent)):
        in_parts.apply(f"b-{number}", batches[number])
    for name in {f"c-{unit}" for unit, *_ in turns}:
        one, other = known(at_once, name), known(in_parts, name)
        assert one.outcomes == other.outcomes
        assert [totals(part) for part in one.parts] == [totals(part) for part in other.parts]
    for store in (at_once, in_parts):
        store.close()


def totals(part: object) -> tuple[object, ...]:
    """Everything of a part but the form of its log, which may hold a turn as one entry or as two."""
    names = ("rollout", "arm", "epoch", "version", "excluded", "on_canary", "started_at", "last_turn_at", "turns")
    return tuple(getattr(part, name) for name in (*names, "open", "errors", "aborted"))
