"""Means and ratios over turns: laws, independent oracles, and named states instead of numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import ttest_ind

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.means import (
    fieller_interval,
    log_delta_interval,
    mean_difference_interval,
    mean_test,
    relative_change,
)
from agentcanary_analysis.metrics import Direction, Kind
from agentcanary_analysis.one_look import Claim, Limits, OneLook, Unknown

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=UP)
INTERVALS = (mean_difference_interval, log_delta_interval, fieller_interval)


def tally(values: ArrayLike, sizes: ArrayLike | None = None) -> Tally:
    y = np.asarray(values, dtype=float)
    n = np.zeros_like(y) if sizes is None else np.asarray(sizes, dtype=float)
    sums = (float(column.sum()) for column in (y, y * y, n, n * n, y * n))
    return Tally(y.size, y.size, *sums)


samples = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=30)
ratings = st.lists(st.integers(1, 5), min_size=2, max_size=30)


@given(ratings, ratings)
def test_one_epoch_is_welchs_test(canary: list[int], stable: list[int]) -> None:
    # Oracle: scipy.stats.ttest_ind(equal_var=False).
    test = mean_test([tally(canary)], [tally(stable)], EQUAL)
    if len(set(canary)) == 1 or len(set(stable)) == 1:
        assert test is Unknown.CONSTANT
        return
    assert isinstance(test, OneLook)
    peer = ttest_ind(canary, stable, equal_var=False, alternative="greater")
    assert (test.statistic, test.p_value) == pytest.approx((peer.statistic, peer.pvalue), rel=1e-6, abs=1e-9)
    limits = mean_difference_interval([tally(canary)], [tally(stable)], confidence=0.9)
    wanted = ttest_ind(canary, stable, equal_var=False).confidence_interval(0.9)
    assert limits == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(samples, samples), min_size=1, max_size=3), st.sampled_from([Kind.MEAN, Kind.RATIO]))
def test_any_sums_give_numbers_or_a_named_reason(arms: list[tuple[list[float], list[float]]], kind: Kind) -> None:
    canary, stable = ([tally(arm[side], np.arange(len(arm[side])) % 4) for arm in arms] for side in (0, 1))
    for claim in Claim:
        test = mean_test(canary, stable, Boundary(ratio=0.98, floor=0.01, direction=DOWN), kind=kind, claim=claim)
        assert isinstance(test, Unknown) or (0 <= test.p_value <= 1 and math.isfinite(test.statistic))
    for interval in INTERVALS:
        limits = interval(canary, stable, kind=kind)
        assert isinstance(limits, Unknown) or limits.low <= limits.high
    change = relative_change(canary, stable, kind=kind)
    assert isinstance(change, Unknown) or not math.isnan(change)


def test_named_states_say_what_is_missing() -> None:
    one, flat, some, none = tally([4]), tally([4, 4, 4]), tally([3, 4, 5]), Tally()
    negative, centred = tally([-3, -4, -5]), tally([-10, 0, 10])
    for test in (mean_test([one], [some], EQUAL), mean_difference_interval([one], [some])):
        assert test is Unknown.TOO_FEW
    assert mean_test([some], [none], EQUAL) is Unknown.EMPTY_ARM
    assert mean_test([], [], EQUAL) is Unknown.EMPTY_ARM
    assert mean_test([flat], [some], EQUAL) is Unknown.CONSTANT
    assert mean_test([tally([0.1] * 1000)], [some], EQUAL) is Unknown.CONSTANT  # rounding of the sums is no spread
    assert log_delta_interval([negative], [some]) is Unknown.NOT_POSITIVE
    assert fieller_interval([some], [centred]) is Unknown.UNBOUNDED
    assert relative_change([some], [centred]) is Unknown.ZERO_STABLE
    assert relative_change([flat], [one]) == 0.0
    assert Unknown.CONSTANT.value == "all values of an arm are equal, so their spread is unknown"


def test_missing_values_are_missing_and_not_zero() -> None:
    rated = tally([3, 4, 5])
    with_silent = Tally(100, 3, rated.total, rated.total_squares)
    assert mean_test([rated], [rated], EQUAL) == mean_test([with_silent], [with_silent], EQUAL)


def test_a_ramp_with_drifting_ratings_is_no_difference() -> None:
    rng = np.random.default_rng(11)
    levels, shares = (3.0, 3.5, 4.5), (0.05, 0.25, 0.5)
    canary = [tally(rng.normal(level, 0.5, int(2000 * share))) for level, share in zip(levels, shares, strict=True)]
    stable = [
        tally(rng.normal(level, 0.5, int(2000 * (1 - share)))) for level, share in zip(levels, shares, strict=True)
    ]
    test = mean_test(canary, stable, EQUAL)
    pooled = mean_test([sum(canary, Tally())], [sum(stable, Tally())], EQUAL)
    assert isinstance(test, OneLook)
    assert isinstance(pooled, OneLook)
    assert 0.01 < test.p_value < 0.99
    assert pooled.p_value < 1e-6
    change = relative_change(canary, stable)
    assert not isinstance(change, Unknown)
    assert abs(change) < 0.02


def test_the_ratio_of_turns_has_the_variance_of_conversations() -> None:
    # Statistics.md, section 4: G / (G - 1) * sum (y - r n)^2 / (sum n)^2, computed here from the rows.
    rng = np.random.default_rng(5)
    arms = []
    for chance in (0.08, 0.05):
        turns = rng.integers(1, 30, 400)
        errors = rng.binomial(turns, rng.beta(1, 1 / chance - 1, 400))
        ratio = errors.sum() / turns.sum()
        variance = 400 / 399 * ((errors - ratio * turns) ** 2).sum() / turns.sum() ** 2
        arms.append((tally(errors, turns), ratio, variance))
    (canary, r_c, v_c), (stable, r_s, v_s) = arms
    test = mean_test([canary], [stable], EQUAL, kind=Kind.RATIO)
    assert isinstance(test, OneLook)
    assert test.statistic == pytest.approx((r_c - r_s) / math.sqrt(v_c + v_s), rel=1e-9)
    naive = math.sqrt(r_c * (1 - r_c) / canary.size + r_s * (1 - r_s) / stable.size)
    assert math.sqrt(v_c + v_s) > 1.4 * naive  # counting turns as if they were independent would deceive


def test_fewer_degrees_of_freedom_widen_the_interval() -> None:
    arm, other = tally([1, 2, 3, 4] * 30), tally([2, 3, 4, 5] * 30)
    free, bound = log_delta_interval([arm], [other]), log_delta_interval([arm], [other], freedom=10)
    assert isinstance(free, Limits)
    assert isinstance(bound, Limits)
    assert bound.low < free.low < free.high < bound.high


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_cover_the_truth_as_often_as_they_say(interval: object) -> None:
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(600):
        canary, stable = tally(rng.gamma(4, 1.1, 60)), tally(rng.gamma(4, 1.0, 300))
        limits = interval([canary], [stable])  # type: ignore[operator]  # three functions of one form
        truth = 0.4 if interval is mean_difference_interval else 0.1
        covered += limits.low <= truth <= limits.high
    assert 0.925 <= covered / 600 <= 0.975  # 0.95 give or take three standard errors


def test_misuse_is_refused() -> None:
    some = tally([3, 4, 5])
    with pytest.raises(ValueError, match="the same epochs, got 2 of the canary and 1 of stable"):
        mean_test([some, some], [some], EQUAL)
    with pytest.raises(ValueError, match="a proportion has no mean"):
        mean_test([some], [some], EQUAL, kind=Kind.PROPORTION)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        log_delta_interval([some], [some], confidence=95)
