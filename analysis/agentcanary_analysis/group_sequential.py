"""Group-sequential boundaries: for looks whose times, as shares of a known maximum, are planned. Pure.

A spending function says how much of alpha may be used up by each look; the boundary of each look follows from the
distribution of the statistics that did not cross before (Armitage's recursive integration).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

FloatArray = NDArray[np.float64]
Spending = Callable[[float], float]

_CLOSEST = 0.001 - 1e-12  # looks closer than a thousandth of the maximum are one look
_REACH = 9.0  # standard deviations below which the distribution is cut off: 1e-19


def obrien_fleming_spending(alpha: float) -> Spending:
    """Nearly nothing early: the alpha spent at an information time, of one-sided ``alpha`` in all.

    Source:
        Lan and DeMets (1983), Biometrika 70:659-663.

    >>> round(obrien_fleming_spending(0.025)(0.5), 6)
    0.001525
    """
    z = float(ndtri(1 - _checked_alpha(alpha) / 2))
    return lambda time: 2 * float(ndtr(-z / math.sqrt(time)))


def pocock_spending(alpha: float) -> Spending:
    """About the same at each look.

    Source:
        Lan and DeMets (1983), Biometrika 70:659-663.

    >>> round(pocock_spending(0.025)(0.2), 6)
    0.007385
    """
    _checked_alpha(alpha)
    return lambda time: alpha * math.log(1 + (math.e - 1) * time)


def power_spending(alpha: float, exponent: float) -> Spending:
    """``alpha * time ** exponent``.

    Source:
        Kim and DeMets (1987), Biometrika 74:149-154.

    >>> power_spending(0.025, 2.0)(0.5)
    0.00625
    """
    _checked_alpha(alpha)
    if not 0 < exponent < math.inf:
        raise ValueError(f"the exponent of a spending function must be positive, got {exponent}")
    return lambda time: alpha * time**exponent


def hwang_shih_decani_spending(alpha: float, gamma: float) -> Spending:
    """``alpha (1 - exp(-gamma time)) / (1 - exp(-gamma))``: -4 is near O'Brien and Fleming, 1 near Pocock.

    Source:
        Hwang, Shih and De Cani (1990), Statistics in Medicine 9:1439-1445.

    >>> round(hwang_shih_decani_spending(0.025, -4.0)(0.2), 6)
    0.000572
    """
    _checked_alpha(alpha)
    if not math.isfinite(gamma) or abs(gamma) > 500:
        raise ValueError(f"gamma must be a number between -500 and 500, got {gamma}")
    if gamma == 0:
        return lambda time: alpha * time
    return lambda time: alpha * math.expm1(-gamma * time) / math.expm1(-gamma)


def spending_bounds(times: Sequence[float], spending: Spending) -> tuple[float, ...]:
    """The z value that each look must reach.

    Args:
        times: Information times of the looks so far, rising, in (0, 1]; the last look need not be planned yet.
        spending: Alpha spent at a time.

    Returns:
        One bound a look; infinite where nothing may be spent. A one-sided test (or a bootstrap interval) at the level
        ``ndtr(-bound)`` is valid at that look.

    Raises:
        ValueError: If times do not rise within (0, 1], by 0.001 at least, or the spending function falls.

    Source:
        Armitage, McPherson and Rowe (1969), J. Royal Statistical Society A 132:235-244; Lan and DeMets (1983).

    >>> [round(bound, 3) for bound in spending_bounds([0.5, 1.0], obrien_fleming_spending(0.025))]
    [2.963, 1.969]
    """
    _check_times(times)
    bounds: list[float] = []
    walk = _Walk(times)
    spent = 0.0
    for time in times:
        upto = spending(time)
        if not 0 <= upto < 0.5:
            raise ValueError(f"a spending function spends between 0 and 0.5, got {upto} at {time}")
        target = upto - spent
        if target < 0:
            raise ValueError(f"a spending function must not fall, got {upto} at {time} after {spent}")
        spent += target
        if target < 1e-15:
            bounds.append(math.inf)
        else:
            bounds.append(float(brentq(lambda bound, t=target: walk.crossing(bound) - t, -8.0, 12.0, xtol=1e-10)))
        walk.step(bounds[-1])
    return tuple(bounds)


def obrien_fleming_bounds(times: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The classic bounds ``c / sqrt(time)``.

    Args:
        times: Information times of all looks, rising, ending at 1.
        alpha: One-sided.

    Raises:
        ValueError: If times do not rise to 1 or ``alpha`` is outside (0, 0.5).

    Source:
        O'Brien and Fleming (1979), Biometrics 35:549-556.

    >>> [round(bound, 3) for bound in obrien_fleming_bounds([1 / 3, 2 / 3, 1.0], 0.025)]
    [3.471, 2.454, 2.004]
    """
    return _shaped_bounds(times, alpha, lambda time: 1 / math.sqrt(time))


def pocock_bounds(times: Sequence[float], alpha: float) -> tuple[float, ...]:
    """The classic bounds, equal at all looks.

    Args:
        times: Information times of all looks, rising, ending at 1.
        alpha: One-sided.

    Raises:
        ValueError: If times do not rise to 1 or ``alpha`` is outside (0, 0.5).

    Source:
        Pocock (1977), Biometrika 64:191-199.

    >>> [round(bound, 3) for bound in pocock_bounds([0.2, 0.4, 0.6, 0.8, 1.0], 0.025)]
    [2.413, 2.413, 2.413, 2.413, 2.413]
    """
    return _shaped_bounds(times, alpha, lambda _: 1.0)


def crossing_probabilities(
    bounds: Sequence[float], times: Sequence[float], *, drift: float = 0.0, lower: Sequence[float] | None = None
) -> tuple[float, ...]:
    """The probability to have crossed by each look.

    Args:
        bounds: z values, one a look.
        times: Information times, rising, in (0, 1].
        drift: Expected z at time 1: 0 gives the error rate, ``ndtri(1 - alpha) + ndtri(power)`` about the power.
        lower: z values below which counts as crossing too.

    Raises:
        ValueError: If lengths differ, times do not rise within (0, 1], or a lower bound lies above its bound.

    Source:
        Armitage, McPherson and Rowe (1969), Table 2: looking twice at 5 % gives 8.3 %.

    >>> [round(p, 4) for p in crossing_probabilities([1.959964] * 2, [0.5, 1.0], lower=[-1.959964] * 2)]
    [0.05, 0.0831]
    """
    _check_times(times)
    floors = [-math.inf] * len(times) if lower is None else list(lower)
    if not len(bounds) == len(times) == len(floors):
        raise ValueError(f"one bound a look, got {len(bounds)} and {len(floors)} bounds for {len(times)} looks")
    if any(not floor < bound for floor, bound in zip(floors, bounds, strict=True)):
        raise ValueError(f"each lower bound must lie below its bound, got {floors} and {list(bounds)}")
    if not math.isfinite(drift) or abs(drift) > 30:
        raise ValueError(f"drift is an expected z value between -30 and 30, got {drift}")
    walk, total, result = _Walk(times, drift), 0.0, []
    for floor, bound in zip(floors, bounds, strict=True):
        total += walk.crossing(bound, floor)
        result.append(min(total, 1.0))
        walk.step(bound, floor)
    return tuple(result)


class _Walk:
    """The density of the score at the last look, of the paths that have not crossed."""

    def __init__(self, times: Sequence[float], drift: float = 0.0) -> None:
        steps = np.diff([0.0, *times])
        self._steps = [float(step) for step in steps]
        self._drift = drift
        self._look = 0
        self._time = 0.0
        self._nodes = np.zeros(1)
        self._mass = np.ones(1)
        # Panels of Gauss-Legendre nodes, as wide as six standard deviations of the smallest later step.
        finest = math.sqrt(min(self._steps[1:], default=1.0))
        panels = max(12, math.ceil(2 * _REACH / (6 * finest)))
        nodes, weights = np.polynomial.legendre.leggauss(16)
        starts = np.arange(panels)[:, None]
        self._unit_nodes = ((starts + (nodes + 1) / 2) * 2 / panels - 1).ravel()
        self._unit_weights = np.tile(weights / panels, panels)

    def crossing(self, bound: float, floor: float = -math.inf) -> float:
        """Probability that the next look is the first beyond its bounds."""
        step = self._steps[self._look]
        root, spread = math.sqrt(self._time + step), math.sqrt(step)
        ahead = self._nodes + self._drift * step
        crossed = ndtr((ahead - bound * root) / spread) + ndtr((floor * root - ahead) / spread)
        return float(self._mass @ crossed)

    def step(self, bound: float, floor: float = -math.inf) -> None:
        """Go on to the next look with the paths between the bounds."""
        step = self._steps[self._look]
        time = self._time + step
        root, spread, centre = math.sqrt(time), math.sqrt(step), self._drift * time
        low = max(floor * root, centre - _REACH * root)
        high = min(bound * root, centre + _REACH * root)
        nodes = (low + high) / 2 + (high - low) / 2 * self._unit_nodes
        weights = max(high - low, 0.0) / 2 * self._unit_weights
        distance = (nodes[:, None] - self._nodes - self._drift * step) / spread
        density = np.exp(-0.5 * distance**2) @ self._mass / (spread * math.sqrt(2 * math.pi))
        self._nodes, self._mass = nodes, weights * density
        self._time, self._look = time, self._look + 1


def _shaped_bounds(times: Sequence[float], alpha: float, shape: Callable[[float], float]) -> tuple[float, ...]:
    _check_times(times)
    if not math.isclose(times[-1], 1.0):
        raise ValueError(f"classic bounds need all looks up to time 1, got the last at {times[-1]}")
    _checked_alpha(alpha)

    def excess(constant: float) -> float:
        return crossing_probabilities([constant * shape(time) for time in times], times)[-1] - alpha

    constant = float(brentq(excess, 0.0, 8.0, xtol=1e-10))
    return tuple(constant * shape(time) for time in times)


def _check_times(times: Sequence[float]) -> None:
    rising = all(later - earlier >= _CLOSEST for earlier, later in zip([0.0, *times], times, strict=False))
    if not times or not rising or times[-1] > 1 + 1e-12:
        raise ValueError(f"information times must rise within (0, 1], by {_CLOSEST:.3f} at least, got {list(times)}")


def _checked_alpha(alpha: float) -> float:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}")
    return alpha
