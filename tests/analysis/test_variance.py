"""Historical variance: recovered where it is known, and checked against scipy's analysis of variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f_oneway, kstest

from agentcanary_analysis.variance import (
    DAY,
    HOUR,
    design_effect,
    over_dispersion,
    representative_hours,
    rhythm,
    z_dispersion,
)


def test_over_dispersion_is_the_f_ratio_of_one_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(5, 60, 12)
    times = np.repeat(np.arange(12), sizes) * DAY + rng.uniform(0, DAY, sizes.sum())
    values = rng.normal(np.repeat(rng.normal(0, 0.5, 12), sizes), 1.0)
    found = over_dispersion(times, values)
    assert found is not None
    groups = np.split(values, np.cumsum(sizes)[:-1])
    assert found.ratio == pytest.approx(f_oneway(*groups).statistic, rel=1e-12)
    assert found.groups == 12


def test_without_any_difference_the_ratio_is_one_and_its_p_value_uniform() -> None:
    rng = np.random.default_rng(2)
    found = [over_dispersion(np.arange(3000) * (10 * DAY / 3000), rng.random(3000) < 0.2) for _ in range(200)]
    ratios = [one.ratio for one in found if one is not None]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12)
    assert kstest([one.p_value for one in found if one is not None], "uniform").pvalue > 1e-4
    covered = np.mean([one.low <= 1 <= one.high for one in found if one is not None])
    assert 0.90 <= covered <= 0.99


def test_missing_values_are_left_out_and_too_little_is_none() -> None:
    times = np.arange(100) * HOUR
    values = np.where(np.arange(100) % 3 == 0, np.nan, np.arange(100) % 2)
    kept = ~np.isnan(values)
    assert over_dispersion(times, values) == over_dispersion(times[kept], values[kept])
    assert over_dispersion(times[:5], values[:5]) is None
    assert over_dispersion(times, np.ones(100)) is None
    assert rhythm(times[:1], values[:1]) is None
    assert design_effect([1.0, 0.0], ["a", "a"]) is None
    assert design_effect([1.0, 1.0], ["a", "b"]) is None
    assert z_dispersion([np.nan, 1.0]) is None


@pytest.mark.parametrize(("each", "correlation"), [(1, 0.0), (4, 0.0), (4, 0.5), (10, 0.2)])
def test_the_design_effect_of_equal_clusters_is_kish_s(each: int, correlation: float) -> None:
    rng = np.random.default_rng(3)
    clusters = 20_000 // each
    shared = rng.normal(0, np.sqrt(correlation), clusters)
    values = np.repeat(shared, each) + rng.normal(0, np.sqrt(1 - correlation), clusters * each)
    found = design_effect(values, np.repeat(np.arange(clusters), each).tolist())
    assert found == pytest.approx(1 + (each - 1) * correlation, rel=0.1)


def test_a_rhythm_is_recovered_and_chance_alone_is_shrunk_away() -> None:
    rng = np.random.default_rng(4)
    times = rng.uniform(0, 28 * DAY, 60_000)
    hour = np.floor(times / HOUR) % 24
    true = 0.05 + 0.03 * np.sin(2 * np.pi * np.arange(24) / 24)
    found = rhythm(times, rng.random(len(times)) < true[hour.astype(int)])
    assert found is not None
    np.testing.assert_allclose(found.shrunk, true, atol=0.02)
    assert found.spread == pytest.approx(0.03 / np.sqrt(2), rel=0.2)
    assert found.p_value < 1e-6
    flat = rhythm(times, rng.random(len(times)) < 0.05)
    assert flat is not None
    assert np.ptp(flat.shrunk) < 0.3 * np.ptp(flat.values)
    assert flat.p_value > 0.001


def test_weekdays_begin_with_monday() -> None:
    # 5 January 2026 was a Monday.
    times = 1_767_571_200.0 + np.arange(28 * 24) * HOUR
    found = rhythm(times, np.arange(28 * 24) // 24 % 7 == 5, weekly=True)
    assert found is not None
    assert found.values.tolist() == [0, 0, 0, 0, 0, 1, 0]


def test_a_stage_sees_the_whole_mix_the_sooner_the_weaker_the_rhythm() -> None:
    times = np.arange(28 * 24 * 40) * (HOUR / 40)
    hour = np.floor(times / HOUR) % 24
    needed = []
    for swing in (0.001, 0.01, 0.02, 0.04):
        # Exact shares in each hour: nothing of it is chance.
        rate = 0.1 + swing * np.sin(2 * np.pi * hour / 24)
        daily = rhythm(times, rate)
        assert daily is not None
        needed.append(representative_hours(daily, None, 0.005))
    assert needed == sorted(needed)
    assert needed[0] == 1
    assert 12 < needed[1] < needed[-1]
    weekend = rhythm(times, np.where(np.floor(times / DAY) % 7 < 2, 0.13, 0.1), weekly=True)
    daily = rhythm(times, np.full(len(times), 0.1))
    assert daily is not None
    assert weekend is not None
    # Two days of seven differ by 30 %: nothing shorter than some days sees that mix, a week does.
    assert 48 < representative_hours(daily, weekend, 0.002) <= 168


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one time and one value"):
        over_dispersion([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite Unix seconds, got nan"):
        rhythm([np.nan, 1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="finite or NaN for missing, got inf"):
        rhythm([1.0, 2.0], [np.inf, 0.0])
    with pytest.raises(ValueError, match="every must be positive seconds, got 0"):
        over_dispersion([1.0, 2.0], [1.0, 0.0], every=0)
    with pytest.raises(ValueError, match="needs one cluster, got 1 for 2 values"):
        design_effect([1.0, 2.0], ["a"])
    daily = rhythm(np.arange(48) * HOUR, np.arange(48) % 2)
    assert daily is not None
    with pytest.raises(ValueError, match="tolerance must be positive, got 0"):
        representative_hours(daily, None, 0.0)
