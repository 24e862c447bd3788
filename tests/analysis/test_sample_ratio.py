from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import comb

from agentcanary_analysis.sample_ratio import ALARM, log_e_sample_ratio

# savvi 0.2.0, class Multinomial (Lindon & Malek 2022), k = 100: canary, stable, weight, odds.
SAVVI = {
    "savvi_5200_4800": (5200, 4800, 0.5, 274.13300594668357),
    "savvi_9400_600": (600, 9400, 0.05, 1667.5067116910377),
}


@pytest.mark.parametrize(("canary", "stable", "weight", "odds"), SAVVI.values(), ids=SAVVI)
def test_the_e_value_is_savvis_posterior_odds(canary: int, stable: int, weight: float, odds: float) -> None:
    assert math.exp(log_e_sample_ratio([[canary]], [[stable]], weight)[0]) == pytest.approx(odds, rel=1e-8)


@pytest.mark.parametrize("weight", [0.005, 0.05, 0.5, 0.9])
def test_the_expected_e_value_under_the_design_is_exactly_one(weight: float) -> None:
    units = 30
    canary = np.arange(units + 1)
    chance = comb(units, canary) * weight**canary * (1 - weight) ** (units - canary)
    e = np.exp(log_e_sample_ratio(canary[:, None], units - canary[:, None], weight))
    assert chance @ e == pytest.approx(1, rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=5))
def test_epochs_of_equal_weight_are_one(epochs: list[tuple[int, int]]) -> None:
    canary, stable = zip(*epochs, strict=True)
    apart = log_e_sample_ratio([canary], [stable], 0.15)
    np.testing.assert_allclose(apart, log_e_sample_ratio([[sum(canary)]], [[sum(stable)]], 0.15), atol=1e-7)


def test_swapping_the_arms_changes_nothing() -> None:
    here = log_e_sample_ratio([[130]], [[2000]], 0.05)
    assert here == pytest.approx(log_e_sample_ratio([[2000]], [[130]], 0.95))


def test_epochs_of_different_weight_are_multiplied() -> None:
    both = log_e_sample_ratio([[60, 300]], [[950, 800]], [[0.05, 0.25]])
    each = log_e_sample_ratio([[60]], [[950]], 0.05) + log_e_sample_ratio([[300]], [[800]], 0.25)
    assert both == pytest.approx(each)


def test_epochs_without_a_choice_are_in_no_test() -> None:
    assert log_e_sample_ratio([[500, 7]], [[3, 900]], [[1.0, 0.0]])[0] == 0


def test_a_batch_is_its_rows() -> None:
    rng = np.random.default_rng(3)
    canary, stable = rng.integers(0, 900, (2, 20, 3))
    weights = rng.choice([0.0, 0.05, 0.5, 1.0], (20, 3))
    rows = [log_e_sample_ratio(canary[[i]], stable[[i]], weights[[i]])[0] for i in range(20)]
    np.testing.assert_allclose(log_e_sample_ratio(canary, stable, weights), rows)


def test_a_design_that_is_kept_alarms_in_at_most_one_rollout_in_a_thousand_and_one_that_is_not_does_soon() -> None:
    rng = np.random.default_rng(4)
    units = np.cumsum(rng.binomial(100, 0.05, (4000, 200)), axis=1)
    total = 100 * np.arange(1, 201)
    ever = np.max(
        [log_e_sample_ratio(units[:, [look]], total[look] - units[:, [look]], 0.05) for look in range(200)], axis=0
    )
    # The 1e-4 point of a binomial of 4000 at 1/1000 is 13.
    assert (ever >= math.log(ALARM)).sum() <= 13
    off = np.cumsum(rng.binomial(100, 0.06, (200, 200)), axis=1)[:, [-1]]
    assert (log_e_sample_ratio(off, total[-1] - off, 0.05) >= math.log(ALARM)).mean() > 0.95


def test_a_billion_units_are_no_trouble() -> None:
    assert log_e_sample_ratio([[50_000_000]], [[950_000_000]], 0.05)[0] < 0
    assert log_e_sample_ratio([[51_000_000]], [[950_000_000]], 0.05)[0] > 1000


@pytest.mark.parametrize(
    ("canary", "stable", "weight", "message"),
    [
        (-1, 5, 0.5, "canary_units must be finite and not negative, got -1"),
        (1, math.nan, 0.5, "stable_units must be finite and not negative, got nan"),
        (1, 5, 50, r"weight must be between 0 and 1, got \[\[50.0\]\] \(write 0.05 for 5 %\)"),
    ],
)
def test_impossible_numbers_are_refused(canary: float, stable: float, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_e_sample_ratio([[canary]], [[stable]], weight)


def test_an_impossible_concentration_is_refused() -> None:
    with pytest.raises(ValueError, match="concentration must be positive and finite, got 0"):
        log_e_sample_ratio([[1]], [[1]], 0.5, concentration=0)
