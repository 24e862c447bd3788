"""Intervals of proportions: coverage by enumeration, agreement with their tests, and their edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import confint_proportions_2indep

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.proportion_intervals import (
    clopper_pearson_interval,
    clopper_pearson_upper,
    mantel_haenszel_ratio,
    mee_interval,
    miettinen_nurminen_interval,
    newcombe_interval,
    ratio_interval,
    ratio_limits,
    wilson_interval,
)
from agentcanary_analysis.proportions import Proportion, score_statistic, score_test

DIFFERENCES = (newcombe_interval, mee_interval, miettinen_nurminen_interval)
NINETY_FIVE = 1.959963984540054

sizes = st.integers(1, 40) | st.integers(1, 10**9)
proportions = sizes.flatmap(
    lambda units: st.builds(Proportion, st.integers(0, units) | st.sampled_from([0, units]), st.just(units))
)
pairs = st.lists(st.tuples(proportions, proportions), min_size=1, max_size=3)


# Newcombe (1998), Statistics in Medicine 17:873-890, Table II, method 10, 95 %: canary, stable, low, high.
NEWCOMBE_1998 = {
    "a": (Proportion(56, 70), Proportion(48, 80), 0.0524, 0.3339),
    "b": (Proportion(9, 10), Proportion(3, 10), 0.1705, 0.8090),
    "c": (Proportion(6, 7), Proportion(2, 7), 0.0582, 0.8062),
    "d": (Proportion(5, 56), Proportion(0, 29), -0.0381, 0.1926),
    "e": (Proportion(0, 10), Proportion(0, 20), -0.1611, 0.2775),
    "f": (Proportion(0, 10), Proportion(0, 10), -0.2775, 0.2775),
    "g": (Proportion(10, 10), Proportion(0, 20), 0.6791, 1.0),
    "h": (Proportion(10, 10), Proportion(0, 10), 0.6075, 1.0),
}


@pytest.mark.parametrize(("canary", "stable", "low", "high"), NEWCOMBE_1998.values(), ids=NEWCOMBE_1998)
def test_the_difference_matches_newcombe_1998(canary: Proportion, stable: Proportion, low: float, high: float) -> None:
    assert newcombe_interval(canary, stable) == pytest.approx((low, high), abs=6e-5)


def test_the_koopman_interval_agrees_with_statsmodels() -> None:
    # statsmodels' score interval of the ratio is right (that of the difference is not).
    for k_c, n_c, k_s, n_s in ((75, 1000, 950, 19000), (7, 34, 1, 34), (3, 50, 25, 950), (49, 50, 900, 950)):
        peer = confint_proportions_2indep(k_c, n_c, k_s, n_s, compare="ratio", method="score", correction=False)
        ours = ratio_interval([Proportion(k_c, n_c)], [Proportion(k_s, n_s)])
        assert ours == pytest.approx(peer, rel=1e-4)


def test_the_mantel_haenszel_ratio_agrees_with_statsmodels() -> None:
    canary = [Proportion(21, 464), Proportion(11, 165), Proportion(8, 69)]
    stable = [Proportion(26, 453), Proportion(25, 174), Proportion(11, 70)]
    tables = [
        np.array([[c.events, c.units - c.events], [s.events, s.units - s.events]], dtype=float)
        for c, s in zip(canary, stable, strict=True)
    ]
    ratio = mantel_haenszel_ratio(canary, stable)
    assert ratio == pytest.approx(float(StratifiedTable(tables).riskratio_pooled), rel=1e-12)
    # Tang's score interval with inverse-variance weights, Mehrotra and Railkar's data: 0.4444 to 0.9468.
    assert ratio_interval(canary, stable) == pytest.approx((0.4444, 0.9468), abs=0.005)


@settings(max_examples=50)
@given(pairs, st.floats(0.5, 0.99))
def test_the_ratio_interval_contains_the_estimate_and_nothing_that_is_rejected(
    arms: list[tuple[Proportion, Proportion]], confidence: float
) -> None:
    canary, stable = [c for c, _ in arms], [s for _, s in arms]
    low, high = ratio_interval(canary, stable, confidence=confidence)
    assert 0 <= low <= high
    estimate = mantel_haenszel_ratio(canary, stable)
    if isinstance(estimate, Unknown):
        assert (low, high) == (0, math.inf)
        return
    assert low * (1 - 1e-9) <= estimate <= high * (1 + 1e-9)
    for end, direction in ((low, Direction.UP_IS_WORSE), (high, Direction.DOWN_IS_WORSE)):
        if 0 < end < math.inf:
            # Within a few roundings of the end the test crosses its level.
            around = [Boundary(ratio=end * (1 + step), floor=0.0, direction=direction) for step in (-1e-9, 1e-9)]
            p_values = [score_test(canary, stable, boundary).p_value for boundary in around]
            assert min(p_values) - 1e-8 <= (1 - confidence) / 2 <= max(p_values) + 1e-8


@settings(max_examples=25)
@given(proportions, proportions)
def test_swapping_the_arms_turns_the_ratio_and_the_difference_around(a: Proportion, b: Proportion) -> None:
    one, other = ratio_interval([a], [b]), ratio_interval([b], [a])
    for low, high in ((one.low, other.high), (other.low, one.high)):
        if 0 < low < math.inf and 0 < high < math.inf:
            assert low * high == pytest.approx(1, rel=1e-6)
    for interval in DIFFERENCES:
        there, back = interval(a, b), interval(b, a)
        assert there == pytest.approx((-back.high, -back.low), abs=1e-7)


@given(proportions, proportions, st.sampled_from(DIFFERENCES), st.floats(0.5, 0.999))
def test_a_difference_stays_in_its_range_has_width_and_contains_the_estimate(
    canary: Proportion, stable: Proportion, interval: Callable[..., Limits], confidence: float
) -> None:
    low, high = interval(canary, stable, confidence=confidence)
    assert -1 <= low < high <= 1
    assert low - 1e-9 <= canary.rate - stable.rate <= high + 1e-9


@given(proportions, st.floats(0.01, 0.999))
def test_an_interval_of_one_rate_contains_it_and_widens_with_confidence(arm: Proportion, confidence: float) -> None:
    for interval in (wilson_interval, clopper_pearson_interval):
        low, high = interval(arm, confidence=confidence)
        assert 0 <= low <= arm.rate <= high <= 1
        assert low < high
        wider = interval(arm, confidence=(1 + confidence) / 2)
        assert wider.low <= low
        assert wider.high >= high


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -0.1, math.nan])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    arm = Proportion(1, 10)
    for call in (
        lambda: wilson_interval(arm, confidence=confidence),
        lambda: clopper_pearson_interval(arm, confidence=confidence),
        lambda: clopper_pearson_upper(arm, confidence=confidence),
        lambda: newcombe_interval(arm, arm, confidence=confidence),
        lambda: mee_interval(arm, arm, confidence=confidence),
        lambda: ratio_interval([arm], [arm], confidence=confidence),
    ):
        with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
            call()


def test_an_empty_arm_has_no_interval() -> None:
    arm, empty = Proportion(1, 10), Proportion(0, 0)
    for call in (
        lambda: wilson_interval(empty),
        lambda: clopper_pearson_interval(empty),
        lambda: newcombe_interval(arm, empty),
        lambda: mee_interval(empty, arm),
        lambda: ratio_interval([arm], [empty]),
        lambda: mantel_haenszel_ratio([empty], [arm]),
    ):
        with pytest.raises(ValueError, match=r"empty arm|no epoch has units in both arms"):
            call()


def test_a_ratio_without_events_in_stable_is_infinite_and_without_any_unknown() -> None:
    assert mantel_haenszel_ratio([Proportion(3, 50)], [Proportion(0, 950)]) == math.inf
    assert mantel_haenszel_ratio([Proportion(0, 50)], [Proportion(0, 950)]) is Unknown.NO_EVENTS


def _coverage_of_difference(p_c: float, n_c: int, p_s: float, n_s: int, inflation: float) -> float:
    """By enumeration: the interval covers exactly where the score at the truth is within its limits."""
    k_c, k_s = np.arange(n_c + 1)[:, None, None], np.arange(n_s + 1)[None, :, None]
    z = score_statistic(k_c, n_c, k_s, n_s, shift=p_c - p_s) / np.sqrt(inflation)
    chance = binom.pmf(k_c[..., 0], n_c, p_c) * binom.pmf(k_s[..., 0], n_s, p_s)
    return float((chance * (np.abs(z) <= NINETY_FIVE)).sum())


SPLITS = ((50, 950), (200, 200), (150, 450))
GRID = [(p, r, n_c, n_s) for p in (0.01, 0.05, 0.2, 0.85) for r in (1.0, 1.15) for n_c, n_s in SPLITS]


def test_coverage_of_the_ratio_over_a_grid() -> None:
    worst = 1.0
    for p, r, n_c, n_s in GRID:
        k_c, k_s = np.arange(n_c + 1)[:, None, None], np.arange(n_s + 1)[None, :, None]
        z = score_statistic(k_c, n_c, k_s, n_s, ratio=r)
        inside = np.abs(z) <= NINETY_FIVE
        chance = binom.pmf(k_c[..., 0], n_c, r * p) * binom.pmf(k_s[..., 0], n_s, p)
        worst = min(worst, float((chance * inside).sum()))
    assert worst >= 0.935, f"worst coverage of the ratio over the grid: {worst:.4f}"


def test_coverage_of_miettinen_nurminen_over_a_grid() -> None:
    worst = min(_coverage_of_difference(r * p, n_c, p, n_s, (n_c + n_s) / (n_c + n_s - 1)) for p, r, n_c, n_s in GRID)
    assert worst >= 0.935, f"worst coverage of the difference over the grid: {worst:.4f}"


def test_coverage_of_newcombe_and_of_the_exact_interval() -> None:
    for n_c, n_s, p in ((50, 200, 0.05), (40, 40, 0.2), (50, 100, 0.9)):
        wilson = [[wilson_interval(Proportion(k, n)) for k in range(n + 1)] for n in (n_c, n_s)]
        (low_c, high_c), (low_s, high_s) = (np.array(side).T for side in wilson)
        rate_c, rate_s = np.arange(n_c + 1) / n_c, np.arange(n_s + 1) / n_s
        difference = rate_c[:, None] - rate_s
        low = difference - np.hypot((rate_c - low_c)[:, None], high_s - rate_s)
        high = difference + np.hypot((high_c - rate_c)[:, None], rate_s - low_s)
        chance = binom.pmf(np.arange(n_c + 1), n_c, p)[:, None] * binom.pmf(np.arange(n_s + 1), n_s, p)
        assert (chance * ((low <= 0) & (high >= 0))).sum() >= 0.94
        exact = [clopper_pearson_interval(Proportion(k, n_c)) for k in range(n_c + 1)]
        covers = np.array([low <= p <= high for low, high in exact])
        assert (binom.pmf(np.arange(n_c + 1), n_c, p) * covers).sum() >= 0.95


def test_many_rollouts_at_once_have_the_limits_of_each_alone() -> None:
    rng = np.random.default_rng(3)
    units = rng.integers(1, 3000, (25, 2, 2))
    events = rng.binomial(units, 0.03)
    low, high = ratio_limits(events[:, 0], units[:, 0], events[:, 1], units[:, 1])
    for row in range(len(units)):
        canary, stable = (
            [Proportion(int(k), int(n)) for k, n in zip(events[row, arm], units[row, arm], strict=True)]
            for arm in (0, 1)
        )
        assert ratio_interval(canary, stable) == pytest.approx((low[row], high[row]), rel=1e-7)
