"""The ratio of two quantiles over epochs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.quantile_ratios import quantile_ratio, quantile_ratio_interval

bins = st.dictionaries(st.integers(-50, 200) | st.just(INFINITE_BIN), st.integers(0, 100), max_size=12)


def histogram(values: np.ndarray) -> dict[int, int]:
    return dict(Counter(bin_of(float(value)) for value in values))


def test_a_ramp_with_drifting_latency_is_no_difference() -> None:
    rng = np.random.default_rng(4)
    canary, stable = [], []
    for level, share in ((1.0, 0.05), (1.2, 0.25), (1.42, 0.5)):
        canary.append(histogram(level * rng.lognormal(0, 0.6, int(20000 * share))))
        stable.append(histogram(level * rng.lognormal(0, 0.6, int(20000 * (1 - share)))))
    assert quantile_ratio(canary, stable, 0.95) == pytest.approx(1, abs=0.03)
    pooled = [dict(sum((Counter(epoch) for epoch in arm), Counter())) for arm in (canary, stable)]
    added = quantile_ratio([pooled[0]], [pooled[1]], 0.95)
    assert not isinstance(added, Unknown)
    assert added > 1.08


@given(st.lists(st.tuples(bins, bins), min_size=1, max_size=3), st.floats(0.05, 0.95))
def test_any_histograms_give_a_ratio_or_a_named_reason(
    arms: list[tuple[dict[int, int], dict[int, int]]], p: float
) -> None:
    ratio = quantile_ratio([c for c, _ in arms], [s for _, s in arms], p)
    assert isinstance(ratio, Unknown) or ratio > 0
    limits = quantile_ratio_interval(*arms[0], p)
    assert isinstance(limits, Unknown) or 0 <= limits.low <= limits.high


def test_named_states_say_what_is_missing() -> None:
    some, never = {0: 10}, {INFINITE_BIN: 10}
    assert quantile_ratio([some], [{}], 0.95) is Unknown.EMPTY_ARM
    assert quantile_ratio_interval({0: 0}, some, 0.95) is Unknown.EMPTY_ARM
    assert quantile_ratio([some], [never], 0.95) is Unknown.UNBOUNDED
    assert quantile_ratio([never], [some], 0.95) == math.inf
    assert quantile_ratio_interval(never, some, 0.95) is Unknown.UNBOUNDED
    with pytest.raises(ValueError, match="the same epochs, got 1 of the canary and 2 of stable"):
        quantile_ratio([some], [some, some], 0.95)


def test_too_few_values_leave_an_end_open() -> None:
    few = histogram(np.linspace(1, 2, 30))
    limits = quantile_ratio_interval(few, histogram(np.linspace(1, 2, 2000)), 0.95)
    assert isinstance(limits, Limits)
    assert limits.high == math.inf
    assert limits.low > 0


def test_the_interval_covers_the_truth_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        canary, stable = histogram(1.3 * rng.lognormal(0, 0.5, 300)), histogram(rng.lognormal(0, 0.5, 1500))
        limits = quantile_ratio_interval(canary, stable, 0.95, confidence=0.9)
        assert isinstance(limits, Limits)
        covered += limits.low <= 1.3 <= limits.high
    assert covered / 300 >= 0.85  # 0.90 less three standard errors
