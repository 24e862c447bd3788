"""Quantiles of one arm, from histograms and from sorted values, with intervals by order statistics. Pure.

An infinite value is a turn that never came: it counts like any other and is the largest. The quantile ``p`` of n values
is the ``ceil(n p)``-th smallest, the smallest value that a share of at least ``p`` does not exceed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrik

from agentcanary_analysis.checked_input import MOST_UNITS, checked_type, float_array
from agentcanary_analysis.histogram import INFINITE_BIN, LOWEST_BIN, edge
from agentcanary_analysis.one_look import Limits, checked_confidence
from agentcanary_analysis.proportions import Proportion

FloatArray = NDArray[np.float64]


def sorted_quantile(values: ArrayLike, p: float) -> float:
    """The quantile of values in ascending order.

    Args:
        values: Shape (n,), ascending, infinite at the end for what never came.
        p: In (0, 1).

    Raises:
        ValueError: If there is no value, one is not a number, they are not ascending, or ``p`` is outside (0, 1).

    >>> sorted_quantile([1.0, 2.0, 3.0, float("inf")], 0.75), sorted_quantile([1.0, 2.0, 3.0, float("inf")], 0.95)
    (3.0, inf)
    """
    ordered = sorted_values(values)
    return float(ordered[rank_of(ordered.size, checked_quantile(p)) - 1])


def histogram_quantile(bins: Mapping[int, int], p: float) -> float:
    """The quantile of a histogram, in the values' unit, interpolated inside its bin on the logarithm.

    Args:
        bins: Values per bin of ``histogram``.
        p: In (0, 1).

    Returns:
        Within 2 % of the values' own quantile; infinite when that many never came.

    Raises:
        ValueError: If the histogram is empty, a count is negative, or ``p`` is outside (0, 1).

    >>> round(histogram_quantile({0: 50, 35: 50}, 0.25), 3), histogram_quantile({0: 9, INFINITE_BIN: 1}, 0.95)
    (0.99, inf)
    """
    numbers, counts = histogram_arrays(bins)
    return float(values_at_ranks(numbers, counts, np.array([rank_of(int(counts.sum()), checked_quantile(p))]))[0])


def histogram_arrays(bins: Mapping[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bin numbers in ascending order and their counts, without the empty bins.

    Raises:
        ValueError: If nothing is counted, a count is negative or broken, or there is no such bin.

    >>> [column.tolist() for column in histogram_arrays({7: 2, 3: 1, 5: 0})]
    [[3, 7], [1, 2]]
    """
    checked_bins(bins)
    filled = sorted((number, count) for number, count in bins.items() if count)
    if not filled:
        raise ValueError("an empty histogram has no quantile; check the number of values first")
    numbers, counts = zip(*filled, strict=True)
    return np.array(numbers, dtype=np.int64), np.array(counts, dtype=np.int64)


def checked_bins(bins: Mapping[int, int]) -> Mapping[int, int]:
    """``bins`` itself, if it is a histogram.

    Raises:
        TypeError: If it is no mapping.
        ValueError: If a count is negative or broken, or there is no such bin.

    >>> checked_bins({0: 3})
    {0: 3}
    """
    checked_type("a histogram", bins, Mapping)
    for number, count in bins.items():
        if not (isinstance(count, Integral) and 0 <= count <= MOST_UNITS):
            raise ValueError(
                f"a histogram holds counts of 0 and more, got {count!r:.80} (whole up to {MOST_UNITS:.0e})"
            )
        if not (isinstance(number, Integral) and LOWEST_BIN <= number <= INFINITE_BIN):
            raise ValueError(f"a bin is a whole number from {LOWEST_BIN} to {INFINITE_BIN}, got {number!r:.80}")
    return bins


def values_at_ranks(numbers: NDArray[np.int64], counts: NDArray[np.int64], ranks: NDArray[np.int64]) -> FloatArray:
    """The values of a histogram at ranks 1 … n; those of one bin are spread evenly on the logarithm.

    Args:
        numbers: Shape (bins,), ascending.
        counts: Shape (bins,), positive.
        ranks: Any shape.

    Returns:
        The shape of ``ranks``.

    >>> values_at_ranks(np.array([0]), np.array([2]), np.array([1, 2])).round(4).tolist()
    [0.9901, 1.0]
    """
    upto = np.cumsum(counts)
    at = np.searchsorted(upto, ranks)
    return inside_bins(numbers, at, (ranks - (upto - counts)[at]) / counts[at])


def inside_bins(numbers: NDArray[np.int64], at: NDArray[np.intp], share: FloatArray) -> FloatArray:
    """The values a share of the way through the bins ``numbers[at]``, on the logarithm; infinite in the infinite bin.

    >>> inside_bins(np.array([0, 35]), np.array([0, 1]), np.array([0.5, 1.0])).round(3).tolist()
    [0.99, 2.0]
    """
    if at.size < numbers.size:
        numbers, at = numbers[at], np.arange(at.size).reshape(at.shape)
    upper = np.array([edge(number) for number in numbers.ravel().tolist()])
    lower = np.array([edge(number - 1) for number in numbers.ravel().tolist()])
    never = numbers.ravel() >= INFINITE_BIN
    growth = np.log(np.where(never, 1.0, upper) / np.where(never, 1.0, lower))
    values: FloatArray = np.where(never, math.inf, lower)[at] * np.exp(growth[at] * np.clip(share, 0, 1))
    return values


def order_statistic_ranks(n: int, p: float, *, confidence: float = 0.95) -> tuple[int, int, float]:
    """Ranks, from 1, of the two ordered values between which the quantile lies, and the coverage they have.

    Args:
        n: Number of values.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1); each side is wrong with at most half of the rest.

    Returns:
        Low rank (0: there is no lower limit), high rank (``n + 1``: there is no upper one), true coverage.

    Raises:
        ValueError: If ``n`` is not positive, or ``p`` or ``confidence`` is outside (0, 1).

    Source:
        Hahn and Meeker (1991), Statistical Intervals, section 5.2.

    >>> order_statistic_ranks(200, 0.95)[:2]
    (184, 197)
    """
    if not (isinstance(n, Integral) and 1 <= n <= MOST_UNITS):
        raise ValueError(f"a quantile needs at least one value, got n={n!r:.80} (whole, up to {MOST_UNITS:.0e})")
    tail = (1 - checked_confidence(confidence)) / 2
    low, high = _binomial_point(tail, n, checked_quantile(p)), _binomial_point(1 - tail, n, p) + 1
    return low, high, float(bdtr(high - 1, n, p) - (bdtr(low - 1, n, p) if low else 0.0))


def upper_limit_needs(p: float, *, confidence: float = 0.95) -> int:
    """The number of values from which on the largest one is an upper limit of the quantile.

    Args:
        p: In (0, 1).
        confidence: One-sided coverage in (0, 1).

    >>> upper_limit_needs(0.95)
    59
    """
    return math.ceil(math.log(1 - checked_confidence(confidence)) / math.log(checked_quantile(p)))


def sorted_quantile_interval(values: ArrayLike, p: float, *, confidence: float = 0.95) -> Limits:
    """Interval of the quantile from values in ascending order, without any assumption on their distribution.

    Args:
        values: Shape (n,), ascending.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1).

    Returns:
        Ends are values; (0 or infinite) where the order statistics do not bound that side.

    Raises:
        ValueError: As for ``sorted_quantile``.

    Source:
        Woodruff (1952), JASA 47:635-646; Hahn and Meeker (1991), section 5.2.

    >>> sorted_quantile_interval([float(i) for i in range(1, 101)], 0.95)
    Limits(low=90.0, high=100.0)
    """
    ordered = sorted_values(values)
    low, high, _ = order_statistic_ranks(ordered.size, p, confidence=confidence)
    return Limits(
        float(ordered[low - 1]) if low >= 1 else 0.0, float(ordered[high - 1]) if high <= ordered.size else math.inf
    )


def histogram_quantile_interval(bins: Mapping[int, int], p: float, *, confidence: float = 0.95) -> Limits:
    """Interval of the quantile from a histogram: the edges of the bins in which its order statistics lie.

    Args:
        bins: Values per bin of ``histogram``.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1).

    Raises:
        ValueError: As for ``histogram_quantile``.

    >>> low, high = histogram_quantile_interval({0: 900, 100: 100}, 0.5)
    >>> round(low, 4), round(high, 4)
    (0.9804, 1.0)
    """
    numbers, counts = histogram_arrays(bins)
    upto = np.cumsum(counts)
    low, high, _ = order_statistic_ranks(int(upto[-1]), p, confidence=confidence)
    below = edge(int(numbers[np.searchsorted(upto, low)]) - 1) if low >= 1 else 0.0
    above = edge(int(numbers[np.searchsorted(upto, high)])) if high <= upto[-1] else math.inf
    return Limits(below, above)


def exceedances(bins: Mapping[int, int], threshold: float) -> Proportion:
    """How many values of a histogram lie above a threshold, which must be one of its edges.

    Args:
        bins: Values per bin of ``histogram``.
        threshold: A finite edge, in the values' unit.

    Raises:
        ValueError: If a bin is cut in two by the threshold.

    >>> exceedances({0: 90, 5: 10}, edge(0))
    Proportion(events=10, units=100)
    """
    if not 0 < threshold < math.inf:
        raise ValueError(f"a threshold is a positive finite edge, got {threshold}")
    checked_bins(bins)
    above = 0
    for number, count in bins.items():
        if edge(number - 1) * (1 + 1e-9) < threshold < edge(number) * (1 - 1e-9):
            raise ValueError(f"the threshold {threshold} lies inside a bin; round it to an edge of the histogram")
        above += count if edge(number) > threshold * (1 + 1e-9) else 0
    return Proportion(above, sum(bins.values()))


def rank_of(n: int, p: float) -> int:
    """The rank, from 1, of the quantile among ``n`` values; a product that is whole but for rounding counts as whole.

    >>> rank_of(100, 0.95), rank_of(101, 0.95)
    (95, 96)
    """
    return min(max(math.ceil(n * p - 1e-9), 1), n)


def _binomial_point(level: float, n: int, p: float) -> int:
    """The smallest number of successes that is not exceeded with a probability of at least ``level``."""
    point = max(math.ceil(bdtrik(level, n, p)), 0)
    return point - 1 if point > 0 and bdtr(point - 1, n, p) >= level else point


def checked_quantile(p: float) -> float:
    """``p`` itself, if it names a quantile.

    Raises:
        ValueError: If it is outside (0, 1).

    >>> checked_quantile(0.95)
    0.95
    """
    if not 0 < p < 1:
        raise ValueError(f"a quantile is a share between 0 and 1, got {p} (write 0.95 for p95)")
    return p


def sorted_values(values: ArrayLike) -> FloatArray:
    """Values as a float array, if they are in ascending order.

    Raises:
        ValueError: If there is none, one is not a number, or they are not ascending.

    >>> sorted_values([1, 2, float("inf")]).tolist()
    [1.0, 2.0, inf]
    """
    ordered = float_array("values", values)
    if ordered.ndim != 1 or ordered.size == 0:
        raise ValueError(f"a quantile needs a list of at least one value, got the shape {ordered.shape}")
    if np.isnan(ordered[-1]) or not (ordered[1:] >= ordered[:-1]).all():
        raise ValueError("values must be sorted and hold no NaN; write inf for a turn that never came")
    return ordered
