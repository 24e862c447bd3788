"""The true power of the one-look test: against simulation, and what the formulas promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.enumerated_power import enumerated_power
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.power import can_prove, proportion_power
from agentcanary_analysis.proportions import Proportion, boundary_test

EQUAL = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)


def test_enumeration_agrees_with_simulation() -> None:
    # Rare enough that half of the outcomes take the exact test.
    rng = np.random.default_rng(8)
    rejected = 0
    for k_c, k_s in zip(rng.binomial(60, 0.15, 2000), rng.binomial(240, 0.06, 2000), strict=True):
        arms = [Proportion(int(k_c), 60)], [Proportion(int(k_s), 240)]
        rejected += boundary_test(*arms, EQUAL).p_value <= 0.05
    # Three standard errors of 2,000 runs.
    assert enumerated_power(0.15, 0.06, 60, 240, EQUAL) == pytest.approx(rejected / 2000, abs=0.034)


@pytest.mark.parametrize(("units", "detects", "certifies"), [(50, 0.76, 0.83), (200, 0.80, 0.81), (1000, 0.80, 0.80)])
def test_planning_on_the_line_keeps_its_promise(units: int, detects: float, certifies: float) -> None:
    stage = can_prove(0.05, units, 0.05)
    assert stage.detectable_ratio is not None
    assert stage.certifiable_ratio is not None
    margin = Boundary(ratio=stage.certifiable_ratio, floor=0.0, direction=Direction.UP_IS_WORSE)
    found = enumerated_power(stage.detectable_ratio * 0.05, 0.05, units, 19 * units, EQUAL)
    proven = enumerated_power(0.05, 0.05, units, 19 * units, margin, claim=Claim.WITHIN)
    assert (found, proven) == pytest.approx((detects, certifies), abs=0.006)


def test_the_size_is_near_its_level_also_where_events_are_few() -> None:
    # Statistics.md, section 1: a z test has 6 to 7 % there.
    for units, rate in ((50, 0.05), (200, 0.01), (200, 0.05)):
        assert 0.02 <= enumerated_power(rate, rate, units, 19 * units, EQUAL) <= 0.06


def test_the_formula_is_the_limit_of_many_events() -> None:
    formula = proportion_power(0.25, 0.2, 600, 600, EQUAL)
    assert enumerated_power(0.25, 0.2, 600, 600, EQUAL) == pytest.approx(formula, abs=0.02)


def test_certain_rates_are_legal() -> None:
    assert enumerated_power(1.0, 0.0, 10, 10, EQUAL) == pytest.approx(1.0)
    assert enumerated_power(0.0, 0.0, 10, 10, EQUAL) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"canary_rate": 5}, r"canary_rate must be between 0 and 1, got 5 \(write 0.05 for 5 %\)"),
        ({"stable_rate": math.nan}, "stable_rate must be between 0 and 1, got nan"),
        ({"canary_units": 0}, "canary_units must be positive, got 0"),
        ({"stable_units": -3}, "events must be between 0 and units"),
        ({"canary_units": 50.5}, "units must be a whole number, got 50.5"),
        ({"alpha": 0}, "alpha must be between 0 and 0.5, got 0"),
        ({"canary_units": 10**9, "stable_units": 10**9}, "too many to enumerate; use proportion_power"),
    ],
)
def test_impossible_designs_are_refused(arguments: dict[str, Any], message: str) -> None:
    design: dict[str, Any] = {"canary_rate": 0.1, "stable_rate": 0.1, "canary_units": 50, "stable_units": 50}
    with pytest.raises(ValueError, match=message):
        enumerated_power(**(design | arguments), boundary=EQUAL)
