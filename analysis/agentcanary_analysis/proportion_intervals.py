"""Intervals of a proportion, and of the ratio and the difference of two. Pure.

All of them have width and stay inside their range at 0 and at all units. Ratios are over epochs: scores are added,
never counts. By enumeration (``benchmarks/sim_coverage.py``) the coverage of a nominal 95 %, averaged over rates within
10 % of each other, is 94.4 % or more wherever both arms expect five events and five units without one; below that
93.3 % or more for two arms, and 90 % for Wilson's interval of one, where Clopper and Pearson's keeps its level always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri

from agentcanary_analysis.checked_input import checked_counts, checked_type
from agentcanary_analysis.one_look import Limits, Unknown, checked_confidence
from agentcanary_analysis.proportions import FloatArray, Proportion, paired_counts, score_statistic


def wilson_interval(arm: Proportion, *, confidence: float = 0.95) -> Limits:
    """Wilson's score interval of one rate.

    Args:
        arm: Not empty.
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: If the arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Wilson (1927), JASA 22:209-212.

    >>> low, high = wilson_interval(Proportion(18, 20))
    >>> round(low, 6), round(high, 6)
    (0.698966, 0.972134)
    """
    z, rate, units = _z(confidence), checked_type("arm", arm, Proportion).rate, arm.units
    centre = rate + z * z / (2 * units)
    half = z * np.sqrt(rate * (1 - rate) / units + (z / (2 * units)) ** 2)
    scale = 1 + z * z / units
    low = 0.0 if arm.events == 0 else float((centre - half) / scale)
    high = 1.0 if arm.events == units else float((centre + half) / scale)
    return Limits(low, high)


def clopper_pearson_interval(arm: Proportion, *, confidence: float = 0.95) -> Limits:
    """The exact interval of one rate; its coverage is never below ``confidence``.

    Args:
        arm: Not empty.
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: If the arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Clopper and Pearson (1934), Biometrika 26:404-413.

    >>> low, high = clopper_pearson_interval(Proportion(0, 50))
    >>> low, round(high, 6)
    (0.0, 0.071122)
    """
    level = (1 + checked_confidence(confidence)) / 2
    checked_type("arm", arm, Proportion)
    others = Proportion(arm.units - arm.events, arm.units)
    return Limits(
        1 - clopper_pearson_upper(others, confidence=level) if arm.events else 0.0,
        clopper_pearson_upper(arm, confidence=level),
    )


def clopper_pearson_upper(arm: Proportion, *, confidence: float = 0.95) -> float:
    """The exact one-sided upper limit of one rate: what zero violations in so many units rule out.

    Args:
        arm: Not empty.
        confidence: One-sided coverage in (0, 1).

    Raises:
        ValueError: If the arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Clopper and Pearson (1934), Biometrika 26:404-413.

    >>> round(clopper_pearson_upper(Proportion(0, 50)), 4), round(clopper_pearson_upper(Proportion(0, 1000)), 4)
    (0.0582, 0.003)
    """
    checked_confidence(confidence)
    if checked_type("arm", arm, Proportion).rate == 1:
        return 1.0
    return float(betaincinv(arm.events + 1, arm.units - arm.events, confidence))


def mantel_haenszel_ratio(canary: Sequence[Proportion], stable: Sequence[Proportion]) -> float | Unknown:
    """The ratio of the rates over epochs, canary to stable; infinite when only stable has no event.

    Args:
        canary: One proportion an epoch.
        stable: The same epochs.

    Returns:
        ``Unknown.NO_EVENTS`` when neither arm has one.

    Raises:
        ValueError: If no epoch has units in both arms.

    Source:
        Mantel and Haenszel (1959), JNCI 22:719-748; Greenland and Robins (1985), Biometrics 41:55-68, equation 4.

    >>> arms = [Proportion(2, 50), Proportion(60, 500)], [Proportion(19, 950), Proportion(30, 500)]
    >>> round(mantel_haenszel_ratio(*arms), 4)
    2.0
    """
    k_c, n_c, k_s, n_s = paired_counts(canary, stable)
    above, below = float((k_c * n_s / (n_c + n_s)).sum()), float((k_s * n_c / (n_c + n_s)).sum())
    if below == 0:
        return float("inf") if above > 0 else Unknown.NO_EVENTS
    return above / below


def ratio_interval(canary: Sequence[Proportion], stable: Sequence[Proportion], *, confidence: float = 0.95) -> Limits:
    """Score interval of the ratio of the rates over epochs; Koopman's interval for one epoch.

    It is the set of ratios that the stratified score test does not reject, so it and the test cannot disagree, and it
    contains ``mantel_haenszel_ratio``.

    Args:
        canary: One proportion an epoch.
        stable: The same epochs.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        Ratio canary / stable; (0, inf) without any event, an infinite end when stable has none.

    Raises:
        ValueError: If no epoch has units in both arms or ``confidence`` is outside (0, 1).

    Source:
        Koopman (1984), Biometrics 40:513-517; Gart and Nam (1988), Biometrics 44:323-338.

    >>> low, high = ratio_interval([Proportion(36, 40)], [Proportion(16, 80)])
    >>> round(low, 2), round(high, 3)
    (2.94, 7.152)
    """
    low, high = ratio_limits(*paired_counts(canary, stable), confidence=confidence)
    return Limits(float(low), float(high))


def ratio_limits(
    canary_events: ArrayLike,
    canary_units: ArrayLike,
    stable_events: ArrayLike,
    stable_units: ArrayLike,
    *,
    confidence: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """The ends of ``ratio_interval`` for many rollouts at once.

    Args:
        canary_events: Shape (…, epochs).
        canary_units: Shape (…, epochs).
        stable_events: Shape (…, epochs).
        stable_units: Shape (…, epochs).
        confidence: Two-sided coverage in (0, 1).

    Returns:
        Low and high ends, each of shape (…,).

    Raises:
        ValueError: If counts are impossible or ``confidence`` is outside (0, 1).

    >>> low, high = ratio_limits([[3], [0]], [[50], [50]], [[0], [10]], [[1000], [1000]])
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([15.6458, 0.0], [inf, 7.2781])
    """
    z = _z(confidence)
    k_c, n_c, k_s, n_s = counts = checked_counts(canary_events, canary_units, stable_events, stable_units)
    both = (n_c > 0) & (n_s > 0)
    some_c, some_s = (k_c * both).sum(axis=-1) > 0, (k_s * both).sum(axis=-1) > 0
    weight = 1 / np.maximum(n_c + n_s, 1)
    above, below = ((k_c + 0.5) * n_s * weight).sum(axis=-1), ((k_s + 0.5) * n_c * weight).sum(axis=-1)
    start = np.log(np.maximum(above, 1e-9) / np.maximum(below, 1e-9))
    half = z * np.sqrt(1 / (k_c.sum(axis=-1) + 0.5) + 1 / (k_s.sum(axis=-1) + 0.5))

    def excess(log_ratio: FloatArray) -> FloatArray:
        return score_statistic(*counts, ratio=np.exp(log_ratio)[..., None])

    # Sorted, because at a confidence near zero the ends meet but for rounding.
    low, high = np.sort(np.exp(_crossings(excess, start - half, start + half, z, -60.0, 60.0)), axis=0)
    return np.where(some_c, low, 0.0), np.where(some_s, high, np.inf)


def newcombe_interval(canary: Proportion, stable: Proportion, *, confidence: float = 0.95) -> Limits:
    """Newcombe's hybrid score interval of ``canary.rate - stable.rate``, without continuity correction.

    Args:
        canary: Not empty.
        stable: Not empty.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        In rate points: -0.02 is two percentage points fewer.

    Raises:
        ValueError: If an arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Newcombe (1998), Statistics in Medicine 17:873-890, method 10.

    >>> low, high = newcombe_interval(Proportion(56, 70), Proportion(48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    difference = checked_type("canary", canary, Proportion).rate - checked_type("stable", stable, Proportion).rate
    c, s = wilson_interval(canary, confidence=confidence), wilson_interval(stable, confidence=confidence)
    low = difference - float(np.hypot(canary.rate - c.low, s.high - stable.rate))
    high = difference + float(np.hypot(c.high - canary.rate, stable.rate - s.low))
    return Limits(low, high)


def mee_interval(canary: Proportion, stable: Proportion, *, confidence: float = 0.95) -> Limits:
    """Mee's score interval of ``canary.rate - stable.rate``: the differences that the score test does not reject.

    Args:
        canary: Not empty.
        stable: Not empty.
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: If an arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Mee (1984), Biometrics 40:1175-1176.

    >>> low, high = mee_interval(Proportion(56, 70), Proportion(48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0533, 0.3377)
    """
    return _difference_interval(canary, stable, confidence, inflation=1.0)


def miettinen_nurminen_interval(canary: Proportion, stable: Proportion, *, confidence: float = 0.95) -> Limits:
    """Miettinen and Nurminen's interval of ``canary.rate - stable.rate``: Mee's, with variances times N / (N - 1).

    Args:
        canary: Not empty.
        stable: Not empty.
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: If an arm is empty or ``confidence`` is outside (0, 1).

    Source:
        Miettinen and Nurminen (1985), Statistics in Medicine 4:213-226.

    >>> low, high = miettinen_nurminen_interval(Proportion(56, 70), Proportion(48, 80))
    >>> round(low, 4), round(high, 4)
    (0.0528, 0.3382)
    """
    total = checked_type("canary", canary, Proportion).units + checked_type("stable", stable, Proportion).units
    return _difference_interval(canary, stable, confidence, inflation=total / max(total - 1, 1))


def _difference_interval(canary: Proportion, stable: Proportion, confidence: float, *, inflation: float) -> Limits:
    z = _z(confidence) * float(np.sqrt(inflation))
    counts = paired_counts([canary], [stable])
    near = newcombe_interval(canary, stable, confidence=confidence)
    end = 1 - 1e-12

    def excess(difference: FloatArray) -> FloatArray:
        return score_statistic(*counts, shift=difference[..., None])

    low, high = _crossings(excess, np.asarray(near.low), np.asarray(near.high), z, -end, end).tolist()
    # At a confidence near zero the ends meet at the estimate, but for rounding.
    estimate = canary.rate - stable.rate
    return Limits(-1.0 if low <= -end else min(low, estimate), 1.0 if high >= end else max(high, estimate))


def _crossings(
    excess: Callable[[FloatArray], FloatArray],
    near_low: FloatArray,
    near_high: FloatArray,
    z: float,
    bottom: float,
    top: float,
) -> FloatArray:
    """Where a falling function reaches ``z`` and ``-z``, from guesses; ``bottom`` or ``top`` where it never does.

    Returns:
        Shape (2, …): both ends are searched at once.
    """
    near = np.clip(np.stack([near_low, near_high]), bottom, top)
    target = np.array([z, -z]).reshape(2, *[1] * near_low.ndim)
    width = np.full_like(near, (top - bottom) / 250)
    low, high = np.maximum(near - width, bottom), np.minimum(near + width, top)
    f_low, f_high = excess(low) - target, excess(high) - target
    for _ in range(10):
        short, far = (f_low < 0) & (low > bottom), (f_high > 0) & (high < top)
        if not (short.any() or far.any()):
            break
        width = 2 * width
        low = np.where(short, np.maximum(low - width, bottom), low)
        high = np.where(far, np.minimum(high + width, top), high)
        f_low, f_high = excess(low) - target, excess(high) - target
    never_above, never_below = f_low < 0, f_high > 0
    for step in range(100):
        # The Illinois form of the secant rule, with a bisection at every fourth step for curves that bend sharply.
        slope = np.where(f_low - f_high > 0, f_low - f_high, 1.0)
        secant = (low * -f_high + high * f_low) / slope
        inside = (secant > low) & (secant < high) & (step % 4 != 3)
        x = np.where(inside, secant, (low + high) / 2)
        f = excess(x) - target
        right = f >= 0
        f_high = np.where(right, np.where(inside, f_high / 2, f_high), f)
        f_low = np.where(right, f, np.where(inside, f_low / 2, f_low))
        low, high = np.where(right, x, low), np.where(right, high, x)
        done = (np.abs(f) <= 1e-10) | (high - low <= 1e-12 * np.maximum(np.abs(high), 1e-3)) | never_above | never_below
        if done.all():
            break
    return np.where(never_above, bottom, np.where(never_below, top, x))


def _z(confidence: float) -> float:
    return float(ndtri((1 + checked_confidence(confidence)) / 2))
