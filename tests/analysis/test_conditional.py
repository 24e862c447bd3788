"""The conditional test of few events, against independent implementations and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, fisher_exact, hypergeom, nchypergeom_fisher

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.conditional import conditional_p_value
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
EQUAL = Boundary(ratio=1.0, floor=0.0, direction=UP)

tables = st.tuples(st.integers(1, 80), st.integers(1, 300)).flatmap(
    lambda units: st.tuples(st.integers(0, units[0]), st.just(units[0]), st.integers(0, units[1]), st.just(units[1]))
)


@given(tables)
def test_one_epoch_at_equality_is_fishers_test(table: tuple[int, int, int, int]) -> None:
    # Oracle: scipy.stats.fisher_exact.
    k_c, n_c, k_s, n_s = table
    cross = np.array([[k_c, n_c - k_c], [k_s, n_s - k_s]])
    down = Boundary(ratio=1.0, floor=0.0, direction=DOWN)
    more = conditional_p_value([k_c], [n_c], [k_s], [n_s], EQUAL, share_of_equal=1.0)
    fewer = conditional_p_value([k_c], [n_c], [k_s], [n_s], down, share_of_equal=1.0)
    assert more == pytest.approx(fisher_exact(cross, alternative="greater").pvalue, rel=1e-9, abs=1e-14)
    assert fewer == pytest.approx(fisher_exact(cross, alternative="less").pvalue, rel=1e-9, abs=1e-14)


@given(tables, st.floats(1.0, 3.0))
def test_on_a_ratio_it_is_the_noncentral_hypergeometric_tail(table: tuple[int, int, int, int], ratio: float) -> None:
    # Oracle: scipy.stats.nchypergeom_fisher at the odds ratio that the line has at the epoch's own total of events.
    k_c, n_c, k_s, n_s = table
    events = k_c + k_s
    stable = min(events / (n_s + ratio * n_c), 1 / ratio)
    if not 0 < ratio * stable < 1:
        return
    odds_ratio = ratio * (1 - stable) / (1 - ratio * stable)
    line = Boundary(ratio=ratio, floor=0.0, direction=UP)
    ours = conditional_p_value([k_c], [n_c], [k_s], [n_s], line, share_of_equal=1.0)
    peer = nchypergeom_fisher(n_c + n_s, n_c, events, odds_ratio).sf(k_c - 1)
    assert ours == pytest.approx(peer, rel=1e-6, abs=1e-9)


def test_two_epochs_are_convolved_and_not_added() -> None:
    first, second = hypergeom(1000, 3, 50), hypergeom(400, 2, 100)
    exact = sum(
        first.pmf(a) * second.pmf(b) * (1.0 if a + b > 3 else 0.5) for a in range(4) for b in range(3) if a + b >= 3
    )
    assert conditional_p_value([2, 1], [50, 100], [1, 1], [950, 300], EQUAL) == pytest.approx(exact, rel=1e-12)


@given(tables, st.sampled_from([UP, DOWN]), st.floats(0, 0.3), st.floats(0, 0.05))
def test_the_mid_p_values_of_both_claims_add_up_to_one(
    table: tuple[int, int, int, int], direction: Direction, margin: float, floor: float
) -> None:
    line = Boundary(ratio=1 + margin if direction is UP else 1 - margin, floor=floor, direction=direction)
    k_c, n_c, k_s, n_s = ([value] for value in table)
    beyond = conditional_p_value(k_c, n_c, k_s, n_s, line)
    within = conditional_p_value(k_c, n_c, k_s, n_s, line, claim=Claim.WITHIN)
    assert 0 <= beyond <= 1
    assert 0 <= within <= 1
    if beyond + within < 2:  # both are one where nothing can be learnt
        assert beyond + within == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("floor", [0.0, 0.005])
def test_a_floor_and_a_margin_ask_for_more(floor: float) -> None:
    strict = conditional_p_value([3], [50], [2], [950], EQUAL)
    loose = conditional_p_value([3], [50], [2], [950], Boundary(ratio=1.1, floor=floor, direction=UP))
    assert loose > strict


def test_a_billion_units_are_no_more_work() -> None:
    rare = conditional_p_value([5], [10**6], [1000], [10**9], EQUAL)
    split = binom(1005, 10**6 / (10**6 + 10**9))  # what the hypergeometric distribution is at such sizes
    assert rare == pytest.approx(split.sf(5) + 0.5 * split.pmf(5), rel=1e-4)
    assert conditional_p_value([0], [10**6], [10**6], [10**9], EQUAL) == pytest.approx(1.0)
    four = [[5] * 4, [10**9] * 4, [5 * 10**8] * 4, [10**9] * 4]
    assert conditional_p_value(four[0], four[1], four[2], four[3], EQUAL) == pytest.approx(1.0)
    assert conditional_p_value(four[0], four[1], four[2], four[3], EQUAL, claim=Claim.WITHIN) == pytest.approx(0.0)


def test_nothing_and_everything_teach_nothing() -> None:
    for k_c, k_s in ((0, 0), (50, 950)):
        assert conditional_p_value([k_c], [50], [k_s], [950], EQUAL) == 1.0
        assert conditional_p_value([k_c], [50], [k_s], [950], EQUAL, claim=Claim.WITHIN) == 1.0


def test_an_event_where_the_line_allows_none_is_as_improbable_as_it_looks() -> None:
    # On the line all events belong to the canary (fewer than the floor alone allows), and one is stable's.
    line = Boundary(ratio=1.0, floor=0.2, direction=UP)
    assert conditional_p_value(np.array([0]), [50], [1], [50], line) == 1.0
    assert conditional_p_value([0], [50], [1], [50], line, claim=Claim.WITHIN) == 0.0
