"""Aggregates add up: whatever the order and the grouping, the sums are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Safety, Tally

METRICS = ("error_rate", "p95_latency")
EPOCHS = (Epoch(number=0, weight=0.05, stage=0), Epoch(number=1, weight=0.15, stage=1))

counts = st.integers(0, 50)
arms = st.sampled_from(list(Arm))


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    # Whole numbers, so that sums do not depend on their order.
    values = draw(st.lists(st.integers(-20, 20), max_size=6))
    sizes = draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))
    missing = draw(st.integers(0, 3))
    return Tally(
        len(values) + missing,
        len(values),
        float(sum(values)),
        float(sum(v * v for v in values)),
        float(sum(sizes)),
        float(sum(n * n for n in sizes)),
        float(sum(v * n for v, n in zip(values, sizes, strict=True))),
    )


cells = st.builds(Cell, st.sampled_from(METRICS), st.integers(0, 1), arms)
aggregates = st.builds(
    Aggregates,
    epochs=st.sets(st.sampled_from(EPOCHS)).map(lambda some: tuple(sorted(some, key=lambda epoch: epoch.number))),
    tallies=st.dictionaries(cells, st.dictionaries(st.integers(0, 199), tallies(), max_size=3), max_size=3),
    histograms=st.dictionaries(
        cells, st.dictionaries(st.integers(-50, 200), st.integers(1, 9), max_size=3), max_size=3
    ),
    assigned=st.dictionaries(st.tuples(st.integers(0, 1), arms), st.integers(1, 9), max_size=3),
    excluded=st.dictionaries(st.sampled_from(["forced", "handover"]), st.integers(1, 9), max_size=2),
    safety=st.builds(Safety, canary=counts, stable=counts, reports=counts),
)


@given(aggregates, aggregates)
def test_the_order_of_adding_does_not_matter(a: Aggregates, b: Aggregates) -> None:
    assert a + b == b + a


@given(aggregates, aggregates, aggregates)
def test_the_grouping_of_adding_does_not_matter(a: Aggregates, b: Aggregates, c: Aggregates) -> None:
    assert (a + b) + c == a + (b + c)


@given(aggregates)
def test_adding_nothing_changes_nothing(a: Aggregates) -> None:
    assert a + Aggregates() == a


def test_adding_leaves_both_sides_as_they_were() -> None:
    cell = Cell("error_rate", 0, Arm.CANARY)
    one = Aggregates(tallies={cell: {7: Tally(1, 1, 1.0, 1.0)}}, histograms={cell: {3: 2}})
    assert (one + one).tallies[cell][7] == Tally(2, 2, 2.0, 2.0)
    assert (one + one).histograms[cell] == {3: 4}
    assert (one.tallies[cell][7], one.histograms[cell]) == (Tally(1, 1, 1.0, 1.0), {3: 2})


@given(st.lists(tallies(), max_size=5))
def test_a_cell_is_the_sum_of_its_buckets(buckets: list[Tally]) -> None:
    cell = Cell("error_rate", 0, Arm.STABLE)
    whole = Aggregates(tallies={cell: dict(enumerate(buckets))})
    assert whole.tally("error_rate", 0, Arm.STABLE) == sum(buckets, Tally())
    assert whole.tally("error_rate", 0, Arm.CANARY) == Tally()


def test_two_accounts_of_one_epoch_must_agree() -> None:
    heavier = replace(EPOCHS[0], weight=0.5)
    with pytest.raises(ValueError, match="epoch 0 differs"):
        Aggregates(epochs=EPOCHS[:1]) + Aggregates(epochs=(heavier,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"units": -1}, "observed must be between 0 and units"),
        ({"units": 1, "observed": 2}, "got 2 of 1"),
        ({"units": 1, "observed": 1, "total": math.nan}, "sums must be finite, .* total=nan"),
        ({"units": 1, "observed": 1, "total": math.inf, "total_squares": math.inf}, "sums must be finite"),
        ({"units": 1, "observed": 1, "total_squares": -1.0}, "total_squares=-1.0"),
        ({"units": 1, "observed": 1, "size": -1.0}, "squares and sizes not negative, .* size=-1.0"),
        ({"units": 1, "observed": 1, "product": math.nan}, "sums must be finite, .* product=nan"),
        ({"units": 3, "observed": 3, "total": 3.0}, "no 3 values have total=3.0 and total_squares=0.0"),
        ({"units": 3, "observed": 0, "total": 1.0, "total_squares": 1.0}, "no 0 values have total=1.0"),
    ],
)
def test_an_impossible_tally_is_refused(fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tally(**fields)


@given(st.integers(1, 10**9), st.floats(-1e6, 1e6))
def test_a_constant_value_is_possible_for_any_number_of_units(units: int, value: float) -> None:
    assert Tally(units, units, units * value, units * value * value).units == units


@pytest.mark.parametrize("weight", [-0.01, 5.0, math.nan])
def test_a_weight_is_a_share_and_never_percent(weight: float) -> None:
    with pytest.raises(ValueError, match=r"weight of epoch 0 is a share in \[0, 1\]"):
        Epoch(number=0, weight=weight, stage=0)


def test_epochs_out_of_order_or_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[1, 0\]"):
        Aggregates(epochs=EPOCHS[::-1])
    with pytest.raises(ValueError, match=r"got \[0, 0\]"):
        Aggregates(epochs=(EPOCHS[0], EPOCHS[0]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"assigned": {(0, Arm.CANARY): -1}}, "assigned must not hold a negative count, got -1"),
        ({"excluded": {"forced": -2}}, "excluded must not hold a negative count, got -2"),
        ({"histograms": {Cell("p95_latency", 0, Arm.CANARY): {1: -3}}}, "histogram of .* negative count, got -3"),
    ],
)
def test_negative_counts_are_refused(fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Aggregates(**fields)
