"""Intervals of the relative change that hold at every look at once: all ratios that are not rejected. Pure.

An e-process tests each ratio from both sides: "no more than r" by the process of harm at r, "no less than r" by that of
safety. The ratios that neither rejects are a confidence sequence: however often one looks, and whatever made one stop,
it covers the true ratio with the stated probability at all looks together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.cells import Cells
from agentcanary_analysis.checked_input import paired_epochs
from agentcanary_analysis.confidence_sequences import MIN_UNITS, best_kappa, contrast_at, log_e_contrast
from agentcanary_analysis.evalues import (
    FloatArray,
    Question,
    checked_counts,
    checked_weights,
    half_line_prior,
    log_sum_exp,
)
from agentcanary_analysis.evidence import Interval
from agentcanary_analysis.histogram import GROWTH, bin_of
from agentcanary_analysis.looked_at import LookedAt, Table
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Limits, Unknown, checked_confidence
from agentcanary_analysis.questions import MOST_ALPHA, Line, Method, kappa

_WIDEST = np.log(64.0)
_POINTS, _ROUNDS = 16, 3
_MOST_BINS = 210
_SIDES = (Question.HARM, Question.SAFE)


def anytime_ratio_interval(
    canary_events: npt.ArrayLike,
    stable_events: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    confidence: float = 0.95,
) -> Limits:
    """Ratios of two event probabilities, canary to stable, that no look has rejected.

    Exact, whatever the base rate does from epoch to epoch. By the conditional binomial e-process, and so meant for
    events that are rare: of a rate of 85 % it would throw away most of what is known.

    Args:
        canary_events: Shape (epochs,).
        stable_events: Shape (epochs,).
        weight: Designed share of the canary, shape (epochs,); epochs of weight 0 or 1 tell nothing.
        confidence: Two-sided coverage in (0, 1), of all looks together.

    Returns:
        Between 0 and infinity, to 0.2 %; a limit beyond 64 or below 1/64 is not told from infinity and 0.

    Raises:
        ValueError: If a count is negative or not finite, or a weight or ``confidence`` is outside its range.

    Source:
        Lindon & Malek (2022), NeurIPS 35: a confidence sequence by inversion; the process is ``conditional_binomial``.

    >>> low, high = anytime_ratio_interval([60], [800], [0.05])
    >>> round(low, 2), round(high, 2)
    (0.91, 2.11)
    """
    checked_confidence(confidence)
    canary, stable, weights = (
        column[0]
        for column in np.broadcast_arrays(
            checked_counts(canary_events, "canary_events"),
            checked_counts(stable_events, "stable_events"),
            checked_weights(weight),
        )
    )
    return conditional_limits(canary, stable, weights, confidence)


def conditional_limits(canary: FloatArray, stable: FloatArray, weights: FloatArray, confidence: float) -> Limits:
    """``anytime_ratio_interval`` of counts that are known to be possible, each of shape (epochs,)."""
    used = (weights > 0) & (weights < 1)
    k_c, k_s, w = canary[used], stable[used], weights[used]

    def log_e(points: FloatArray) -> FloatArray:
        odds = w * np.exp(points)[..., None] / (1 - w)
        return _conditional(k_c[None, None], k_s, odds / (1 + odds))

    low, high = np.exp(_inverted(log_e, -_WIDEST, _WIDEST, _needed(confidence)))
    return _opened(low, high, np.exp(_WIDEST))


def exceedance_limits(
    table: Table, thresholds: npt.NDArray[np.int64], weights: FloatArray, confidence: float
) -> Limits:
    """Ratios of two quantiles that no look has rejected, to one bin of 2 %: by scaled exceedances at every ratio.

    Args:
        table: Histograms by arm and epoch.
        thresholds: Bin of each epoch's threshold, shape (epochs,), fixed at its start.
        weights: Shape (epochs,); 0 for an epoch without a threshold.
        confidence: Two-sided coverage in (0, 1), of all looks together.

    Returns:
        Ratios; 0 or infinite at an end that nothing bounds.
    """
    used = np.flatnonzero((weights > 0) & (weights < 1))
    stable = table.above(1, thresholds)[used]
    w = weights[used]

    def log_e(points: FloatArray) -> FloatArray:
        canary = table.above(0, thresholds + np.round(points).astype(np.int64)[..., None])[..., used]
        return _conditional(canary, stable, np.broadcast_to(w, canary.shape))

    low, high = _inverted(log_e, -_MOST_BINS, _MOST_BINS, _needed(confidence), whole=True)
    return _opened(GROWTH**low, GROWTH**high, GROWTH**_MOST_BINS)


def anytime_mean_ratio_interval(
    canary: Sequence[Tally],
    stable: Sequence[Tally],
    *,
    variance: float,
    planned_units: float = 600.0,
    confidence: float = 0.95,
) -> Limits | Unknown:
    """Ratios of two means, canary to stable, that no look has rejected; asymptotic.

    Args:
        canary: Sums by epoch, the epochs of equal weight already added up.
        stable: The same of stable.
        variance: Of one value, known before: with ``planned_units`` it says where the interval is tightest, and it must
            be the same at every look.
        planned_units: Effective canary units at which it shall be tightest.
        confidence: Two-sided coverage in (0, 1), of all looks together.

    Returns:
        Ratios between 0 and infinity; ``TOO_FEW`` below 30 values an arm, ``NOT_POSITIVE`` where a sum is not.

    Raises:
        TypeError: If an epoch is no ``Tally``.
        ValueError: If the arms have different epochs, ``variance`` or ``planned_units`` is not positive, or
            ``confidence`` is outside (0, 1).

    Source:
        Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613-2640.

    >>> arms = [[Tally(500, 500, 500 * mean, 500 * (mean**2 + 1))] for mean in (3.8, 4.0)]
    >>> low, high = anytime_mean_ratio_interval(*arms, variance=1.0)
    >>> round(low, 3), round(high, 3)
    (0.902, 1.0)
    """
    checked_confidence(confidence)
    if not (0 < variance < np.inf and 0 < planned_units < np.inf):
        raise ValueError(f"need a variance and planned_units above 0, got {variance=}, {planned_units=}")
    pairs = paired_epochs(canary, stable, Tally)
    rows = [[(arm.observed, arm.total, arm.total_squares) for arm in pair] for pair in pairs]
    sums = np.array(rows, dtype=np.float64).reshape(-1, 2, 3).transpose(2, 1, 0)
    if (sums[0].sum(axis=-1) < MIN_UNITS).any():
        return Unknown.TOO_FEW
    if not (sums[1].sum(axis=-1) > 0).all():
        return Unknown.NOT_POSITIVE
    kappa = best_kappa(planned_units, min((1 - confidence) / 2, MOST_ALPHA)) * variance
    return _contrast_limits(sums, kappa, confidence)


def anytime_interval(looked_at: LookedAt, cells: Cells, line: Line, *, confidence: float = 0.95) -> Interval | None:
    """The relative changes of a metric that no look has rejected; None where nothing is known of both arms.

    Events that are worse when they go up: by the conditional process; quantiles: by scaled exceedances; both exact.
    Means, and shares that are worse when they go down and usually high: by the contrast, asymptotic.

    Args:
        looked_at: The rollout.
        cells: Of this line, a batch of one.
        line: Metric and boundary; of the boundary only the direction is used.
        confidence: Two-sided coverage in (0, 1), of all looks together.
    """
    if line.method is Method.REPORT_ONLY or not ((cells.canary_n > 0) & (cells.stable_n > 0) & cells.testable).any():
        return None
    if line.method is Method.CONTRAST or line.boundary.direction is Direction.DOWN_IS_WORSE:
        ends, method = _of_means(cells, line, confidence), "confidence sequence on the contrast (asymptotic)"
    else:
        # With values missing the canary's share of those that came need not be the design: it must hold at both.
        shares = [cells, cells.at_realised_share()] if cells.gaps[0] else [cells]
        found = [_of_events(looked_at, one, line, confidence) for one in shares]
        ends = Limits(min(one.low for one in found), max(one.high for one in found))
        method = "confidence sequence by the conditional binomial"
    return None if ends is None else Interval(low=ends.low - 1, high=ends.high - 1, level=confidence, method=method)


def _of_events(looked_at: LookedAt, cells: Cells, line: Line, confidence: float) -> Limits:
    weights = np.where(cells.testable, cells.weight, 0.0)[0]
    if line.method is not Method.EXCEEDANCE:
        return conditional_limits(cells.canary_k[0], cells.stable_k[0], weights, confidence)
    known = [epoch.thresholds.get(line.metric.name) for epoch in looked_at.epochs]
    bins = np.array([0 if limit is None else bin_of(limit) for limit in known], dtype=np.int64)
    with_threshold = np.array([limit is not None for limit in known])
    return exceedance_limits(
        looked_at.table(line.metric.name), bins, np.where(with_threshold, weights, 0.0), confidence
    )


def _of_means(cells: Cells, line: Line, confidence: float) -> Limits | None:
    mean = line.method is Method.CONTRAST
    squares = [cells.canary_squares, cells.stable_squares] if mean else [cells.canary_k, cells.stable_k]
    columns = np.stack([[cells.canary_n, cells.stable_n], [cells.canary_k, cells.stable_k], squares])[:, :, 0]
    weights = sorted(set(cells.weight[cells.testable].tolist()))
    sums = np.stack([columns[:, :, cells.weight[0] == weight].sum(axis=-1) for weight in weights], axis=-1)
    if (sums[0].sum(axis=-1) < MIN_UNITS).any() or not (sums[1].sum(axis=-1) > 0).all():
        return None
    return _contrast_limits(sums, float(kappa(cells, Question.HARM, (1 - confidence) / 2)[0]), confidence)


def _contrast_limits(sums: FloatArray, kappa: float, confidence: float) -> Limits:
    """By inversion of the contrast; ``sums`` has the shape (3, 2, epochs)."""
    wide = sums[:, :, None, None]
    sign = np.array([[1.0], [-1.0]])

    def log_e(points: FloatArray) -> FloatArray:
        return log_e_contrast(
            contrast_at(wide, np.exp(points)[..., None], shift=0.0, worse=1.0), kappa=kappa, sign=sign
        )

    low, high = np.exp(_inverted(log_e, -_WIDEST, _WIDEST, _needed(confidence)))
    return _opened(low, high, np.exp(_WIDEST))


def _conditional(canary: FloatArray, stable: FloatArray, share: FloatArray) -> FloatArray:
    """Log e-values of harm (first row) and safety (second), shape (2, points).

    Args:
        canary: Events, shape broadcastable to (2, points, epochs).
        stable: Events, shape (epochs,).
        share: Of the canary among the events at the ratio that is asked about, shape (2, points, epochs).
    """
    distance, log_prior = (np.stack(column) for column in zip(*map(half_line_prior, _SIDES), strict=True))
    distance[1] *= -1
    log_total = np.log1p(share[..., None] * np.expm1(distance)[:, None, None])
    log_e = (
        canary.sum(axis=-1)[..., None] * distance[:, None] - ((canary + stable)[..., None, :] @ log_total)[..., 0, :]
    )
    return log_sum_exp(log_e + log_prior[:, None])


def _inverted(
    log_e: Callable[[FloatArray], FloatArray], lowest: float, highest: float, needed: float, *, whole: bool = False
) -> tuple[float, float]:
    """The ends of what is not rejected, each on the side of the rejected, so that nothing is left out.

    Args:
        log_e: Log e-values of harm and of safety at points of shape (2, points).
        lowest: Of the range that is searched.
        highest: Of the same.
        needed: Log e-value at which a point is rejected.
        whole: The points are whole numbers.
    """
    # Each side is a range that begins with what it rejects (harm: from below; safety: from above).
    begin, end = np.array([lowest, highest], dtype=float), np.array([highest, lowest], dtype=float)
    steps = np.linspace(0.0, 1.0, _POINTS + 1)
    for _ in range(_ROUNDS):
        points = begin[:, None] + (end - begin)[:, None] * steps
        if whole:
            points = np.where((end > begin)[:, None], np.floor(points), np.ceil(points))
        kept = log_e(points) < needed
        first = np.where(kept.any(axis=1), kept.argmax(axis=1), _POINTS)
        rows = np.arange(2)
        begin, end = points[rows, np.maximum(first - 1, 0)], points[rows, first]
    return float(begin[0]), float(begin[1])


def _opened(low: float, high: float, widest: float) -> Limits:
    """Ends at the border of what was searched are open."""
    return Limits(0.0 if low <= 1 / widest * 1.0001 else float(low), np.inf if high >= widest / 1.0001 else float(high))


def _needed(confidence: float) -> float:
    return -float(np.log((1 - confidence) / 2))
