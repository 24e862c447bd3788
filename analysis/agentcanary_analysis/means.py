"""One-look tests and intervals of means and of ratios over turns, from sums, stratified by epoch. Pure.

A ratio (errors per turn) is summed over turns but randomised by conversation: its variance is that of the
conversations' deviations, linearised. Everything else is Welch's.

By simulation (``benchmarks/sim_coverage.py``) a nominal 95 % covers 94 % and more from 30 values an arm; of values as
skewed as a cost (lognormal) or as stars that are nearly all five from 200 values an arm, 91 to 93 % at 30 to 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.checked_input import checked_type, paired_epochs
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction, Kind
from agentcanary_analysis.one_look import Claim, Limits, OneLook, Unknown, checked_confidence

FloatArray = NDArray[np.float64]

_OWN_VARIANCE = 10  # a cell with fewer values takes the variance of its arm over all epochs
_ROUNDING = 1e-13  # spread below this share of the sum of squares is the rounding of that sum


@dataclass(frozen=True, slots=True, eq=False)
class _Arm:
    """One arm by epoch: values, their sampling variances and degrees of freedom, and the number of conversations."""

    value: FloatArray
    variance: FloatArray
    freedom: FloatArray
    units: FloatArray


def mean_test(
    canary: Sequence[Tally],
    stable: Sequence[Tally],
    boundary: Boundary,
    *,
    kind: Kind = Kind.MEAN,
    claim: Claim = Claim.BEYOND,
) -> OneLook | Unknown:
    """One-sided Welch test of ``canary = ratio * stable + shift``, contrasts added over epochs.

    Args:
        canary: Sums of the canary, one tally an epoch.
        stable: Sums of stable, the same epochs.
        boundary: The line.
        kind: ``MEAN``, or ``RATIO`` for total over size with the linearised variance.
        claim: What a small p-value shall speak for.

    Returns:
        The test, or why there is none: ``EMPTY_ARM``, ``TOO_FEW`` or ``CONSTANT``.

    Raises:
        ValueError: If the arms have different epochs or ``kind`` has no mean.

    Source:
        Welch (1947), Biometrika 34:28-35; Satterthwaite (1946), Biometrics Bulletin 2:110-114.

    >>> equal = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> test = mean_test([Tally(1977, 1977, 1133, 2121)], [Tally(2023, 2023, 1073, 2073)], equal)
    >>> round(test.statistic, 4), round(test.p_value, 4)
    (1.5647, 0.0589)
    """
    checked_type("boundary", boundary, Boundary)
    checked_type("claim", claim, Claim)
    arms = _arms(canary, stable, kind)
    if isinstance(arms, Unknown):
        return arms
    c, s = arms
    r = boundary.ratio
    weight = 1 / (1 / c.units + r * r / s.units)
    parts = np.concatenate([weight**2 * c.variance, weight**2 * r**2 * s.variance])
    distance = float((weight * (c.value - r * s.value - boundary.shift)).sum())
    t = distance / float(np.sqrt(parts.sum()))
    freedom = _satterthwaite(parts, np.concatenate([c.freedom, s.freedom]))
    above = (boundary.direction is Direction.UP_IS_WORSE) == (claim is Claim.BEYOND)
    name = "Welch test" if kind is Kind.MEAN else "Welch test of linearised ratios"
    return OneLook(name, t, float(stdtr(freedom, -t if above else t)))


def mean_difference_interval(
    canary: Sequence[Tally], stable: Sequence[Tally], *, kind: Kind = Kind.MEAN, confidence: float = 0.95
) -> Limits | Unknown:
    """Welch's interval of ``canary - stable``, in the metric's unit.

    Args:
        canary: Sums of the canary, one tally an epoch.
        stable: Sums of stable, the same epochs.
        kind: ``MEAN`` or ``RATIO``.
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: If the arms have different epochs or ``confidence`` is outside (0, 1).

    >>> low, high = mean_difference_interval([Tally(1977, 1977, 1133, 2121)], [Tally(2023, 2023, 1073, 2073)])
    >>> round(low, 6), round(high, 6)
    (-0.0108, 0.09618)
    """
    checked_confidence(confidence)
    levels = _levels(canary, stable, kind)
    if isinstance(levels, Unknown):
        return levels
    (c, v_c, f_c), (s, v_s, f_s) = levels
    t = _t(confidence, np.array([v_c, v_s]), np.array([f_c, f_s]))
    half = t * float(np.sqrt(v_c + v_s))
    return Limits(c - s - half, c - s + half)


def relative_change(canary: Sequence[Tally], stable: Sequence[Tally], *, kind: Kind = Kind.MEAN) -> float | Unknown:
    """``canary / stable - 1``, both as averages over the epochs with the same weights.

    Returns:
        0.25 is 25 % more; ``ZERO_STABLE`` or ``EMPTY_ARM`` where it does not exist.

    >>> round(relative_change([Tally(1977, 1977, 1133, 2121)], [Tally(2023, 2023, 1073, 2073)]), 6)
    0.080487
    """
    levels = _levels(canary, stable, kind)
    if levels in (Unknown.CONSTANT, Unknown.TOO_FEW):
        levels = _levels(canary, stable, kind, spread_needed=False)
    if isinstance(levels, Unknown):
        return levels
    (c, *_), (s, *_) = levels
    return Unknown.ZERO_STABLE if s == 0 else c / s - 1


def log_delta_interval(
    canary: Sequence[Tally],
    stable: Sequence[Tally],
    *,
    kind: Kind = Kind.MEAN,
    confidence: float = 0.95,
    freedom: float = np.inf,
) -> Limits | Unknown:
    """Interval of the relative change ``canary / stable - 1``, symmetric on the logarithm, so never below -1.

    Args:
        canary: Sums of the canary, one tally an epoch.
        stable: Sums of stable, the same epochs.
        kind: ``MEAN`` or ``RATIO``.
        confidence: Two-sided coverage in (0, 1).
        freedom: Upper bound of the degrees of freedom: effective clusters less one where clusters differ in size.

    Returns:
        The interval, or why there is none: additionally ``NOT_POSITIVE``.

    Raises:
        ValueError: If the arms have different epochs or ``confidence`` is outside (0, 1).

    Source:
        Deng, Knoblich and Lu (2018), KDD, arXiv:1803.06336, section 3.

    >>> low, high = log_delta_interval([Tally(1977, 1977, 1133, 2121)], [Tally(2023, 2023, 1073, 2073)])
    >>> round(low, 5), round(high, 5)
    (-0.01952, 0.19069)
    """
    checked_confidence(confidence)
    if not freedom > 0:
        raise ValueError(f"freedom must be positive, got {freedom}")
    levels = _levels(canary, stable, kind)
    if isinstance(levels, Unknown):
        return levels
    (c, v_c, f_c), (s, v_s, f_s) = levels
    if c <= 0 or s <= 0:
        return Unknown.NOT_POSITIVE
    # A relative error beyond 1e9 says "nothing is known" as well as a larger one, which would overflow.
    parts = np.minimum([np.sqrt(v_c) / c, np.sqrt(v_s) / s], 1e9) ** 2
    half = _t(confidence, parts, np.minimum([f_c, f_s], freedom)) * np.sqrt(parts.sum())
    with np.errstate(over="ignore"):  # an interval wider than 300 powers of ten ends at infinity
        return Limits(float(c / s * np.exp(-half) - 1), float(c / s * np.exp(half) - 1))


def fieller_interval(
    canary: Sequence[Tally], stable: Sequence[Tally], *, kind: Kind = Kind.MEAN, confidence: float = 0.95
) -> Limits | Unknown:
    """Fieller's interval of the relative change, exact in the noise of the denominator.

    Args:
        canary: Sums of the canary, one tally an epoch.
        stable: Sums of stable, the same epochs.
        kind: ``MEAN`` or ``RATIO``.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        The interval; ``UNBOUNDED`` where stable is not distinguishable from zero at this confidence.

    Raises:
        ValueError: If the arms have different epochs or ``confidence`` is outside (0, 1).

    Source:
        Fieller (1954), J. Royal Statistical Society B 16:175-185.

    >>> low, high = fieller_interval([Tally(1977, 1977, 1133, 2121)], [Tally(2023, 2023, 1073, 2073)])
    >>> round(low, 3), round(high, 3)
    (-0.019, 0.191)
    """
    checked_confidence(confidence)
    levels = _levels(canary, stable, kind)
    if isinstance(levels, Unknown):
        return levels
    (c, v_c, f_c), (s, v_s, f_s) = levels
    t = _t(confidence, np.array([v_c, v_s]), np.array([f_c, f_s]))
    denominator = s * s - t * t * v_s
    if denominator <= 0:
        return Unknown.UNBOUNDED
    root = np.sqrt(max((c * s) ** 2 - denominator * (c * c - t * t * v_c), 0.0))
    ends = sorted([(c * s - root) / denominator - 1, (c * s + root) / denominator - 1])
    return Limits(float(ends[0]), float(ends[1]))


def _levels(
    canary: Sequence[Tally], stable: Sequence[Tally], kind: Kind, *, spread_needed: bool = True
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | Unknown:
    """Level, its variance and degrees of freedom of both arms, averaged over epochs with the same weights."""
    arms = _arms(canary, stable, kind, spread_needed=spread_needed)
    if isinstance(arms, Unknown):
        return arms
    c, s = arms
    weight = 1 / (1 / c.units + 1 / s.units)
    weight = weight / weight.sum()
    (at_c, v_c, f_c), (at_s, v_s, f_s) = (
        (
            float((weight * arm.value).sum()),
            float((weight**2 * arm.variance).sum()),
            _satterthwaite(weight**2 * arm.variance, arm.freedom),
        )
        for arm in (c, s)
    )
    return (at_c, v_c, f_c), (at_s, v_s, f_s)


def _arms(
    canary: Sequence[Tally], stable: Sequence[Tally], kind: Kind, *, spread_needed: bool = True
) -> tuple[_Arm, _Arm] | Unknown:
    if kind not in (Kind.MEAN, Kind.RATIO):
        raise ValueError(f"a {kind} has no mean; only mean and ratio metrics have")
    both = [(c, s) for c, s in paired_epochs(canary, stable, Tally) if _counts(c, kind) and _counts(s, kind)]
    if not both:
        return Unknown.EMPTY_ARM
    estimate = _means if kind is Kind.MEAN else _ratios
    arms = tuple(estimate(np.array([_row(tally) for tally in arm], dtype=float).T) for arm in zip(*both, strict=True))
    if spread_needed:
        for arm in arms:
            if arm.units.sum() < 2:
                return Unknown.TOO_FEW
            if not arm.variance.any():
                return Unknown.CONSTANT
    return arms[0], arms[1]


def _counts(tally: Tally, kind: Kind) -> bool:
    return tally.observed > 0 and (kind is Kind.MEAN or tally.size > 0)


def _row(tally: Tally) -> tuple[float, ...]:
    return tally.observed, tally.total, tally.total_squares, tally.size, tally.size_squares, tally.product


def _means(sums: FloatArray) -> _Arm:
    n, total, squares, *_ = sums
    return _with_variance(total / n, n, squares - total**2 / n, squares, float(_spread_over(sums)))


def _spread_over(sums: FloatArray) -> float:
    n, total, squares, *_ = sums.sum(axis=1)
    spread = squares - total**2 / n
    return 0.0 if spread <= _ROUNDING * squares else spread / max(n - 1, 1)


def _ratios(sums: FloatArray) -> _Arm:
    n, total, squares, size, size_squares, product = sums
    ratio = total / size
    residual = squares - 2 * ratio * product + ratio**2 * size_squares
    # Over all epochs each keeps its own ratio: a drift between epochs is no spread within one.
    largest = squares + ratio**2 * size_squares
    spread = float(np.where(residual <= _ROUNDING * largest, 0, residual).sum()) / max(float(n.sum()) - 1, 1)
    arm = _with_variance(ratio, n, residual, largest, spread)
    return _Arm(ratio, arm.variance * (n / size) ** 2, arm.freedom, n)


def _with_variance(
    value: FloatArray, n: FloatArray, spread: FloatArray, largest: FloatArray, arm_variance: float
) -> _Arm:
    own = np.where(spread <= _ROUNDING * largest, 0.0, spread) / np.maximum(n - 1, 1)
    enough = n >= _OWN_VARIANCE
    variance = np.where(enough, own, arm_variance) / n
    return _Arm(value, variance, np.where(enough, n - 1, max(float(n.sum()) - 1, 1.0)), n)


def _satterthwaite(parts: FloatArray, freedom: FloatArray) -> float:
    """Degrees of freedom of a sum of independent variances; of the largest one where all are zero."""
    scale = float(parts.max())
    if scale == 0:
        return float(freedom.max())
    shares = parts / scale
    return float(shares.sum() ** 2 / (shares**2 / freedom).sum())


def _t(confidence: float, parts: FloatArray, freedom: FloatArray) -> float:
    return float(stdtrit(_satterthwaite(parts, freedom), (1 + confidence) / 2))
