"""Conversations are counted at a fixed age, once, and never again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.errors import ConflictError, UnknownError
from agentcanary.outcomes import Record, TurnOutcome
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Safety, Tally
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.metrics import BUILT_IN, ERROR_RATE, P95_LATENCY, TASK_COMPLETION_RATE

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make

STABLE, CANARY = Arm.STABLE, Arm.CANARY
ERRORS = replace(ERROR_RATE, horizon=60.0)
LATENCY = replace(P95_LATENCY, horizon=60.0)
COMPLETION = replace(TASK_COMPLETION_RATE, horizon=120.0)
METRICS = (ERRORS, LATENCY, COMPLETION)


def test_a_conversation_is_counted_when_its_age_reaches_the_horizon_and_never_again(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b-1", make.turn(make.assignment("c-1", CANARY, bucket=3), 10.0, 2.0, TurnOutcome.ERROR))
    seen = []
    for until in (69.0, 70.0, 71.0, 200.0):
        store.count(rollout, METRICS, make.start + until)
        aggregates = store.aggregates(rollout)
        seen.append([aggregates.tally(metric.name, 0, CANARY).units for metric in METRICS])
    assert seen == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert aggregates.tallies[Cell("error_rate", 0, CANARY)] == {3: Tally(1, 1, 1.0, 1.0)}
    assert aggregates.histogram("p95_latency", 0, CANARY) == {bin_of(2.0): 1}
    assert aggregates.tally("task_completion_rate", 0, CANARY) == Tally(1, 0)
    assert aggregates.assigned == {(0, CANARY): 1}
    assert aggregates.epochs == rollout.epochs


def test_what_happens_after_the_horizon_changes_nothing_even_if_the_count_comes_late(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    unit = make.assignment("c-1")
    store.apply("b-1", make.turn(unit, 0.0, 2.0) + make.turn(unit, 61.0, 1.0, TurnOutcome.ERROR))
    store.apply("b-2", [make.outcome("c-1", 119.0), make.outcome("c-2", 1.0)])
    store.count(rollout, METRICS, make.start + 10_000.0)
    aggregates = store.aggregates(rollout)
    assert aggregates.tally("error_rate", 0, STABLE) == Tally(1, 1, 0.0, 0.0)
    assert aggregates.tally("task_completion_rate", 0, STABLE) == Tally(1, 1, 1.0, 1.0)


def test_a_turn_that_hangs_is_an_error_without_a_latency(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    start, end = make.turn(make.assignment("c-1"), 0.0, 100.0)
    store.apply("b-1", [start])
    store.apply("b-2", [end])
    store.count(rollout, METRICS, make.start + 1000.0)
    aggregates = store.aggregates(rollout)
    assert aggregates.tally("error_rate", 0, STABLE).total == 1.0
    assert aggregates.histogram("p95_latency", 0, STABLE) == {INFINITE_BIN: 1}
    # It has a bin, and nothing that could be added up.
    assert aggregates.tally("p95_latency", 0, STABLE) == Tally(1, 0)


def test_excluded_conversations_are_counted_by_their_reason_only(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply(
        "b-1",
        make.turn(make.assignment("c-1", CANARY, excluded="forced", epoch=-1), 0.0)
        + make.turn(make.assignment("c-2", excluded="handover", epoch=-1), 0.0)
        + make.turn(make.assignment("c-3", excluded="handover", epoch=-1), 0.0)
        + make.turn(make.assignment("c-4"), 0.0),
    )
    store.count(rollout, METRICS, make.start + 1000.0)
    aggregates = store.aggregates(rollout)
    assert aggregates.excluded == {"forced": 1, "handover": 2}
    assert aggregates.assigned == {(0, STABLE): 1}
    assert aggregates.tally("error_rate", 0, STABLE).units == 1
    assert {cell.epoch for cell in aggregates.tallies} == {0}


BEGAN_BEFORE = {
    # (start of a turn elsewhere, its end), relative to the first turn in this rollout, idle_after=300 s.
    "live outside a rollout": ("", [(-100.0, -90.0)], True),
    "live in the rollout before": ("r-0", [(-100.0, -90.0)], True),
    "its last turn ended just within": ("", [(-400.0, -299.0)], True),
    "idle for too long": ("", [(-400.0, -300.0)], False),
    "idle for too long, and seen elsewhere later": ("", [(-400.0, -390.0), (50.0, 51.0)], False),
    "seen elsewhere only later": ("", [(50.0, 51.0)], False),
}


@pytest.mark.parametrize("arm", [STABLE, CANARY])
@pytest.mark.parametrize(("elsewhere", "turns", "expected"), BEGAN_BEFORE.values(), ids=BEGAN_BEFORE)
def test_a_conversation_that_was_live_before_is_excluded_from_both_arms_alike(
    store: Store, make: Make, elsewhere: str, turns: list[tuple[float, float]], expected: bool, arm: Arm
) -> None:
    rollout = make.rollout()
    store.start(rollout)
    before = [
        record
        for start, end in turns
        for record in make.turn(make.assignment("c-1", rollout=elsewhere), 1000.0 + start, end - start)
    ]
    store.apply("b-1", before + make.turn(make.assignment("c-1", arm), 1000.0))
    store.count(rollout, METRICS, make.start + 5000.0)
    aggregates = store.aggregates(rollout)
    assert aggregates.excluded == ({"began_before": 1} if expected else {})
    assert aggregates.assigned == ({} if expected else {(0, arm): 1})
    assert aggregates.tally("error_rate", 0, arm).units == (0 if expected else 1)
    found = store.conversation("support", "c-1")
    assert found is not None
    assert [part.excluded for part in found.parts if part.rollout == "r-1"] == ["began_before" if expected else None]


def test_a_conversation_that_is_stored_late_joins_the_next_cohort_with_its_own_value(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.count(rollout, METRICS, make.start + 1000.0)
    # A worker that died recorded this long ago; another one brings its journal.
    late = make.turn(make.assignment("c-1", CANARY), 10.0, 1.0, TurnOutcome.ERROR)
    store.apply("b-1", late + make.turn(make.assignment("c-1", CANARY), 500.0, 1.0))
    seen = []
    for until in (1001.0, 1059.9, 1060.1, 1121.0, 2000.0):
        store.count(rollout, METRICS, make.start + until)
        aggregates = store.aggregates(rollout)
        seen.append([aggregates.tally(metric.name, 0, CANARY).units for metric in METRICS])
    assert seen == [[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert aggregates.assigned == {(0, CANARY): 1}
    assert aggregates.tally("error_rate", 0, CANARY).total == 1.0


def test_a_first_turn_that_is_stored_after_the_second_makes_nobody_count_twice(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b-1", make.turn(make.assignment("c-1"), 500.0, 1.0))
    store.count(rollout, METRICS, make.start + 600.0)
    store.apply("b-2", make.turn(make.assignment("c-1"), 10.0, 1.0))
    for until in (700.0, 2000.0):
        store.count(rollout, METRICS, make.start + until)
    aggregates = store.aggregates(rollout)
    assert aggregates.assigned == {(0, STABLE): 1}
    assert [aggregates.tally(metric.name, 0, STABLE).units for metric in METRICS] == [1, 1, 1]


def test_history_on_the_stable_version_is_epoch_minus_one_and_counted_with_the_first_look(
    store: Store, make: Make
) -> None:
    for number in range(300):
        stable = make.assignment(f"h-{number}", rollout="", version="v1", bucket=number % 200)
        other = make.assignment(f"o-{number}", rollout="", version="v0")
        store.apply(f"b-{number}", make.turn(stable, -5000.0 + number, 2.0) + make.turn(other, -5000.0, 9.0))
    store.apply("recent", make.turn(make.assignment("recent", rollout="", version="v1"), -59.0, 2.0))
    rollout = make.rollout()
    store.start(rollout)
    for until in (1.0, 1000.0):
        store.count(rollout, METRICS, make.start + until)
    aggregates = store.aggregates(rollout)
    # Not the one that was not of age when the rollout began, and of the metrics only the quantile.
    assert aggregates.histogram("p95_latency", -1, STABLE) == {bin_of(2.0): 300}
    assert len(aggregates.tallies[Cell("p95_latency", -1, STABLE)]) == 200
    assert {cell.metric for cell in aggregates.tallies if cell.epoch == -1} == {"p95_latency"}
    asked = store.history("support", "v1", [ERRORS, LATENCY], until=make.start, look_back=4900.0)
    assert asked.tally("error_rate", -1, STABLE) == Tally(200 - 1, 200 - 1, 0.0, 0.0)
    assert store.history("support", "v2", [LATENCY], until=make.start) == Aggregates()


def test_two_counts_at_once_add_nothing_twice(store: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b-1", make.turn(make.assignment("c-1"), 0.0))
    read = store._add_assignments

    def overtaken(*arguments: object) -> None:
        read(*arguments)  # type: ignore[arg-type] # handed on as they are
        monkeypatch.setattr(store, "_add_assignments", read)
        store.count(rollout, METRICS, make.start + 100.0)

    monkeypatch.setattr(store, "_add_assignments", overtaken)
    with pytest.raises(ConflictError, match="counted by somebody else"):
        store.count(rollout, METRICS, make.start + 90.0)
    assert store.aggregates(rollout).tally("error_rate", 0, STABLE).units == 1


def test_a_count_may_be_interrupted_anywhere(store: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b-1", make.turn(make.assignment("c-1"), 0.0))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "_store", killed)
        with pytest.raises(KeyboardInterrupt):
            store.count(rollout, METRICS, make.start + 1000.0)
    # It had been announced that conversations up to 1000 are complete: this one is late.
    store.apply("b-2", make.turn(make.assignment("c-2"), 0.0))
    store.count(rollout, METRICS, make.start + 1100.0)
    assert store.aggregates(rollout).tally("error_rate", 0, STABLE).units == 2


def test_a_rollout_that_is_not_there_has_no_aggregates(store: Store, make: Make) -> None:
    with pytest.raises(UnknownError, match="'r-9' is not in the store"):
        store.aggregates(make.rollout("r-9"))
    with pytest.raises(UnknownError, match="'r-9' is not in the store"):
        store.count(make.rollout("r-9"), METRICS, make.start)


def test_slices_of_a_large_cohort_add_up(store: Store, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcanary.store.cohorts._SLICE", 7)
    rollout = make.rollout()
    store.start(rollout)
    # Many begin at the same moment, so that slices end in the middle of them.
    records = [r for n in range(60) for r in make.turn(make.assignment(f"c-{n}", bucket=n), float(n // 10))]
    store.apply("b-1", records)
    store.count(rollout, METRICS, make.start + 1000.0)
    aggregates = store.aggregates(rollout)
    assert aggregates.tallies[Cell("error_rate", 0, STABLE)] == {n: Tally(1, 1, 0.0, 0.0) for n in range(60)}
    assert aggregates.assigned == {(0, STABLE): 60}


conversation = st.tuples(
    st.sampled_from([STABLE, CANARY]),
    st.integers(0, 1),  # epoch
    st.sampled_from([None, None, None, "forced"]),
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([None, 1.0, 90.0]), st.sampled_from(list(TurnOutcome))),
        min_size=1,
        max_size=4,
        unique_by=lambda turn: turn[0],
    ),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([None, 0.0, 1.0])), max_size=2),
)
Drawn = Sequence[
    tuple[Arm, int, str | None, list[tuple[int, float | None, TurnOutcome]], list[tuple[int, float | None]]]
]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(conversation, min_size=1, max_size=8), seed=st.integers(0, 2**32))
def test_looks_at_any_times_with_batches_between_count_the_same_as_one_look_at_the_end(
    new_store: Callable[[], Store], make: Make, drawn: Drawn, seed: int
) -> None:
    rng = random.Random(seed)
    records: list[tuple[float, Record]] = []
    for number, (arm, epoch, excluded, turns, outcomes) in enumerate(drawn):
        assignment = make.assignment(f"c-{number}", arm, epoch=epoch, excluded=excluded, bucket=number)
        for at, seconds, outcome in turns:
            start, *end = make.turn(assignment, float(at), seconds, outcome)
            records.append((float(at), start))
            records += [(float(at) + (seconds or 0.0), record) for record in end]
        records += [(float(at), make.outcome(f"c-{number}", float(at), value)) for at, value in outcomes]
    rollout = make.rollout()
    once, often = new_store(), new_store()
    for store in (once, often):
        store.start(rollout)
    once.apply("all", [record for _, record in rng.sample(records, len(records))])
    once.count(rollout, METRICS, make.start + 1000.0)
    # Everything that happened up to a look is stored before it, as the watermark promises; later things may be, too.
    moments = sorted(rng.uniform(0.0, 600.0) for _ in range(rng.randint(1, 6)))
    waiting = list(records)
    for number, until in enumerate(moments):
        now = [item for item in waiting if item[0] <= until or rng.random() < 0.2]
        waiting = [item for item in waiting if item not in now]
        often.apply(f"b-{number}", [record for _, record in now])
        often.count(rollout, METRICS, make.start + until)
    often.apply("rest", [record for _, record in waiting])
    often.count(rollout, METRICS, make.start + 1000.0)
    assert often.aggregates(rollout) == once.aggregates(rollout)
    assert once.aggregates(rollout) == by_hand(make, drawn)
    for store in (once, often):
        store.close()


def by_hand(make: Make, drawn: Drawn) -> Aggregates:
    """The aggregates of conversations, straight from the definitions."""
    tallies: dict[Cell, dict[int, Tally]] = {}
    histograms: dict[Cell, dict[int, int]] = {}
    assigned: dict[tuple[int, Arm], int] = {}
    excluded_units = 0
    for number, (arm, epoch, excluded, turns, outcomes) in enumerate(drawn):
        if excluded:
            excluded_units += 1
            continue
        assigned[epoch, arm] = assigned.get((epoch, arm), 0) + 1
        first = min(at for at, _, _ in turns)
        failed = any(
            (seconds is not None and outcome is TurnOutcome.ERROR and at + seconds <= first + 60)
            or (at <= first + 60 and (seconds is None or at + seconds > first + 60))
            for at, seconds, outcome in turns
        )
        tallies.setdefault(Cell("error_rate", epoch, arm), {})[number] = Tally(1, 1, float(failed), float(failed))
        seconds = next(seconds for at, seconds, _ in turns if at == first)
        latency = math.inf if seconds is None or seconds > 60 else seconds
        summed = Tally(1, 0) if math.isinf(latency) else Tally(1, 1, latency, latency**2)
        tallies.setdefault(Cell("p95_latency", epoch, arm), {})[number] = summed
        bins = histograms.setdefault(Cell("p95_latency", epoch, arm), {})
        bins[bin_of(latency)] = bins.get(bin_of(latency), 0) + 1
        values = [value for at, value in outcomes if first <= at <= first + 120 and value is not None]
        done = Tally(1, 1, max(values), max(values)) if values else Tally(1, 0)
        tallies.setdefault(Cell("task_completion_rate", epoch, arm), {})[number] = done
    return Aggregates(
        epochs=make.rollout().epochs,
        tallies=tallies,
        histograms=histograms,
        assigned=assigned,
        excluded={"forced": excluded_units} if excluded_units else {},
        safety=Safety(),
    )


def test_the_built_in_metrics_can_all_be_counted(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("b-1", make.turn(make.assignment("c-1"), 0.0))
    store.count(rollout, BUILT_IN, make.start + 3600.0)
    assert {cell.metric for cell in store.aggregates(rollout).tallies} == {metric.name for metric in BUILT_IN}
