"""Group-sequential bounds spend what they say; published values are in test_reference_values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import multivariate_normal

from agentcanary_analysis.group_sequential import (
    Spending,
    crossing_probabilities,
    hwang_shih_decani_spending,
    obrien_fleming_bounds,
    obrien_fleming_spending,
    pocock_bounds,
    pocock_spending,
    power_spending,
    spending_bounds,
)

FAMILIES = {
    "obrien-fleming": obrien_fleming_spending(0.05),
    "pocock": pocock_spending(0.05),
    "power": power_spending(0.05, 2.0),
    "hwang-shih-decani": hwang_shih_decani_spending(0.05, -4.0),
    "uniform": hwang_shih_decani_spending(0.05, 0.0),
}

times = st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True).map(lambda ks: [k / 50 for k in sorted(ks)])


@settings(max_examples=25, deadline=None)
@given(times, st.sampled_from(sorted(FAMILIES)))
def test_by_each_look_just_so_much_is_spent(looks: list[float], family: str) -> None:
    spending = FAMILIES[family]
    bounds = spending_bounds(looks, spending)
    spent = crossing_probabilities(bounds, looks)
    assert spent == pytest.approx([spending(time) for time in looks], abs=1e-8)


@pytest.mark.parametrize("spending", FAMILIES.values(), ids=FAMILIES)
def test_all_of_alpha_is_spent_at_the_end_and_it_never_falls(spending: Spending) -> None:
    assert spending(1.0) == pytest.approx(0.05)
    grid = [spending(step / 100) for step in range(1, 101)]
    assert grid == sorted(grid)
    assert grid[0] >= 0


def test_one_look_is_the_ordinary_test() -> None:
    (bound,) = spending_bounds([1.0], pocock_spending(0.05))
    assert bound == pytest.approx(float(ndtri(0.95)))
    assert obrien_fleming_bounds([1.0], 0.05) == pytest.approx((bound,))


def test_probabilities_agree_with_the_multivariate_normal() -> None:
    # Oracle: scipy's integral of the joint density of z at the looks, whose correlation is sqrt(t_i / t_j).
    looks, bounds, drift = [0.2, 0.5, 1.0], [2.5, 2.2, 1.9], 1.2
    root = np.sqrt(looks)
    correlation = np.minimum.outer(root, root) / np.maximum.outer(root, root)
    inside = multivariate_normal(drift * root, correlation).cdf(bounds, rng=np.random.default_rng(1))
    assert crossing_probabilities(bounds, looks, drift=drift)[-1] == pytest.approx(1 - inside, abs=1e-4)


def test_a_look_that_comes_right_after_another_is_legal() -> None:
    bounds = spending_bounds([0.5, 0.501, 1.0], pocock_spending(0.05))
    assert all(math.isfinite(bound) for bound in bounds)
    assert crossing_probabilities(bounds, [0.5, 0.501, 1.0])[-1] == pytest.approx(0.05, abs=1e-6)


def test_where_nothing_may_be_spent_the_bound_is_infinite() -> None:
    assert spending_bounds([0.001, 1.0], obrien_fleming_spending(0.025))[0] == math.inf


def test_pocock_is_flat_and_obrien_fleming_falls() -> None:
    looks = [0.25, 0.5, 0.75, 1.0]
    assert len(set(pocock_bounds(looks, 0.05))) == 1
    classic = obrien_fleming_bounds(looks, 0.05)
    assert classic == tuple(sorted(classic, reverse=True))
    assert classic[0] == pytest.approx(2 * classic[-1])


@pytest.mark.parametrize(
    "looks", [[], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5005], [0.8, 0.4], [0.5, 1.2], [math.nan], [-0.5, 1.0]]
)
def test_times_that_do_not_rise_are_refused(looks: list[float]) -> None:
    with pytest.raises(ValueError, match=r"information times must rise within \(0, 1\]"):
        spending_bounds(looks, pocock_spending(0.05))


def test_misuse_is_refused() -> None:
    for family in (obrien_fleming_spending, pocock_spending):
        with pytest.raises(ValueError, match=r"alpha must be between 0 and 0\.5, got 5"):
            family(5)
    with pytest.raises(ValueError, match="exponent of a spending function must be positive, got 0"):
        power_spending(0.05, 0)
    with pytest.raises(ValueError, match="gamma must be a number"):
        hwang_shih_decani_spending(0.05, math.inf)
    with pytest.raises(ValueError, match="a spending function must not fall"):
        spending_bounds([0.5, 1.0], lambda time: 0.05 * (1.1 - time))
    with pytest.raises(ValueError, match=r"classic bounds need all looks up to time 1, got the last at 0\.5"):
        pocock_bounds([0.25, 0.5], 0.05)
    with pytest.raises(ValueError, match="one bound a look, got 1 and 2 bounds for 2 looks"):
        crossing_probabilities([2.0], [0.5, 1.0])
    with pytest.raises(ValueError, match="each lower bound must lie below its bound"):
        crossing_probabilities([2.0], [1.0], lower=[3.0])
    with pytest.raises(ValueError, match="drift is an expected z value"):
        crossing_probabilities([2.0], [1.0], drift=math.nan)
