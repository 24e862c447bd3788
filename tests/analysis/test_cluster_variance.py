"""Variances by cluster and tests of quantiles, against an independent implementation, laws and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import binom

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.cluster_variance import (
    Clustered,
    Levels,
    clustered_p_values,
    clustered_ratio_interval,
    levels,
)
from agentcanary_analysis.histogram import bin_of
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.quantile_checks import QuantileTest, quantile_test
from agentcanary_analysis.quantile_ratios import stratified_quantile_ratio_interval

EQUAL = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)


def conversations(seed: int = 1, users: int = 60, rows: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arm, user and value of each; users have a fate of their own and conversations in both arms."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    arm = (rng.random(rows) < 0.3).astype(np.int64)
    fate = rng.normal(0, 1, users)
    return arm, user, fate[user] + rng.normal(0, 1, rows) + 10


def cells(arm: np.ndarray, user: np.ndarray, value: np.ndarray, epoch: np.ndarray | None = None) -> Clustered:
    epochs = np.zeros(arm.size, dtype=np.int64) if epoch is None else epoch
    return Clustered(arm=arm, epoch=epochs, cluster=user, n=np.ones(arm.size), total=value)


def found(values: Clustered) -> Levels:
    made = levels(values)
    assert isinstance(made, Levels)
    return made


def test_the_variance_is_that_of_a_regression_with_clustered_errors() -> None:
    """statsmodels 0.15, OLS on the arm with cov_type="cluster" and without its small-sample factor."""
    arm, user, value = conversations()
    made = found(cells(arm, user, value))
    fit = sm.OLS(value, sm.add_constant(arm.astype(float))).fit(
        cov_type="cluster", cov_kwds={"groups": user, "use_correction": False}
    )
    clusters = np.unique(user).size
    assert made.canary - made.stable == pytest.approx(float(fit.params[1]), rel=1e-12)
    assert made.variance(1, -1) == pytest.approx(float(fit.bse[1]) ** 2 * clusters / (clusters - 1), rel=1e-9)


def test_one_conversation_a_cluster_is_welch_without_its_correction() -> None:
    rng = np.random.default_rng(2)
    arm = np.repeat([0, 1], [300, 200])
    value = rng.normal(5, 1, 500)
    made = found(cells(arm, np.arange(500), value))
    expected = sum(float(((one - one.mean()) ** 2).sum()) / one.size**2 for one in (value[:300], value[300:]))
    assert made.variance(1, -1) == pytest.approx(expected * 500 / 499, rel=1e-12)
    # Kish's number of the smaller arm, less one.
    assert made.freedom == pytest.approx(199)


def test_swapping_the_arms_swaps_the_sides() -> None:
    arm, user, value = conversations()
    forth, back = found(cells(arm, user, value)), found(cells(1 - arm, user, value))
    beyond, within = clustered_p_values(forth, EQUAL)
    assert clustered_p_values(back, EQUAL) == pytest.approx((within, beyond), abs=1e-12)
    there, here = clustered_ratio_interval(forth), clustered_ratio_interval(back)
    assert isinstance(there, Limits)
    assert isinstance(here, Limits)
    assert 1 + there.low == pytest.approx(1 / (1 + here.high), rel=1e-9)


def test_epochs_are_compared_each_within_itself() -> None:
    arm, user, value = conversations(rows=1200)
    epoch = (np.arange(1200) >= 600).astype(np.int64)
    shifted = value + 100 * epoch
    one, other = found(cells(arm, user, value, epoch)), found(cells(arm, user, shifted, epoch))
    assert other.canary - other.stable == pytest.approx(one.canary - one.stable, abs=1e-9)
    assert other.variance(1, -1) == pytest.approx(one.variance(1, -1), rel=1e-9)


@pytest.mark.parametrize(
    ("arm", "user", "value", "why"),
    [
        ([0] * 30, range(30), range(30), Unknown.EMPTY_ARM),
        ([0, 1] * 9, list(range(9)) * 2, range(18), Unknown.TOO_FEW_CLUSTERS),
        ([0, 1] * 20, range(40), [3.0] * 40, Unknown.CONSTANT),
    ],
    ids=["an empty arm", "few clusters", "constant values"],
)
def test_what_cannot_be_compared_has_a_name(arm: list[int], user: list[int], value: list[float], why: Unknown) -> None:
    assert levels(cells(np.array(arm), np.array(user), np.array(value, dtype=float))) is why


def test_the_p_value_of_a_quantile_is_the_level_at_which_its_interval_excludes_the_boundary() -> None:
    rng = np.random.default_rng(4)

    def histogram(values: np.ndarray) -> dict[int, int]:
        numbers, counts = np.unique([bin_of(value) for value in values], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    stable, canary = histogram(rng.lognormal(0, 1, 3000)), histogram(1.25 * rng.lognormal(0, 1, 1000))
    tested = quantile_test([canary], [stable], 0.95, 1.0, Direction.UP_IS_WORSE)
    assert isinstance(tested, QuantileTest)
    assert 0 < tested.beyond < 0.2
    assert tested.within == 1 - tested.beyond
    for level, excludes in ((tested.beyond * 1.01, True), (tested.beyond * 0.99, False)):
        interval = stratified_quantile_ratio_interval([canary], [stable], 0.95, confidence=1 - 2 * level)
        assert isinstance(interval, Limits)
        assert (interval.low > 1.0) is excludes
    turned = quantile_test([canary], [stable], 0.95, 1.0, Direction.DOWN_IS_WORSE)
    assert isinstance(turned, QuantileTest)
    assert turned == (tested.within, tested.beyond)


def test_a_quantile_that_never_came_has_a_name() -> None:
    never = {bin_of(math.inf): 50, 0: 50}
    assert quantile_test([never], [{0: 100}], 0.95, 1.5, Direction.UP_IS_WORSE) is Unknown.UNBOUNDED


@pytest.mark.slow
def test_by_cluster_the_error_is_alpha_where_counting_conversations_gives_several_times_as_much() -> None:
    rng = np.random.default_rng(5)
    tables, wrong, naive = 600, 0, 0
    for _ in range(tables):
        user = rng.integers(0, 120, 2000)
        side = rng.random(120) < 0.5
        arm = side[user].astype(np.int64)
        value = (rng.random(2000) < rng.beta(1, 9, 120)[user]).astype(float)
        wrong += clustered_p_values(found(cells(arm, user, value)), EQUAL)[0] < 0.05
        naive += clustered_p_values(found(cells(arm, np.arange(2000), value)), EQUAL)[0] < 0.05
    assert wrong <= binom.ppf(1 - 1e-3, tables, 0.06)
    assert naive > 2 * wrong
