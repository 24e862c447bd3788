"""Quantiles of one arm, from values and from histograms."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from agentcanary_analysis.histogram import INFINITE_BIN, bin_of, edge
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.quantiles import (
    exceedances,
    histogram_quantile,
    histogram_quantile_interval,
    order_statistic_ranks,
    sorted_quantile,
    sorted_quantile_interval,
    upper_limit_needs,
)

latencies = st.lists(st.floats(1e-3, 1e4) | st.just(math.inf), min_size=1, max_size=80)
shares = st.floats(0.01, 0.99)


def histogram(values: list[float]) -> dict[int, int]:
    return dict(Counter(bin_of(value) for value in values))


@given(latencies, shares)
def test_the_quantile_is_the_smallest_value_that_enough_do_not_exceed(values: list[float], p: float) -> None:
    ordered = np.sort(values)
    quantile = sorted_quantile(ordered, p)
    assert (ordered <= quantile).mean() >= p - 1e-9
    assert (ordered < quantile).mean() < p + 1e-9


@given(latencies, shares)
def test_a_histogram_gives_the_quantile_within_two_percent(values: list[float], p: float) -> None:
    exact, ours = sorted_quantile(np.sort(values), p), histogram_quantile(histogram(values), p)
    if math.isinf(exact):
        assert ours == math.inf
    else:
        assert ours == pytest.approx(exact, rel=0.0201)


@given(latencies, shares, st.floats(0.5, 0.99))
def test_the_interval_of_a_histogram_contains_that_of_the_values(
    values: list[float], p: float, confidence: float
) -> None:
    exact = sorted_quantile_interval(np.sort(values), p, confidence=confidence)
    ours = histogram_quantile_interval(histogram(values), p, confidence=confidence)
    assert ours.low <= exact.low * (1 + 1e-9)
    assert ours.high >= exact.high * (1 - 1e-9)


@given(st.integers(1, 5000), shares, st.floats(0.5, 0.999))
def test_the_ranks_cover_at_least_what_is_asked(n: int, p: float, confidence: float) -> None:
    low, high, coverage = order_statistic_ranks(n, p, confidence=confidence)
    assert 0 <= low < high <= n + 1
    below = binom(n, p)
    assert coverage >= confidence - 1e-9
    assert coverage == pytest.approx(below.cdf(high - 1) - below.cdf(low - 1), abs=1e-10)


def test_59_values_are_needed_for_an_upper_limit_of_p95() -> None:
    # Statistics.md, section 4; Hahn and Meeker (1991), Table A.16.
    assert upper_limit_needs(0.95) == 59
    assert 1 - 0.95**59 >= 0.95 > 1 - 0.95**58
    assert sorted_quantile_interval(np.arange(1.0, 59.0), 0.95, confidence=0.90).high == math.inf
    assert sorted_quantile_interval(np.arange(1.0, 60.0), 0.95, confidence=0.90).high == 59.0


def test_timeouts_are_the_largest_values_and_never_dropped() -> None:
    values = [1.0] * 90 + [math.inf] * 10
    assert sorted_quantile(values, 0.95) == math.inf
    assert histogram_quantile(histogram(values), 0.95) == math.inf
    assert histogram_quantile_interval(histogram(values), 0.95).high == math.inf
    assert histogram_quantile(histogram(values), 0.5) == pytest.approx(1.0, rel=0.02)


def test_exceedances_count_what_lies_above_an_edge() -> None:
    values = [0.5, 1.0, 1.5, 3.0, math.inf]
    for number in (bin_of(1.0), bin_of(1.5), bin_of(3.0)):
        above = sum(value > edge(number) * (1 + 1e-12) for value in values)
        assert exceedances(histogram(values), edge(number)) == Proportion(above, 5)
    with pytest.raises(ValueError, match="lies inside a bin; round it to an edge"):
        exceedances({0: 1}, 0.99)


@pytest.mark.parametrize("p", [0.0, 1.0, 95.0, -0.5, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got .* \(write 0.95 for p95\)"):
        sorted_quantile([1.0], p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram_quantile({0: 1}, p)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "at least one value"),
        ([[1.0]], "at least one value"),
        ([2.0, 1.0], "must be sorted and hold no NaN"),
        ([1.0, math.nan], "must be sorted and hold no NaN"),
        ([math.nan], "must be sorted and hold no NaN"),
        ([math.nan, 1.0], "must be sorted and hold no NaN"),
    ],
)
def test_values_without_an_order_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sorted_quantile(values, 0.5)


def test_an_empty_or_negative_histogram_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty histogram has no quantile"):
        histogram_quantile({0: 0, INFINITE_BIN: 0}, 0.5)
    with pytest.raises(ValueError, match="counts of 0 and more, got -1"):
        histogram_quantile({0: 5, 3: -1}, 0.5)
    with pytest.raises(ValueError, match="at least one value, got n=0"):
        order_statistic_ranks(0, 0.5)
