from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.confidence_sequences import (
    Contrast,
    FloatArray,
    Moments,
    best_kappa,
    contrast,
    log_e_contrast,
    log_normal_mixture,
    normal_mixture_bound,
    one_look_p,
    unbiased_variance,
)
from agentcanary_analysis.metrics import Direction

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
SATISFACTION = Boundary(ratio=0.95, floor=0.0, direction=DOWN)

# confseq 0.0.11 compiled with boost 1.74: one-sided normal mixture, v_opt = 1000, alpha = alpha_opt = 0.025.
CONFSEQ = {
    "csc_nm1_10": (10.0, 28.75975884604486),
    "csc_nm1_1000": (1000.0, 96.00652371256047),
    "csc_nm1_100000": (100000.0, 1126.3063099114845),
}


@pytest.mark.parametrize(("variance", "bound"), CONFSEQ.values(), ids=CONFSEQ)
def test_the_bound_is_confseqs(variance: float, bound: float) -> None:
    assert normal_mixture_bound(variance, 0.025, best_kappa(1000.0, 0.025)) == pytest.approx(bound, rel=1e-6)


def test_the_precision_the_mixture_and_its_bound_are_those_of_confseqs_own_tests() -> None:
    # gostevehoward/confseq, test/uniform_boundaries_unittest.cpp: cs_rho2s, cs_nm1log, cs_nm1.
    # A one-sided mixture at level 0.025 has the two-sided mixture's precision at level 0.05.
    assert best_kappa(100.0, 0.025) == pytest.approx(12.60056, abs=1e-5)
    assert log_normal_mixture(10.0, 100.0, best_kappa(100.0, 0.05)) == pytest.approx(-0.06502391, abs=1e-5)
    assert normal_mixture_bound(100.0, 0.05, best_kappa(100.0, 0.05)) == pytest.approx(27.66071, abs=1e-5)


@pytest.mark.parametrize("total", [-30.0, 0.0, 12.0, 60.0])
def test_the_mixture_is_the_integral_over_a_half_normal_prior(total: float) -> None:
    variance, kappa = 100.0, 12.6

    def density(drift: float) -> float:
        prior = 2 * math.sqrt(kappa / (2 * math.pi)) * math.exp(-kappa * drift**2 / 2)
        return prior * math.exp(drift * total - drift**2 * variance / 2)

    expected = quad(density, 0, 5, points=[max(total / variance, 0.0)], epsabs=0, epsrel=1e-10)[0]
    assert math.exp(log_normal_mixture(total, variance, kappa)) == pytest.approx(expected, rel=1e-8)


def moments(values: list[list[float]]) -> Moments:
    """Of one rollout with several epochs."""
    return Moments(
        np.array([[len(epoch) for epoch in values]], dtype=float),
        np.array([[sum(epoch) for epoch in values]]),
        np.array([[sum(value**2 for value in epoch) for epoch in values]]),
    )


def test_the_contrast_is_its_formula() -> None:
    rng = np.random.default_rng(5)
    canary = [rng.normal(4, 1, n).tolist() for n in (40, 90)]
    stable = [rng.normal(4.2, 1, n).tolist() for n in (700, 95)]
    found = contrast(moments(canary), moments(stable), SATISFACTION)
    total = variance = 0.0
    for c, s in zip(canary, stable, strict=True):
        h = 1 / (1 / len(c) + 0.95**2 / len(s))
        total += h * -(np.mean(c) - 0.95 * np.mean(s))
        variance += h**2 * (np.var(c, ddof=1) / len(c) + 0.95**2 * np.var(s, ddof=1) / len(s))
    assert found.total[0] == pytest.approx(total)
    assert found.variance[0] == pytest.approx(variance)
    assert found.known[0]


def test_a_small_cell_takes_the_variance_of_its_arm() -> None:
    small, large = [[1.0, 5.0, 3.0]], [3.0 + 0.1 * (i % 7) for i in range(60)]
    parts = Moments(
        *(np.array([[a, b]]) for a, b in [(3.0, 60.0), (9.0, sum(large)), (35.0, sum(x * x for x in large))])
    )
    stable = Moments(np.array([[50.0, 50.0]]), np.array([[150.0, 150.0]]), np.array([[500.0, 500.0]]))
    whole = np.var(small[0] + large, ddof=1)
    found = contrast(parts, stable, Boundary(ratio=1.0, floor=0.0, direction=UP))
    s_var = float(unbiased_variance(Moments(np.array(50.0), np.array(150.0), np.array(500.0))))
    h = [1 / (1 / 3 + 1 / 50), 1 / (1 / 60 + 1 / 50)]
    expected = h[0] ** 2 * (whole / 3 + s_var / 50) + h[1] ** 2 * (np.var(large, ddof=1) / 60 + s_var / 50)
    assert found.variance[0] == pytest.approx(expected)


def test_swapping_what_is_worse_turns_the_evidence_around() -> None:
    rng = np.random.default_rng(6)
    arms = moments([rng.normal(4, 1, 60).tolist()]), moments([rng.normal(4.5, 1, 400).tolist()])
    up = contrast(*arms, Boundary(ratio=1.0, floor=0.0, direction=UP))
    down = contrast(*arms, Boundary(ratio=1.0, floor=0.0, direction=DOWN))
    for sign in (1.0, -1.0):
        assert log_e_contrast(up, kappa=5.0, sign=sign) == pytest.approx(log_e_contrast(down, kappa=5.0, sign=-sign))
    assert one_look_p(up) == pytest.approx(1 - one_look_p(down))


def test_one_epoch_is_welchs_test() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(7)
    canary, stable = rng.normal(4, 1.4, 45), rng.normal(4.2, 1, 90)
    found = contrast(
        moments([canary.tolist()]), moments([stable.tolist()]), Boundary(ratio=1.0, floor=0.0, direction=DOWN)
    )
    expected = ttest_ind(canary, stable, equal_var=False, alternative="less")
    assert one_look_p(found)[0] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.freedom[0] == pytest.approx(expected.df)


@pytest.mark.parametrize(
    ("canary", "stable"),
    [
        ([[4.0, 5.0] * 14], [[4.0, 5.0] * 200]),
        ([[4.0, 5.0] * 200], [[4.0, 5.0] * 14]),
        ([[5.0] * 300], [[5.0] * 300]),
        ([[1.0] * 296 + [0.0] * 4], [[1.0] * 200 + [0.0] * 100]),
        ([[], []], [[], []]),
    ],
    ids=["few in the canary", "few in stable", "constant", "four zeros", "nothing"],
)
def test_too_little_is_not_known_and_is_no_evidence(canary: list[list[float]], stable: list[list[float]]) -> None:
    found = contrast(moments(canary), moments(stable), SATISFACTION)
    assert not found.known[0]
    assert log_e_contrast(found, kappa=5.0, sign=1.0)[0] == 0
    assert one_look_p(found)[0] == 1


@pytest.mark.parametrize(
    ("units", "squares", "message"),
    [
        (-1.0, 1.0, "units of canary must be finite, and not negative"),
        (3.0, math.nan, "squares of canary must be finite"),
    ],
)
def test_impossible_sums_are_refused(units: float, squares: float, message: str) -> None:
    bad = Moments(np.array([[units]]), np.array([[1.0]]), np.array([[squares]]))
    with pytest.raises(ValueError, match=message):
        contrast(bad, moments([[1.0, 2.0]]), SATISFACTION)


@pytest.mark.parametrize(("time", "alpha"), [(0.0, 0.05), (10.0, 0.5), (math.inf, 0.05), (10.0, 0.0)])
def test_a_precision_that_does_not_exist_is_refused(time: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="best_kappa needs a positive time and an alpha in"):
        best_kappa(time, alpha)


def test_a_bound_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="normal_mixture_bound needs variance >= 0"):
        normal_mixture_bound(-1.0, 0.05, 1.0)


def ever_rejected(boundary: Boundary, canary_mean: float, *, runs: int, seed: int) -> tuple[float, FloatArray]:
    """Share of rollouts in which the canary is ever called worse, looking after every 40 ratings of one to five."""
    rng = np.random.default_rng(seed)
    kappa = best_kappa(600.0, 0.05) * 1.25
    sums = np.zeros((2, 3, runs, 1))
    hit = np.zeros(runs, dtype=bool)
    values = np.arange(1.0, 6.0)
    for _ in range(100):
        for arm, (size, mean) in enumerate(((20, canary_mean), (20, 4.0))):
            # Ratings with the wanted mean: the five point scale tilted exponentially.
            ratings = rng.choice(values, (runs, size), p=_tilted(values, mean))
            sums[arm] += np.stack([np.full(runs, size), ratings.sum(axis=1), (ratings**2).sum(axis=1)])[..., None]
        found: Contrast = contrast(Moments(*sums[0]), Moments(*sums[1]), boundary)
        hit |= log_e_contrast(found, kappa=kappa, sign=1.0) >= math.log(20)
    return float(hit.mean()), found.difference


def _tilted(values: FloatArray, mean: float) -> FloatArray:
    low, high = -5.0, 5.0
    for _ in range(80):
        middle = (low + high) / 2
        weights = np.exp(middle * values)
        low, high = (middle, high) if (weights @ values) / weights.sum() < mean else (low, middle)
    shares: FloatArray = weights / weights.sum()
    return shares


def test_ratings_on_the_boundary_are_called_worse_in_at_most_5_percent_of_rollouts_however_often_one_looks() -> None:
    share, _ = ever_rejected(SATISFACTION, 0.95 * 4.0, runs=1000, seed=8)
    assert share <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / 1000)


def test_ratings_that_fell_by_a_fifth_are_called_worse_nearly_always() -> None:
    share, difference = ever_rejected(SATISFACTION, 0.8 * 4.0, runs=200, seed=9)
    assert share > 0.99
    assert difference.mean() == pytest.approx(0.15 * 4.0, abs=0.02)
