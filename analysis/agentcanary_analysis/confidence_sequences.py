"""Normal mixtures: the asymptotic e-process on the contrast of two arms, and bounds made of it. Pure; takes a batch.

The contrast of an epoch is how far the canary's mean lies beyond the line ``ratio * stable ± floor``. It is asymptotic:
simulation, not a theorem, says how well its errors are kept with few units (see ``MIN_UNITS``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_ndtr, stdtr

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_UNITS = 30
_MIN_EVENTS = 5
_BORROW_BELOW = 10


class Moments(NamedTuple):
    """Sums over the units of one arm, each of shape (…, epochs).

    Attributes:
        units: Units with a value.
        total: Sum of the values.
        squares: Sum of the squared values.
    """

    units: FloatArray
    total: FloatArray
    squares: FloatArray


class Contrast(NamedTuple):
    """How far the canary lies beyond the line over all epochs, each of shape (…).

    Attributes:
        total: ``S = Σ h Δ`` over epochs; positive when the canary is on the worse side.
        variance: Of ``total``.
        effective: ``Σ h``, the effective number of canary units.
        freedom: Welch's degrees of freedom.
        known: At least 30 units in each arm, some variance and, where values are 0 or 1, at least 5 of each.
    """

    total: FloatArray
    variance: FloatArray
    effective: FloatArray
    freedom: FloatArray
    known: BoolArray

    @property
    def difference(self) -> FloatArray:
        """How far beyond the line, in the metric's unit; 0 where nothing is known."""
        return self.total / np.maximum(self.effective, 1e-300)


def best_kappa(intrinsic_time: float, alpha: float) -> float:
    """The prior precision of a one-sided normal mixture that is tightest at ``intrinsic_time``.

    Args:
        intrinsic_time: Variance of the sum at which it shall be tightest, positive.
        alpha: Level, in (0, 1/2).

    Raises:
        ValueError: If an argument is outside its range.

    **Source**: Howard, Ramdas, McAuliffe & Sekhon (2021), Annals of Statistics 49:1055-1080, with the level doubled
    because the mixture is one-sided.

    >>> round(best_kappa(100.0, 0.025), 5)
    12.60056
    """
    if not (0 < intrinsic_time < np.inf and 0 < alpha < 0.5):
        raise ValueError(
            f"best_kappa needs a positive time and an alpha in (0, 0.5), got time={intrinsic_time}, alpha={alpha}"
        )
    log_level = -2 * np.log(2 * alpha)
    return float(intrinsic_time / (log_level + np.log1p(log_level)))


def log_normal_mixture(total: npt.ArrayLike, variance: npt.ArrayLike, kappa: npt.ArrayLike) -> FloatArray:
    """Log e-value of a one-sided (half-normal) mixture: evidence that the mean behind ``total`` is positive.

    ``log(4κ/(V+κ))/2 + S²/(2(V+κ)) + log Φ(S/√(V+κ))``.

    Args:
        total: The sum S.
        variance: Its variance V, not negative.
        kappa: Prior precision, positive.

    **Source**: Howard et al. (2021), the one-sided normal mixture.

    >>> log_normal_mixture(10.0, 100.0, best_kappa(100.0, 0.05)).round(7)
    np.float64(-0.0650239)
    """
    sums, time, precision = (np.asarray(value, dtype=np.float64) for value in (total, variance, kappa))
    spread = time + precision
    log_e: FloatArray = 0.5 * np.log(4 * precision / spread) + sums**2 / (2 * spread) + log_ndtr(sums / np.sqrt(spread))
    return log_e


def normal_mixture_bound(variance: float, alpha: float, kappa: float) -> float:
    """The sum that a process of mean zero exceeds at any time with a chance of at most ``alpha``, at this variance.

    Args:
        variance: Variance of the sum, not negative.
        alpha: Level in (0, 1).
        kappa: Prior precision, positive.

    Raises:
        ValueError: If an argument is outside its range.

    >>> round(normal_mixture_bound(100.0, 0.05, best_kappa(100.0, 0.05)), 5)
    27.66071
    """
    if not (0 <= variance < np.inf and 0 < alpha < 1 and 0 < kappa < np.inf):
        raise ValueError(
            "normal_mixture_bound needs variance >= 0, alpha in (0, 1), kappa > 0, "
            f"got variance={variance}, alpha={alpha}, kappa={kappa}"
        )
    highest = np.sqrt(2 * (variance + kappa) * (np.log(2 / alpha) + np.log1p(variance / kappa)))
    level = np.log(1 / alpha)
    return float(brentq(lambda total: float(log_normal_mixture(total, variance, kappa)) - level, -highest, highest))


def contrast(canary: Moments, stable: Moments, boundary: Boundary) -> Contrast:
    """How far the canary's mean lies beyond the line: ``Δ = ±(mean_c - ratio * mean_s ∓ floor)``, over epochs.

    An epoch weighs ``h = 1 / (1/n_c + ratio²/n_s)``, and nothing when an arm is empty. A cell with fewer than 10 units
    takes its arm's variance over all epochs. Everything is recomputed from the epochs' totals at every look: adding up
    blocks of looks, each with a variance of its own, has 7.4 % errors at a nominal 2 %.

    Args:
        canary: Sums by epoch; epochs of equal weight already merged.
        stable: The same of stable.
        boundary: The line.

    Raises:
        ValueError: If a number of units is negative or anything is not finite.
    """
    for name, arm in (("canary", canary), ("stable", stable)):
        for field, values in arm._asdict().items():
            if not np.isfinite(values).all() or (field != "total" and (values < 0).any()):
                raise ValueError(f"{field} of {name} must be finite, and not negative unless a total, got {values}")
    return contrast_of(np.stack([np.stack(arm) for arm in (canary, stable)], axis=1), boundary)


def contrast_of(sums: FloatArray, boundary: Boundary) -> Contrast:
    """``contrast`` of sums that are known to be possible.

    Args:
        sums: Units, totals and squares (first axis) of canary and stable (second axis), shape (3, 2, …, epochs).
        boundary: The line.
    """
    worse = 1.0 if boundary.direction is Direction.UP_IS_WORSE else -1.0
    return contrast_at(sums, boundary.ratio, shift=boundary.shift, worse=worse)


def contrast_at(sums: FloatArray, ratio: float | FloatArray, *, shift: float, worse: float) -> Contrast:
    """``contrast_of`` for many ratios at once.

    Args:
        sums: Shape (3, 2, …, epochs).
        ratio: Broadcasts against (…, epochs).
        shift: The floor with its sign.
        worse: 1 where up is worse, else -1.
    """
    units = np.maximum(sums[0], 1)
    mean = sums[1] / units
    whole = unbiased_variance(Moments(*sums.sum(axis=-1, keepdims=True)))
    error_c, error_s = np.where(sums[0] < _BORROW_BELOW, whole, unbiased_variance(Moments(*sums))) / units
    error_s = ratio**2 * error_s
    filled = (sums[0] > 0).all(axis=0)
    effective = np.where(filled, 1 / (1 / units[0] + ratio**2 / units[1]), 0.0)
    difference = worse * (mean[0] - ratio * mean[1] - shift)
    variance = (effective**2 * (error_c + error_s)).sum(axis=-1)
    freedoms = np.maximum(units - 1, 1)
    fourth = (effective**4 * (error_c**2 / freedoms[0] + error_s**2 / freedoms[1])).sum(axis=-1)
    in_use = np.where(filled, sums, 0.0).sum(axis=-1)
    binary = in_use[2] == in_use[1]
    enough = ~binary | (np.minimum(in_use[1], in_use[0] - in_use[1]) >= _MIN_EVENTS)
    known = (variance > 0) & ((in_use[0] >= MIN_UNITS) & enough).all(axis=0)
    freedom = np.where(known, variance, 1.0) ** 2 / np.where(known, np.maximum(fourth, 1e-300), 1.0)
    return Contrast((effective * difference).sum(axis=-1), variance, effective.sum(axis=-1), freedom, known)


def log_e_contrast(parts: Contrast, *, kappa: npt.ArrayLike, sign: float | FloatArray) -> FloatArray:
    """Log e-value of the contrast, shape (…); 0 where it is not known.

    Args:
        parts: From ``contrast``.
        kappa: Prior precision, broadcasts against the contrast, frozen at the rollout's start.
        sign: 1 for evidence of harm, -1 for evidence of safety; broadcasts against the contrast.

    **Source**: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613-2640.
    """
    log_e = log_normal_mixture(sign * parts.total, np.where(parts.known, parts.variance, 1.0), kappa)
    return np.where(parts.known, log_e, 0.0)


def one_look_p(parts: Contrast) -> FloatArray:
    """One-sided p-value against "not beyond the line" at a single look, shape (…); 1 where it is not known.

    **Source**: Welch (1947), Biometrika 34:28-35, with the degrees of freedom over all cells.
    """
    spread = np.sqrt(np.where(parts.known, parts.variance, 1.0))
    p: FloatArray = np.where(parts.known, stdtr(np.maximum(parts.freedom, 1.0), -parts.total / spread), 1.0)
    return p


def unbiased_variance(arm: Moments) -> FloatArray:
    """Variance of the values in every cell; 0 for one that is constant, empty or holds a single value."""
    spread = arm.squares - arm.total**2 / np.maximum(arm.units, 1)
    # What rounding leaves of a constant is no variance.
    spread = np.where(spread > 1e-12 * arm.squares, spread, 0.0)
    return spread / np.maximum(arm.units - 1, 1)
