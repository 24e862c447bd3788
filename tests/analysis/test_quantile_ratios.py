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
from agentcanary_analysis.quantile_ratios import (
    quantile_ratio,
    quantile_ratio_interval,
    standardised_quantiles,
    stratified_quantile_ratio_interval,
)
from agentcanary_analysis.quantiles import histogram_quantile_interval

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


def ramp(rng: np.random.Generator, total: int, factor: float) -> tuple[list[dict[int, int]], list[dict[int, int]]]:
    """Three epochs of a ramp in which latency drifts by 60 %; the canary is slower by a factor."""
    canary, stable = [], []
    for level, share in ((1.0, 0.05), (1.3, 0.25), (1.6, 0.5)):
        canary.append(histogram(factor * level * rng.lognormal(0, 0.6, round(total * share))))
        stable.append(histogram(level * rng.lognormal(0, 0.6, round(total * (1 - share)))))
    return canary, stable


@given(st.lists(st.tuples(bins, bins), min_size=1, max_size=3), st.floats(0.05, 0.95), st.floats(0.5, 0.99))
def test_over_epochs_the_interval_contains_the_ratio_and_widens_with_confidence(
    arms: list[tuple[dict[int, int], dict[int, int]]], p: float, confidence: float
) -> None:
    canary, stable = [c for c, _ in arms], [s for _, s in arms]
    ratio = quantile_ratio(canary, stable, p)
    limits = stratified_quantile_ratio_interval(canary, stable, p, confidence=confidence)
    if isinstance(ratio, Unknown) or math.isinf(ratio):
        assert isinstance(limits, Unknown)
        return
    assert isinstance(limits, Limits)
    assert limits.low * (1 - 1e-9) <= ratio <= limits.high * (1 + 1e-9)
    wider = stratified_quantile_ratio_interval(canary, stable, p, confidence=(1 + confidence) / 2)
    assert isinstance(wider, Limits)
    assert wider.low <= limits.low
    assert wider.high >= limits.high


def test_an_epoch_twice_is_worth_twice_its_values() -> None:
    canary, stable = ramp(np.random.default_rng(3), 2000, 1.2)
    once = [canary[2]], [stable[2]]
    twice = [{number: 2 * count for number, count in arm[2].items()} for arm in (canary, stable)]
    split = stratified_quantile_ratio_interval(once[0] * 2, once[1] * 2, 0.95)
    assert split == quantile_ratio_interval(twice[0], twice[1], 0.95)
    assert split != stratified_quantile_ratio_interval(*once, 0.95)


def test_the_limits_of_one_arm_are_its_order_statistics() -> None:
    # Stable is as good as known, so the interval is that of the canary alone.
    canary = histogram(np.random.default_rng(4).lognormal(0, 0.6, 400))
    limits = quantile_ratio_interval(canary, {0: 10**9}, 0.95)
    alone = histogram_quantile_interval(canary, 0.95)
    both = standardised_quantiles([canary], [{0: 10**9}], 0.95)
    assert isinstance(limits, Limits)
    assert isinstance(both, tuple)
    assert (limits.low * both[1], limits.high * both[1]) == pytest.approx(alone, rel=0.002)


def test_a_canary_of_50_conversations_has_no_upper_limit_of_p95() -> None:
    # Fewer than 72 values do not bound the 95th percentile above at 95 %, whatever the largest is.
    canary, stable = ramp(np.random.default_rng(5), 60, 1.0)
    limits = stratified_quantile_ratio_interval(canary, stable, 0.95)
    assert isinstance(limits, Limits)
    assert limits.high == math.inf
    assert 0 < limits.low < 1


def test_over_a_ramp_with_drifting_latency_the_truth_is_covered() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        limits = stratified_quantile_ratio_interval(*ramp(rng, 600, 1.3), 0.95, confidence=0.9)
        assert isinstance(limits, Limits)
        covered += limits.low <= 1.3 <= limits.high
    assert covered / 200 >= 0.83  # 0.90 less three standard errors
