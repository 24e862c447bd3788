"""What so many conversations can prove: the design's table, the truth by enumeration, and bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.power import (
    Spread,
    can_prove,
    canary_units_needed,
    hours_to_decide,
    mean_power,
    proportion_power,
)
from agentcanary_analysis.proportions import score_p_values

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=UP)


# Statistics.md, section 1: base rate 5 %, one-sided .05, power .8, 5 % of traffic.
@pytest.mark.parametrize(("units", "detectable", "certifiable"), [(50, 3.8, 2.8), (200, 2.1, 1.83), (1000, 1.41, 1.36)])
def test_the_published_figures_are_those_of_walds_formula(units: int, detectable: float, certifiable: float) -> None:
    stage = can_prove(0.05, units, 0.05, spread=Spread.WALD)
    assert stage.detectable_ratio == pytest.approx(detectable, rel=0.011)
    assert stage.certifiable_ratio == pytest.approx(certifiable, rel=0.011)


def _enumerated_power(p_c: float, p_s: float, n_c: int, n_s: int, boundary: Boundary, claim: Claim) -> float:
    columns = []
    for units, chance in ((n_c, p_c), (n_s, p_s)):
        counts = np.arange(int(binom.ppf(1e-7, units, chance)), int(binom.ppf(1 - 1e-7, units, chance)) + 1)
        columns.append((counts, binom.pmf(counts, units, chance)))
    (k_c, chance_c), (k_s, chance_s) = columns
    p_values = score_p_values(k_c[:, None, None], n_c, k_s[None, :, None], n_s, boundary, claim=claim)
    return float(chance_c @ (p_values <= 0.05) @ chance_s)


@pytest.mark.parametrize("units", [50, 200, 1000])
def test_the_score_test_has_the_power_that_is_promised(units: int) -> None:
    stage = can_prove(0.05, units, 0.05)
    assert stage.detectable_ratio is not None
    assert stage.certifiable_ratio is not None
    detects = _enumerated_power(stage.detectable_ratio * 0.05, 0.05, units, 19 * units, EQUAL, Claim.BEYOND)
    margin = Boundary(ratio=stage.certifiable_ratio, floor=0.0, direction=UP)
    certifies = _enumerated_power(0.05, 0.05, units, 19 * units, margin, Claim.WITHIN)
    assert detects == pytest.approx(0.8, abs=0.025)
    assert certifies == pytest.approx(0.8, abs=0.025)


@given(st.floats(0.001, 0.5), st.integers(20, 10**6), st.floats(0.01, 0.99), st.sampled_from(Spread))
def test_more_conversations_prove_more(rate: float, units: int, weight: float, spread: Spread) -> None:
    few, many = can_prove(rate, units, weight, spread=spread), can_prove(rate, 2 * units, weight, spread=spread)
    for less, more in (
        (few.detectable_ratio, many.detectable_ratio),
        (few.certifiable_ratio, many.certifiable_ratio),
    ):
        assert less is None or (more is not None and 1 < more <= less)


def test_where_less_is_worse_the_ratios_are_below_one() -> None:
    stage = can_prove(0.85, 500, 0.15, direction=DOWN)
    assert stage.detectable_ratio is not None
    assert stage.certifiable_ratio is not None
    assert 0.9 < stage.detectable_ratio < 1
    assert 0.9 < stage.certifiable_ratio < 1
    with_floor = can_prove(0.85, 500, 0.15, direction=DOWN, floor=0.005)
    assert with_floor.certifiable_ratio is not None
    assert with_floor.certifiable_ratio > stage.certifiable_ratio  # the floor gives half a point of room


def test_a_floor_makes_harm_harder_to_see_and_safety_easier() -> None:
    bare, floored = can_prove(0.01, 1000, 0.5), can_prove(0.01, 1000, 0.5, floor=0.005)
    assert bare.detectable_ratio is not None
    assert bare.certifiable_ratio is not None
    assert floored.detectable_ratio is not None
    assert floored.certifiable_ratio is not None
    assert floored.detectable_ratio > bare.detectable_ratio
    assert floored.certifiable_ratio < bare.certifiable_ratio


def test_what_no_number_can_prove_is_none() -> None:
    assert can_prove(0.9, 5, 0.5).detectable_ratio is None
    assert can_prove(0.9, 5, 0.5).certifiable_ratio is None
    assert canary_units_needed(0.05, 0.05, 0.5, EQUAL) is None
    assert canary_units_needed(0.05, 0.10, 0.5, EQUAL) is None


@given(st.floats(0.01, 0.3), st.floats(1.2, 2.5), st.floats(0.02, 0.98))
def test_the_needed_number_has_the_wanted_power(rate: float, ratio: float, weight: float) -> None:
    units = canary_units_needed(rate * ratio, rate, weight, EQUAL, power=0.9)
    assert units is not None
    power = proportion_power(rate * ratio, rate, units, units * (1 - weight) / weight, EQUAL)
    assert power == pytest.approx(0.9, abs=1e-9)


def test_the_time_to_decide_includes_the_horizon() -> None:
    assert hours_to_decide(1000, 0.05, 400, horizon=0) == 50
    assert hours_to_decide(0, 1.0, 400, horizon=3600) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_rate": 0.0}, r"base_rate must be between 0 and 1, got 0.0 \(write 0.05 for 5 %\)"),
        ({"base_rate": 5}, "base_rate must be between 0 and 1, got 5"),
        ({"base_rate": math.nan}, "base_rate must be between 0 and 1"),
        ({"canary_units": 0}, "canary_units must be positive, got 0"),
        ({"canary_units": math.inf}, "canary_units must be positive"),
        ({"weight": 0.0}, "weight must be between 0 and 1"),
        ({"weight": 1.0}, "without an arm there is no comparison"),
        ({"alpha": 0.0}, "alpha must be between 0 and 0.5"),
        ({"alpha": 5}, "alpha must be between 0 and 0.5, got 5"),
        ({"power": 0.2}, "power must be between 0.5 and 1, got 0.2"),
        ({"floor": -0.005}, "floor must leave room beyond the base rate 0.05, got -0.005"),
        ({"floor": 0.95}, "floor must leave room"),
    ],
)
def test_a_plan_with_an_impossible_number_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        can_prove(**({"base_rate": 0.05, "canary_units": 200, "weight": 0.05} | arguments))


def test_impossible_designs_are_refused() -> None:
    with pytest.raises(ValueError, match="canary_rate must be between 0 and 1, got 1"):
        proportion_power(1, 0.5, 10, 10, EQUAL)
    with pytest.raises(ValueError, match="both arms need units, got 0 and 10"):
        proportion_power(0.5, 0.5, 0, 10, EQUAL)
    with pytest.raises(ValueError, match="need deviation > 0 and units >= 2"):
        mean_power(1.0, 0.0, 20)
    with pytest.raises(ValueError, match=r"need a weight in \(0, 1\]"):
        hours_to_decide(100, 0.0, 400)
