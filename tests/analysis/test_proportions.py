"""Score tests of proportions: laws, edges, and their true size by enumeration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlog1py, xlogy
from scipy.stats import binom
from statsmodels.stats.contingency_tables import StratifiedTable

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.constrained import constrained_rates
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.proportions import (
    Proportion,
    boundary_test,
    score_p_values,
    score_statistic,
    score_test,
)

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=UP)


@st.composite
def proportions(draw: st.DrawFn, most: int = 10**9, fewest: int = 1) -> Proportion:
    units = draw(st.integers(fewest, 60) | st.integers(fewest, most))
    return Proportion(draw(st.integers(0, units) | st.sampled_from([0, units])), units)


@st.composite
def boundaries(draw: st.DrawFn) -> Boundary:
    direction = draw(st.sampled_from(Direction))
    margin = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5]) | st.floats(0, 0.9))
    floor = draw(st.sampled_from([0.0, 0.005]) | st.floats(0, 0.09))
    return Boundary(ratio=1 + margin if direction is UP else 1 - margin, floor=floor, direction=direction)


epochs = st.lists(st.tuples(proportions(), proportions()), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("events", "units", "message"),
    [
        (-1, 10, "events must be between 0 and units, got events=-1, units=10"),
        (11, 10, "got events=11, units=10"),
        (0, -1, "got events=0, units=-1"),
        (1.5, 10, "events must be a whole number, got 1.5"),
        (1, math.nan, "units must be a whole number, got nan"),
        (True, 10, "events must be a whole number, got True"),
        ("3", 10, "events must be a whole number, got '3'"),
        (1, 10**13, "units must be at most 1e\\+12"),
    ],
)
def test_an_impossible_proportion_is_refused(events: Any, units: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Proportion(events, units)


def test_proportions_add_up_and_an_empty_arm_has_no_rate() -> None:
    assert Proportion(1, 10) + Proportion(2, 30) == Proportion(3, 40)
    assert (Proportion(1, 10) + Proportion(2, 30)).rate == 0.075
    with pytest.raises(ValueError, match="an empty arm has no rate"):
        _ = Proportion(0, 0).rate


@given(proportions(), proportions(), boundaries())
def test_the_constrained_rates_are_the_most_likely_on_the_line(
    canary: Proportion, stable: Proportion, boundary: Boundary
) -> None:
    counts = [np.array([float(count)]) for count in (canary.events, canary.units, stable.events, stable.units)]
    c, s = (float(rate[0]) for rate in constrained_rates(*counts, ratio=boundary.ratio, shift=boundary.shift))
    low = max(0.0, -boundary.shift / boundary.ratio)
    high = min(1.0, (1 - boundary.shift) / boundary.ratio)
    assert low - 1e-12 <= s <= high + 1e-12
    assert c == pytest.approx(boundary.ratio * s + boundary.shift, abs=1e-12)

    def log_likelihood(rate: Any) -> Any:
        on_line = np.clip(boundary.ratio * rate + boundary.shift, 0, 1)
        return (
            xlogy(canary.events, on_line)
            + xlog1py(canary.units - canary.events, -on_line)
            + xlogy(stable.events, rate)
            + xlog1py(stable.units - stable.events, -rate)
        )

    # By brute force: no point of a grid over the line, nor close by, is more likely.
    grid = np.concatenate([np.linspace(low, high, 200), np.clip(s * np.linspace(0.9, 1.1, 51), low, high)])
    best, ours = float(log_likelihood(grid).max()), float(log_likelihood(min(max(s, low), high)))
    # A rate is a double: one rounding of it moves the likelihood of n units that never fail by n times as much.
    assert ours >= best - 1e-9 - 1e-13 * (canary.units + stable.units) - 1e-11 * abs(best)


@given(epochs, boundaries(), st.sampled_from(Claim))
def test_any_counts_give_a_p_value_without_a_warning(
    arms: list[tuple[Proportion, Proportion]], boundary: Boundary, claim: Claim
) -> None:
    canary, stable = [c for c, _ in arms], [s for _, s in arms]
    for test in (score_test, boundary_test):
        result = test(canary, stable, boundary, claim=claim)
        assert 0 <= result.p_value <= 1
        assert math.isfinite(result.statistic)


@given(epochs, boundaries())
def test_the_two_claims_are_opposite(arms: list[tuple[Proportion, Proportion]], boundary: Boundary) -> None:
    canary, stable = [c for c, _ in arms], [s for _, s in arms]
    beyond = score_test(canary, stable, boundary)
    within = score_test(canary, stable, boundary, claim=Claim.WITHIN)
    if beyond.statistic:
        assert beyond.p_value + within.p_value == pytest.approx(1)


@given(proportions(most=10**6), proportions(most=10**6))
def test_swapping_the_arms_turns_the_sign_of_a_test_of_equality(a: Proportion, b: Proportion) -> None:
    one, other = score_test([a], [b], EQUAL), score_test([b], [a], EQUAL)
    assert one.statistic == pytest.approx(-other.statistic, abs=1e-9)


@given(proportions(most=10**6), proportions(most=10**6), st.just(0.0) | st.floats(1e-6, 0.5))
def test_counting_the_units_without_the_event_turns_a_difference_around(
    canary: Proportion, stable: Proportion, floor: float
) -> None:
    up = Boundary(ratio=1.0, floor=floor, direction=UP)
    down = Boundary(ratio=1.0, floor=floor, direction=DOWN)
    without = [Proportion(arm.units - arm.events, arm.units) for arm in (canary, stable)]
    failures = score_test([canary], [stable], up)
    successes = score_test([without[0]], [without[1]], down)
    assert failures.statistic == pytest.approx(-successes.statistic, rel=1e-6, abs=1e-6)
    assert failures.p_value == pytest.approx(successes.p_value, abs=1e-6)


@given(st.integers(1, 400), st.integers(0, 50))
def test_one_more_event_in_the_canary_is_never_evidence_for_it(units: int, stable_events: int) -> None:
    boundary = Boundary(ratio=1.1, floor=0.005, direction=UP)
    events = np.arange(units + 1)[:, None]
    p_values = score_p_values(events, units, stable_events, 950, boundary)
    assert (np.diff(p_values) <= 1e-9).all()


def test_the_stratified_test_of_equality_is_cochrans() -> None:
    # statsmodels StratifiedTable.test_null_odds is Mantel-Haenszel's, whose variance has N - 1: the factor is removed.
    canary = [Proportion(21, 464), Proportion(11, 165), Proportion(8, 69)]
    stable = [Proportion(26, 453), Proportion(25, 174), Proportion(11, 70)]
    tables = [
        np.array([[c.events, c.units - c.events], [s.events, s.units - s.events]], dtype=float)
        for c, s in zip(canary, stable, strict=True)
    ]
    peer = StratifiedTable(tables).test_null_odds(correction=False).statistic
    variances = []
    for table in tables:
        rows, columns, n = table.sum(axis=1), table.sum(axis=0), table.sum()
        variances.append((rows.prod() * columns.prod() / n**2 / (n - 1), rows.prod() * columns.prod() / n**3))
    hypergeometric, binomial = (sum(column) for column in zip(*variances, strict=True))
    ours = score_test(canary, stable, EQUAL).statistic
    assert ours**2 == pytest.approx(peer * hypergeometric / binomial, rel=1e-12)


def test_a_ramp_with_a_drifting_base_rate_is_no_difference() -> None:
    # Both arms fail alike within each epoch; added up, the canary would look far worse (Simpson's paradox).
    canary = [Proportion(15, 500), Proportion(125, 2500), Proportion(300, 5000)]
    stable = [Proportion(285, 9500), Proportion(375, 7500), Proportion(300, 5000)]
    assert score_test(canary, stable, EQUAL).p_value == pytest.approx(0.5)
    pooled = score_test([sum(canary[1:], canary[0])], [sum(stable[1:], stable[0])], EQUAL)
    assert pooled.p_value < 1e-4


def test_an_epoch_with_an_empty_arm_adds_nothing() -> None:
    pair = [Proportion(30, 400)], [Proportion(300, 7600)]
    alone = score_test(*pair, EQUAL)
    beside = score_test([*pair[0], Proportion(0, 0)], [*pair[1], Proportion(50, 100)], EQUAL)
    assert beside == alone


def test_zero_in_stable_is_evidence_and_not_an_error() -> None:
    test = boundary_test([Proportion(3, 50)], [Proportion(0, 950)], EQUAL)
    assert test.method == "stratified conditional mid-p test"
    assert test.p_value == pytest.approx(0.5 * (50 * 49 * 48) / (1000 * 999 * 998))  # all three of 1000 in the canary


@pytest.mark.parametrize("events", ["none", "all"])
def test_no_event_or_only_events_is_no_evidence_for_harm(events: str) -> None:
    canary, stable = (Proportion(0 if events == "none" else n, n) for n in (50, 950))
    assert boundary_test([canary], [stable], EQUAL).p_value == 1
    assert score_test([canary], [stable], EQUAL).p_value == 1


def test_arms_that_cannot_be_compared_are_refused() -> None:
    one, empty = Proportion(1, 10), Proportion(0, 0)
    with pytest.raises(ValueError, match="no epoch has units in both arms"):
        score_test([one, empty], [empty, one], EQUAL)
    with pytest.raises(ValueError, match="the same epochs, got 2 of the canary and 1 of stable"):
        boundary_test([one, one], [one], EQUAL)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (([5], [4], [0], [9]), "canary needs whole numbers with 0 <= events <= units .* got events=5, units=4"),
        (([1], [4], [-1], [9]), "stable needs .* got events=-1, units=9"),
        (([1], [math.nan], [1], [9]), "canary needs .* got events=1, units=nan"),
        (([1], [math.inf], [1], [9]), "canary needs .* got events=1, units=inf"),
        (([1.5], [4], [1], [9]), "canary needs whole numbers"),
    ],
)
def test_impossible_counts_are_refused_by_arm_and_value(counts: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_p_values(counts[0], counts[1], counts[2], counts[3], EQUAL)


@pytest.mark.parametrize(("ratio", "shift"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (0.9, -0.9), (math.nan, 0.0)])
def test_a_line_without_room_is_refused(ratio: float, shift: float) -> None:
    with pytest.raises(ValueError, match="must be possible for some rate"):
        score_statistic(1, 10, 1, 10, ratio=ratio, shift=shift)


def test_many_rollouts_at_once_are_tested_as_each_alone() -> None:
    rng = np.random.default_rng(20)
    units = rng.integers(1, 2000, (40, 2, 3))
    events = rng.binomial(units, 0.07)
    boundary = Boundary(ratio=0.95, floor=0.005, direction=DOWN)
    together = score_p_values(events[:, 0], units[:, 0], events[:, 1], units[:, 1], boundary)
    for row, p_value in enumerate(together):
        canary, stable = (
            [Proportion(int(k), int(n)) for k, n in zip(events[row, arm], units[row, arm], strict=True)]
            for arm in (0, 1)
        )
        assert score_test(canary, stable, boundary).p_value == pytest.approx(p_value, rel=1e-12)


def _size(canary_units: int, stable_units: int, rate: float, boundary: Boundary, level: float) -> float:
    """Probability by enumeration that a canary on the boundary is called beyond it."""
    on_line = boundary.at(rate)
    columns = []
    for units, chance in ((canary_units, on_line), (stable_units, rate)):
        possible = np.arange(int(binom.ppf(1e-5, units, chance)), int(binom.ppf(1 - 1e-5, units, chance)) + 1)
        columns.append((possible, binom.pmf(possible, units, chance)))
    (k_c, chance_c), (k_s, chance_s) = columns
    called = np.array(
        [
            [
                boundary_test([Proportion(int(c), canary_units)], [Proportion(int(s), stable_units)], boundary).p_value
                <= level
                for s in k_s
            ]
            for c in k_c
        ]
    )
    return float(chance_c @ called @ chance_s)


@pytest.mark.parametrize(
    ("canary_units", "stable_units", "rate", "boundary", "level"),
    [
        (50, 950, 0.01, EQUAL, 0.10),
        (50, 950, 0.05, EQUAL, 0.05),
        (50, 950, 0.05, Boundary(ratio=1.1, floor=0.005, direction=UP), 0.10),
        (50, 950, 0.01, Boundary(ratio=1.1, floor=0.005, direction=UP), 0.10),
        (50, 950, 0.20, Boundary(ratio=1.1, floor=0.005, direction=UP), 0.05),
        (200, 1133, 0.05, Boundary(ratio=1.05, floor=0.005, direction=UP), 0.10),
        (200, 1133, 0.005, Boundary(ratio=1.05, floor=0.005, direction=UP), 0.10),
        (50, 950, 0.85, Boundary(ratio=0.95, floor=0.005, direction=DOWN), 0.10),
        (50, 950, 0.97, Boundary(ratio=0.98, floor=0.005, direction=DOWN), 0.10),
        (60, 60, 0.05, EQUAL, 0.05),
    ],
)
def test_the_true_size_is_near_the_level(
    canary_units: int, stable_units: int, rate: float, boundary: Boundary, level: float
) -> None:
    # statistics.md, section 1: z statistics at a 5/95 split have a true size of 6 to 7 % at a nominal 5 %.
    assert _size(canary_units, stable_units, rate, boundary, level) <= 1.1 * level + 0.003
