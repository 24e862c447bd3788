"""Bootstrap intervals, and when clusters are too few for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.bootstrap import Change, proportion_draws
from agentcanary_analysis.bootstrap_intervals import (
    bca_interval,
    clustered_interval,
    effective_clusters,
    percentile_interval,
    proportion_jackknife,
)
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.proportions import Proportion


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def clusters(seed: int, number: int, *, largest: int = 9, level: float = 4.0) -> dict[int, Tally]:
    """Users with 1 to ``largest`` ratings, spread over the resampling buckets."""
    source = rng(seed)
    buckets: dict[int, Tally] = {}
    for user in range(number):
        n = float(source.integers(1, largest + 1))
        y = n * source.normal(level, 1.0)
        bucket = user % 200
        buckets[bucket] = buckets.get(bucket, Tally()) + Tally(1, 1, y, y * y, n, n * n, y * n)
    return buckets


def test_bca_agrees_with_scipy() -> None:
    # Oracle: scipy.stats.bootstrap(method="BCa") on the rows, whose own noise is about 0.01 here.
    canary, stable = np.repeat([1.0, 0.0], [30, 270]), np.repeat([1.0, 0.0], [300, 2700])
    peer = bootstrap(
        (canary, stable),
        lambda c, s, axis: c.mean(axis=axis) / s.mean(axis=axis) - 1,
        vectorized=True,
        n_resamples=4999,
        confidence_level=0.9,
        method="BCa",
        rng=rng(2),
    ).confidence_interval
    arms = [Proportion(30, 300)], [Proportion(300, 3000)]
    ours = bca_interval(proportion_draws(*arms, rng=rng(3)), 0.0, proportion_jackknife(*arms), confidence=0.9)
    assert ours == pytest.approx((peer.low, peer.high), abs=0.025)


@pytest.mark.parametrize("change", list(Change))
def test_the_jackknife_leaves_one_row_out(change: Change) -> None:
    canary, stable = np.repeat([1.0, 0.0], [3, 7]), np.repeat([1.0, 0.0], [4, 16])

    def statistic(c: np.ndarray, s: np.ndarray) -> float:
        return float(c.mean() - s.mean() if change is Change.DIFFERENCE else c.mean() / s.mean() - 1)

    wanted = [
        [statistic(np.delete(canary, row), stable) for row in range(10)],
        [statistic(canary, np.delete(stable, row)) for row in range(20)],
    ]
    ours = proportion_jackknife([Proportion(3, 10)], [Proportion(4, 20)], change=change)
    for rows, (values, counts) in zip(wanted, ours, strict=True):
        assert np.repeat(values, counts.astype(int)) == pytest.approx(rows)


def test_the_percentile_interval_is_the_middle_of_the_draws() -> None:
    draws = rng().normal(size=100_000)
    assert percentile_interval(draws) == pytest.approx((-1.96, 1.96), abs=0.03)
    assert percentile_interval([math.inf, *range(99)], confidence=0.98) == Limits(1.0, 98.0)


def test_draws_without_a_value_are_no_interval() -> None:
    assert percentile_interval([math.nan] * 2 + [0.0] * 98) is Unknown.UNBOUNDED
    assert bca_interval([1.0, 2.0], 0.0, []) is Unknown.UNBOUNDED
    for empty in ([], [[1.0]]):
        with pytest.raises(ValueError, match="needs a list of draws"):
            percentile_interval(empty)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        percentile_interval([1.0], confidence=95)


def test_kishs_number_is_that_of_equal_clusters() -> None:
    equal = [Tally(1, 1, 0.0, 0.0, 10.0, 100.0, 0.0)] * 40
    assert effective_clusters(equal) == pytest.approx(40)
    one_giant = [*equal, Tally(1, 1, 0.0, 0.0, 4000.0, 16_000_000.0, 0.0)]
    assert effective_clusters(one_giant) < 1.3
    assert effective_clusters([Tally(7, 5, 0.0, 0.0)]) == 5


def test_the_method_follows_from_the_number_of_clusters() -> None:
    stable = clusters(2, 3000)
    many = clustered_interval([clusters(1, 3000)], [stable], rng=rng())
    some = clustered_interval([clusters(1, 40)], [stable], rng=rng())
    few = clustered_interval([clusters(1, 8)], [stable], rng=rng())
    none = clustered_interval([{}], [stable], rng=rng())
    assert (many.method, some.method) == ("clustered bootstrap", "linearised variance")
    assert isinstance(many.limits, Limits)
    assert isinstance(some.limits, Limits)
    assert few.limits is Unknown.TOO_FEW_CLUSTERS
    assert none.limits is Unknown.EMPTY_ARM


@pytest.mark.parametrize(
    ("rarest", "method"),
    [(4, "none"), (5, "linearised variance"), (9, "linearised variance"), (10, "clustered bootstrap")],
)
def test_few_events_take_the_more_careful_method(rarest: int, method: str) -> None:
    result = clustered_interval([clusters(1, 3000)], [clusters(2, 3000)], rng=rng(), rarest=rarest)
    assert result.method == method
    assert (result.limits is Unknown.TOO_FEW_EVENTS) == (rarest < 5)


def test_both_methods_agree_where_both_are_allowed() -> None:
    arms = [clusters(1, 4000)], [clusters(2, 4000)]
    bootstrapped = clustered_interval(*arms, rng=rng())
    linearised = clustered_interval(*arms, rng=rng(), rarest=9)
    assert isinstance(bootstrapped.limits, Limits)
    assert isinstance(linearised.limits, Limits)
    assert bootstrapped.limits == pytest.approx(linearised.limits, abs=0.004)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(1000, Kind.RATIO), (30, Kind.RATIO)])
def test_the_clustered_interval_covers_the_truth(number: int, kind: Kind) -> None:
    covered = 0
    for repeat in range(800):
        arms = [clusters(2 * repeat, number)], [clusters(2 * repeat + 1, 2 * number)]
        limits = clustered_interval(*arms, rng=rng(repeat), kind=kind, confidence=0.9, draws=1000).limits
        assert isinstance(limits, Limits)
        covered += limits.low <= 0 <= limits.high
    # Statistics.md, 4.9: .873 to .897 at a nominal .90; less three standard errors.
    assert 0.85 <= covered / 800 <= 0.94
