"""Scheduled looks: their levels, their size by simulation, and latching."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.group_sequential import (
    Spending,
    obrien_fleming_spending,
    pocock_spending,
    power_spending,
)
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.proportions import score_p_values
from agentcanary_analysis.scheduled_looks import information_time, look_levels, scheduled_looks

SPENDING = {
    "obrien-fleming": obrien_fleming_spending(0.05),
    "pocock": pocock_spending(0.05),
    "power": power_spending(0.05, 2.0),
}
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)


def test_one_look_has_the_whole_level() -> None:
    assert look_levels([1.0], SPENDING["pocock"]) == pytest.approx((0.05,))
    assert scheduled_looks([1.0], [0.05 - 1e-9], SPENDING["pocock"])[0].crossed
    assert not scheduled_looks([1.0], [0.05 + 1e-9], SPENDING["pocock"])[0].crossed


def test_a_decision_stays_and_later_looks_do_not_change_earlier_levels() -> None:
    p_values = [0.3, 0.001, 0.9, 0.9]
    looks = scheduled_looks([0.25, 0.5, 0.75, 1.0], p_values, SPENDING["obrien-fleming"])
    assert [look.crossed for look in looks] == [False, True, False, False]
    assert [look.decided for look in looks] == [False, True, True, True]
    for upto in range(1, 5):
        so_far = scheduled_looks([0.25, 0.5, 0.75, 1.0][:upto], p_values[:upto], SPENDING["obrien-fleming"])
        assert [look.level for look in so_far] == pytest.approx([look.level for look in looks[:upto]])


def test_where_nothing_may_be_spent_nothing_is_proven() -> None:
    first = scheduled_looks([0.001], [0.0], SPENDING["obrien-fleming"])[0]
    assert (first.level, first.crossed, first.decided) == (0.0, False, False)


def _share_decided(
    rng: np.random.Generator, runs: int, rate: float, ratio: float, boundary: Boundary, claim: Claim, spending: Spending
) -> float:
    """Share of rollouts decided at five looks over a ramp with a drifting base rate, epochs kept apart."""
    weights, rates, units = (0.05, 0.25, 0.5), (rate, 1.3 * rate, 1.6 * rate), 4000
    canary, stable = ([round(units * share) for share in shares] for shares in (weights, [1 - w for w in weights]))
    # Looks after the first epoch, and at the middle and the end of the other two.
    parts = [(1, 0, 0), (1, 0.5, 0), (1, 1, 0), (1, 1, 0.5), (1, 1, 1)]
    arms = [
        [
            np.stack([rng.binomial(n // 2, r * base, runs) for _ in range(2)]).cumsum(axis=0)
            for n, base in zip(numbers, rates, strict=True)
        ]
        for numbers, r in ((canary, ratio), (stable, 1.0))
    ]
    times, p_values = [], []
    planned = sum(1 / (1 / c + 1 / s) for c, s in zip(canary, stable, strict=True))
    for part in parts:
        columns = []
        for events, numbers in zip(arms, (canary, stable), strict=True):
            halves = [round(2 * share) for share in part]
            columns += [
                np.stack([np.zeros(runs) if h == 0 else e[h - 1] for e, h in zip(events, halves, strict=True)], axis=1),
                np.array([n // 2 * h for n, h in zip(numbers, halves, strict=True)]),
            ]
        k_c, n_c, k_s, n_s = columns
        times.append(information_time(n_c, n_s, planned))
        p_values.append(score_p_values(k_c, n_c, k_s, n_s, boundary, claim=claim))
    runs_p = np.stack(p_values, axis=1)
    # The same looks in every run, so their levels are computed once.
    crossed: NDArray[np.bool_] = np.any(runs_p <= np.array(look_levels(times, spending)), axis=1)
    for run, p_of_looks in enumerate(runs_p[:20].tolist()):
        assert scheduled_looks(times, p_of_looks, spending)[-1].decided == crossed[run]
    return float(crossed.mean())


@pytest.mark.parametrize("spending", SPENDING.values(), ids=SPENDING)
def test_a_harmless_canary_is_called_harmful_as_often_as_the_budget_says(spending: Spending) -> None:
    size = _share_decided(np.random.default_rng(3), 4000, 0.10, 1.0, EQUAL, Claim.BEYOND, spending)
    # 5 % give or take three standard errors of 4,000 runs.
    assert 0.039 <= size <= 0.061


def test_a_canary_on_the_margin_is_called_safe_as_often_as_the_budget_says() -> None:
    margin = Boundary(ratio=1.2, floor=0.0, direction=Direction.UP_IS_WORSE)
    spending = SPENDING["obrien-fleming"]
    size = _share_decided(np.random.default_rng(4), 4000, 0.10, 1.2, margin, Claim.WITHIN, spending)
    assert 0.037 <= size <= 0.061


def test_harm_is_found_and_looking_five_times_without_a_budget_deceives() -> None:
    rng = np.random.default_rng(5)
    assert _share_decided(rng, 300, 0.10, 1.35, EQUAL, Claim.BEYOND, SPENDING["obrien-fleming"]) > 0.9
    peeked = _share_decided(rng, 2000, 0.10, 1.0, EQUAL, Claim.BEYOND, lambda time: 0.14 * time)
    assert peeked > 0.10


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=5))
def test_information_never_exceeds_the_smaller_arm(epochs: list[tuple[int, int]]) -> None:
    canary, stable = [c for c, _ in epochs], [s for _, s in epochs]
    share = information_time(canary, stable, 1e10)
    assert 0 <= share * 1e10 <= sum(map(min, epochs)) + 1e-6


def test_information_is_capped_at_the_plan_and_needs_both_arms() -> None:
    assert information_time([1000], [1000], 100) == 1.0
    assert information_time([0, 100], [50, 0], 100) == 0.0
    assert information_time([100], [100], 100, ratio=2.0) == pytest.approx(0.2)


def test_misuse_is_refused() -> None:
    spending = SPENDING["pocock"]
    with pytest.raises(ValueError, match="one p-value a look, got 1 for 2 looks"):
        scheduled_looks([0.5, 1.0], [0.1], spending)
    for p_value in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match=r"a p-value lies between 0 and 1, got .* at look 1"):
            scheduled_looks([0.5, 1.0], [0.1, p_value], spending)
    with pytest.raises(ValueError, match=r"information times must rise within \(0, 1\]"):
        scheduled_looks([1.0, 0.5], [0.1, 0.1], spending)
    with pytest.raises(ValueError, match="units must be finite and not negative"):
        information_time([-1], [1], 10)
    with pytest.raises(ValueError, match="the same epochs, got the shapes"):
        information_time([1, 2], [1], 10)
    with pytest.raises(ValueError, match="planned and ratio must be positive, got planned=0"):
        information_time([1], [1], 0)
