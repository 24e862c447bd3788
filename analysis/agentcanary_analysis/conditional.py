"""Exact conditional tests of two proportions, stratified: for few events, where normal limits are wrong. Pure.

Given an epoch's total of events, the canary's share of them follows Fisher's noncentral hypergeometric distribution
with the odds ratio that the boundary implies. Epochs are independent, so their distributions are convolved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentcanary_analysis.checked_input import checked_counts, checked_type
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim

FloatArray = NDArray[np.float64]

_REACH = 14.0  # standard deviations kept on both sides of the mode; what is cut off weighs less than 1e-40
_DIRECT = 10**7  # products up to which a convolution is summed exactly


def conditional_p_value(
    canary_events: ArrayLike,
    canary_units: ArrayLike,
    stable_events: ArrayLike,
    stable_units: ArrayLike,
    boundary: Boundary,
    *,
    claim: Claim = Claim.BEYOND,
    share_of_equal: float = 0.5,
) -> float:
    """One-sided p-value of the canary's events, given each epoch's total of events.

    With ``ratio=1, floor=0`` exact: Fisher's test for one epoch, the conditional test of Cox for several. On other
    boundaries the odds ratio on the line depends on the unknown rate, which is taken from the epoch's total, the
    quantity that is conditioned on: ``stable = (events - canary_units * shift) / (stable_units + ratio *
    canary_units)``. Its true size is then close to nominal, shown by enumeration in the tests.

    Args:
        canary_events: Shape (epochs,).
        canary_units: Shape (epochs,).
        stable_events: Shape (epochs,).
        stable_units: Shape (epochs,).
        boundary: The line.
        claim: What a small p-value shall speak for.
        share_of_equal: How much of the observed outcome's own probability counts: 1 is Fisher's test, 0.5 is mid-p.

    Raises:
        TypeError: If something is not a number.
        ValueError: If counts are impossible, the boundary leaves no room in [0, 1], or ``share_of_equal`` is outside
            [0, 1].

    Returns:
        In [0, 1]; one where no epoch has both an event and a unit without.

    Source:
        Fisher (1935), J. Royal Statistical Society 98:39-82; Lancaster (1961), JASA 56:223-234 for mid-p;
        Cox (1970), Analysis of Binary Data, section 5.3 for strata.

    >>> equal = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> round(conditional_p_value([2], [50], [0], [950], equal, share_of_equal=1.0), 8)
    0.00245245
    """
    checked_type("boundary", boundary, Boundary)
    checked_type("claim", claim, Claim)
    if not 0 <= share_of_equal <= 1:
        raise ValueError(f"share_of_equal must be between 0 and 1, got {share_of_equal} (0.5 is mid-p)")
    columns = checked_counts(canary_events, canary_units, stable_events, stable_units)
    if columns[0].ndim != 1:
        raise ValueError(f"counts are given by epoch, got the shape {columns[0].shape}")
    start, pmf, observed = 0, np.ones(1), 0
    for k_c, n_c, k_s, n_s in zip(*columns, strict=True):
        low, weights = _split_of_events(k_c, n_c, k_s, n_s, boundary)
        start, pmf, observed = start + low, _convolved(pmf, weights), observed + int(k_c)
    if pmf.size == 1:
        return 1.0
    at = observed - start
    more = (boundary.direction is Direction.UP_IS_WORSE) == (claim is Claim.BEYOND)
    # Summed from the small end, so that a tiny tail keeps its digits.
    tail = pmf[max(at + 1, 0) :][::-1].sum() if more else pmf[: max(at, 0)].sum()
    equal = pmf[at] if 0 <= at < pmf.size else 0.0
    return float(min(1.0, tail + share_of_equal * equal))


def _convolved(one: FloatArray, other: FloatArray) -> FloatArray:
    if one.size * other.size <= _DIRECT:
        return np.convolve(one, other)
    # Large epochs only, and its import costs a second: a look that needs none of it must not wait for that.
    from scipy.signal import fftconvolve

    # By Fourier transform the tails are right to 1e-16 of the whole, which is where p-values of such sizes end.
    return np.maximum(fftconvolve(one, other), 0.0)


def _split_of_events(k_c: float, n_c: float, k_s: float, n_s: float, boundary: Boundary) -> tuple[int, FloatArray]:
    """First possible number of canary events, and the probabilities from there, given the epoch's total."""
    events = k_c + k_s
    first, last = max(0.0, events - n_s), min(n_c, events)
    if first == last:
        return int(first), np.ones(1)
    odds_ratio = _odds_ratio_on(boundary, events, n_c, n_s)
    if odds_ratio in (0.0, np.inf):
        # On the line all events (or all units without) belong to one arm.
        pmf = np.zeros(int(last - first) + 1)
        pmf[0 if odds_ratio == 0 else -1] = 1.0
        return int(first), pmf
    mode, spread = _mode_and_spread(events, n_c, n_s, odds_ratio)
    reach = _REACH * spread + 40
    low, high = max(first, np.floor(mode - reach)), min(last, np.ceil(mode + reach))
    x = np.arange(low, high)
    step = np.log(n_c - x) + np.log(events - x) - np.log(x + 1) - np.log(n_s - events + x + 1) + np.log(odds_ratio)
    log_pmf = np.concatenate([[0.0], np.cumsum(step)])
    pmf = np.exp(np.maximum(log_pmf - log_pmf.max(), -745.0))
    return int(low), pmf / pmf.sum()


def _odds_ratio_on(boundary: Boundary, events: float, n_c: float, n_s: float) -> float:
    r, a = boundary.ratio, boundary.shift
    stable = (events - n_c * a) / (n_s + r * n_c)
    stable = min(max(stable, 0.0, -a / r), 1.0, (1 - a) / r)
    canary = min(max(r * stable + a, 0.0), 1.0)
    if r == 1 and a == 0:
        return 1.0
    if canary * (1 - stable) <= 0:
        return 0.0
    if stable * (1 - canary) <= 0:
        return float(np.inf)
    return canary * (1 - stable) / (stable * (1 - canary))


def _mode_and_spread(events: float, n_c: float, n_s: float, odds_ratio: float) -> tuple[float, float]:
    """Where the noncentral hypergeometric distribution lies, from the quadratic that its mean nearly solves."""
    # x (n_s - events + x) = odds_ratio (n_c - x) (events - x)
    a = 1 - odds_ratio
    b = n_s - events + odds_ratio * (n_c + events)
    c = -odds_ratio * n_c * events
    root = -c / b if abs(a) < 1e-12 else (-b + np.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    mode = min(max(root, 0.0, events - n_s), n_c, events)
    cells = (mode + 1, n_c - mode + 1, events - mode + 1, n_s - events + mode + 1)
    return mode, float(1 / np.sqrt(sum(1 / cell for cell in cells)))
