"""Bootstrap draws from aggregates have the distribution of resampled rows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.bootstrap import (
    Change,
    bucket_draws,
    histogram_quantile_draws,
    proportion_draws,
    sorted_quantile_draws,
)
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportions import Proportion

CHANGES = list(Change)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def known(draws: NDArray[np.float64] | Unknown) -> NDArray[np.float64]:
    assert not isinstance(draws, Unknown)
    return draws


def change_of(canary: NDArray[np.float64], stable: NDArray[np.float64], change: Change) -> NDArray[np.float64]:
    return canary - stable if change is Change.DIFFERENCE else canary / stable - 1


@pytest.mark.parametrize("change", CHANGES)
def test_binomial_draws_are_resampled_rows(change: Change) -> None:
    canary, stable = np.repeat([1.0, 0.0], [40, 160]), np.repeat([1.0, 0.0], [90, 510])
    rows = [rng(2).choice(arm, (4000, arm.size)).mean(axis=1) for arm in (canary, stable)]
    draws = proportion_draws([Proportion(40, 200)], [Proportion(90, 600)], rng=rng(), change=change, draws=4000)
    # Both are discrete, so a two-sample test on a slightly blurred scale.
    blur = rng(3).normal(0, 1e-3, (2, 4000))
    assert ks_2samp(draws + blur[0], change_of(rows[0], rows[1], change) + blur[1]).pvalue > 0.001


@pytest.mark.parametrize("change", CHANGES)
def test_beta_ranks_are_resampled_quantiles(change: Change) -> None:
    canary, stable = np.sort(rng(4).lognormal(0.2, 0.5, 150)), np.sort(rng(5).lognormal(0, 0.5, 400))
    resampled = []
    for values, seed in ((canary, 6), (stable, 7)):
        rows = np.sort(rng(seed).choice(values, (4000, values.size)), axis=1)
        resampled.append(rows[:, math.ceil(0.95 * values.size) - 1])
    draws = sorted_quantile_draws(canary, stable, 0.95, rng=rng(8), change=change, draws=4000)
    assert ks_2samp(draws, change_of(resampled[0], resampled[1], change)).pvalue > 0.001


def test_a_histogram_draws_what_its_values_draw() -> None:
    canary, stable = np.sort(rng(4).lognormal(0.2, 0.5, 3000)), np.sort(rng(5).lognormal(0, 0.5, 9000))
    bins = [dict(Counter(bin_of(float(value)) for value in values)) for values in (canary, stable)]
    exact = sorted_quantile_draws(canary, stable, 0.95, rng=rng(8))
    single = known(histogram_quantile_draws([bins[0]], [bins[1]], 0.95, rng=rng(8)))
    halves = known(histogram_quantile_draws([bins[0]] * 2, [bins[1]] * 2, 0.95, rng=rng(9), draws=2000))
    assert single.mean() == pytest.approx(exact.mean(), abs=0.02)
    assert single.std() == pytest.approx(exact.std(), rel=0.15)
    # The same histogram twice, as two epochs: the same estimate from twice the values.
    assert halves.mean() == pytest.approx(exact.mean(), abs=0.02)
    assert halves.std() == pytest.approx(exact.std() / math.sqrt(2), rel=0.2)


def test_bucket_draws_spread_like_resampled_clusters() -> None:
    # 3,000 users with 1 to 9 ratings each, who agree with themselves: resampling ratings would be deceived.
    def arm(seed: int, level: float) -> tuple[dict[int, Tally], NDArray[np.float64], NDArray[np.float64]]:
        source = rng(seed)
        sizes = source.integers(1, 10, 3000).astype(float)
        totals = sizes * source.normal(level, 1.0, 3000)
        buckets: dict[int, Tally] = {}
        for user, bucket in enumerate(source.integers(0, 200, 3000)):
            y, n = float(totals[user]), float(sizes[user])
            buckets[int(bucket)] = buckets.get(int(bucket), Tally()) + Tally(1, 1, y, y * y, n, n * n, y * n)
        return buckets, totals, sizes

    canary, y_c, n_c = arm(1, 4.0)
    stable, y_s, n_s = arm(2, 4.1)
    draws = known(bucket_draws([canary], [stable], rng=rng(3), kind=Kind.RATIO))
    resampled = []
    for totals, sizes, seed in ((y_c, n_c, 4), (y_s, n_s, 5)):
        index = rng(seed).integers(0, 3000, (2000, 3000))
        resampled.append(totals[index].sum(axis=1) / sizes[index].sum(axis=1))
    rows = resampled[0] / resampled[1] - 1
    assert draws.mean() == pytest.approx(rows.mean(), abs=0.002)
    assert draws.std() == pytest.approx(rows.std(), rel=0.12)  # 200 buckets know a spread to about 5 % an arm


@pytest.mark.parametrize("change", CHANGES)
def test_epochs_are_kept_apart_in_all_draws(change: Change) -> None:
    canary = [Proportion(15, 500), Proportion(300, 5000)]
    stable = [Proportion(285, 9500), Proportion(300, 5000)]
    assert proportion_draws(canary, stable, rng=rng(), change=change).mean() == pytest.approx(0, abs=0.01)

    def buckets(level: float, per_bucket: int) -> dict[int, Tally]:
        total = level * per_bucket
        return {b: Tally(per_bucket, per_bucket, total, level * total + 1) for b in range(200)}

    ratings = known(
        bucket_draws([buckets(3, 1), buckets(4, 9)], [buckets(3, 9), buckets(4, 1)], rng=rng(), change=change)
    )
    assert ratings.mean() == pytest.approx(0, abs=1e-9)
    latency = known(
        histogram_quantile_draws([{0: 50}, {100: 500}], [{0: 900}, {100: 100}], 0.5, rng=rng(), change=change)
    )
    assert np.median(latency) == pytest.approx(0, abs=0.03)


def test_the_same_seed_gives_the_same_draws() -> None:
    arms = [Proportion(30, 400)], [Proportion(100, 2000)]
    assert (proportion_draws(*arms, rng=rng(5)) == proportion_draws(*arms, rng=rng(5))).all()
    assert (proportion_draws(*arms, rng=rng(5)) != proportion_draws(*arms, rng=rng(6))).any()


def test_zero_over_zero_is_named_and_never_a_number() -> None:
    draws = proportion_draws([Proportion(0, 50)], [Proportion(0, 950)], rng=rng(), draws=10)
    assert np.isnan(draws).all()
    draws = proportion_draws([Proportion(50, 50)], [Proportion(0, 950)], rng=rng(), draws=10)
    assert np.isposinf(draws).all()
    never = known(histogram_quantile_draws([{INFINITE_BIN: 9}], [{INFINITE_BIN: 9}], 0.5, rng=rng(), draws=10))
    assert np.isnan(never).all()
    gone = sorted_quantile_draws([math.inf], [1.0], 0.5, rng=rng(), change=Change.DIFFERENCE, draws=10)
    assert np.isposinf(gone).all()


def test_a_billion_units_cost_no_memory() -> None:
    draws = proportion_draws([Proportion(5 * 10**7, 10**9)], [Proportion(10**8, 2 * 10**9)], rng=rng(), draws=1000)
    assert draws.std() == pytest.approx(math.sqrt(0.95 / 5e7 + 0.95 / 1e8), rel=0.1)
    quantiles = histogram_quantile_draws([{0: 10**9, 90: 10**8}], [{0: 10**9}], 0.95, rng=rng(), draws=1000)
    assert np.isfinite(known(quantiles)).all()


def test_misuse_is_refused_and_empty_arms_are_named() -> None:
    one = [Proportion(1, 10)]
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        proportion_draws(one, one, rng=rng(), draws=0)
    with pytest.raises(ValueError, match="no epoch has units in both arms"):
        proportion_draws(one, [Proportion(0, 0)], rng=rng())
    with pytest.raises(ValueError, match="must be sorted"):
        sorted_quantile_draws([2.0, 1.0], [1.0], 0.5, rng=rng())
    with pytest.raises(ValueError, match="a number from 0 to 199, got 200"):
        bucket_draws([{200: Tally(1, 1, 1.0, 1.0)}], [{0: Tally(1, 1, 1.0, 1.0)}], rng=rng())
    with pytest.raises(ValueError, match="a proportion has no mean"):
        bucket_draws([{}], [{}], rng=rng(), kind=Kind.PROPORTION)
    with pytest.raises(ValueError, match="the same epochs, got 1 of the canary and 0 of stable"):
        bucket_draws([{}], [], rng=rng())
    assert bucket_draws([{}], [{0: Tally(1, 1, 1.0, 1.0)}], rng=rng()) is Unknown.EMPTY_ARM
    assert histogram_quantile_draws([{}], [{0: 1}], 0.5, rng=rng()) is Unknown.EMPTY_ARM
