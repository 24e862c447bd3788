"""Intervals from bootstrap draws, and the rule that says when clusters are too few for them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.bootstrap import DRAWS, Change, bucket_draws, ratio_of
from agentcanary_analysis.checked_input import checked_draws, checked_rng, checked_type, float_array, paired_epochs
from agentcanary_analysis.means import log_delta_interval
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.one_look import Limits, Unknown, checked_confidence
from agentcanary_analysis.proportions import Proportion, paired_counts

FloatArray = NDArray[np.float64]

# From coverage by simulation: with 20 groups a nominal 90 % interval covers 86 %.
MOST_CLUSTERS_NEEDED, FEWEST_CLUSTERS = 50, 10
FEWEST_GROUPS = 100
MOST_EVENTS_NEEDED, FEWEST_EVENTS = 10, 5


class ClusteredInterval(NamedTuple):
    """An interval of the relative change of clustered values.

    Attributes:
        method: Which of the methods the data allow.
        limits: The interval, or why there is none.
    """

    method: str
    limits: Limits | Unknown


def percentile_interval(draws: ArrayLike, *, confidence: float = 0.95) -> Limits | Unknown:
    """The middle ``confidence`` of the draws.

    Args:
        draws: Shape (draws,); infinite values are legal.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        ``UNBOUNDED`` if more than one draw in a hundred has no value.

    Raises:
        ValueError: If there is no draw or ``confidence`` is outside (0, 1).

    >>> percentile_interval(np.arange(1001.0), confidence=0.9)
    Limits(low=50.0, high=950.0)
    """
    tail = (1 - checked_confidence(confidence)) / 2
    return _at_levels(draws, tail, 1 - tail)


def bca_interval(
    draws: ArrayLike, estimate: float, left_out: Sequence[tuple[ArrayLike, ArrayLike]], *, confidence: float = 0.95
) -> Limits | Unknown:
    """The percentile interval corrected for bias and for skewness.

    Cheap on aggregates: equal rows give equal jackknife values, which are counted instead of repeated.

    Args:
        draws: Shape (draws,).
        estimate: The statistic on the sample itself.
        left_out: Per sample the statistic with one row (or bucket) left out, and how many rows have that value.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        ``UNBOUNDED`` where all draws lie on one side of the estimate or more than one in a hundred has no value.

    Raises:
        ValueError: If there is no draw or ``confidence`` is outside (0, 1).

    Source:
        Efron (1987), JASA 82:171-185.

    >>> from agentcanary_analysis.bootstrap import proportion_draws
    >>> rng = np.random.default_rng(7)
    >>> arms = [Proportion(30, 300)], [Proportion(300, 3000)]
    >>> draws = proportion_draws(*arms, rng=rng)
    >>> low, high = bca_interval(draws, 0.0, proportion_jackknife(*arms), confidence=0.9)
    >>> round(low, 2), round(high, 2)
    (-0.27, 0.34)
    """
    checked_confidence(confidence)
    values = float_array("draws", draws)
    if math.isnan(estimate):
        raise ValueError("the estimate must be a number, got nan")
    below = float(((values < estimate).sum() + 0.5 * (values == estimate).sum()) / max(values.size, 1))
    if not 0 < below < 1:
        return Unknown.UNBOUNDED
    cubes = squares = 0.0
    for some, times in left_out:
        value, count = float_array("left_out", some), float_array("left_out", times)
        rows = count.sum()
        pull = (rows - 1) * ((value * count).sum() / rows - value)
        cubes += float((count * pull**3).sum() / rows**3)
        squares += float((count * pull**2).sum() / rows**2)
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    bias = ndtri(below)
    z = bias + np.array([-1, 1]) * ndtri((1 + confidence) / 2)
    low, high = ndtr(bias + z / (1 - acceleration * z))
    return _at_levels(values, float(low), float(high))


def proportion_jackknife(
    canary: Sequence[Proportion], stable: Sequence[Proportion], *, change: Change = Change.RELATIVE
) -> list[tuple[FloatArray, FloatArray]]:
    """For ``bca_interval``: per epoch and arm the change with an event, and with a unit without one, left out.

    Raises:
        ValueError: If no epoch has units in both arms.

    >>> proportion_jackknife([Proportion(1, 2)], [Proportion(2, 4)])[0][0].tolist()
    [-1.0, 1.0]
    """
    checked_type("change", change, Change)
    k_c, n_c, k_s, n_s = paired_counts(canary, stable)
    weight = n_c * n_s / (n_c + n_s)
    rates = [k_c / n_c, k_s / n_s]
    result = []
    for arm, (k, n) in enumerate(((k_c, n_c), (k_s, n_s))):
        for epoch in range(n.size):
            kinds = [(k[epoch] - 1, k[epoch]), (k[epoch], n[epoch] - k[epoch])]
            values = []
            for events, _ in kinds:
                changed = [rate.copy() for rate in rates]
                changed[arm][epoch] = max(events, 0.0) / max(n[epoch] - 1, 1)
                at_c, at_s = np.array([changed[0] @ weight]), np.array([changed[1] @ weight])
                difference = change is Change.DIFFERENCE
                values.append(float(((at_c - at_s) / weight.sum() if difference else ratio_of(at_c, at_s) - 1)[0]))
            counts = np.array([rows for _, rows in kinds])
            result.append((np.array(values)[counts > 0], counts[counts > 0]))
    return result


def effective_clusters(tallies: Iterable[Tally]) -> float:
    """Kish's number of clusters of one arm: as many of equal size as the arm's are worth.

    Args:
        tallies: Of one arm; ``observed`` counts clusters, ``size`` their conversations.

    Returns:
        ``observed`` itself where no sizes are kept: each unit is its own cluster.

    Source:
        Kish (1965), Survey Sampling, section 11.7.

    >>> effective_clusters([Tally(3, 3, 1.0, 1.0, size=12.0, size_squares=102.0, product=1.0)])
    1.4117647058823528
    """
    arm = sum((checked_type("each cluster's sums", tally, Tally) for tally in tallies), Tally())
    return arm.size * (arm.size / arm.size_squares) if arm.size_squares > 0 else float(arm.observed)


def clustered_interval(
    canary: Sequence[Mapping[int, Tally]],
    stable: Sequence[Mapping[int, Tally]],
    *,
    rng: np.random.Generator,
    kind: Kind = Kind.RATIO,
    rarest: int | None = None,
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> ClusteredInterval:
    """Interval of the relative change by the best method that the number of clusters allows.

    Args:
        canary: Per epoch the tallies by resampling bucket.
        stable: The same epochs.
        rng: The source of randomness.
        kind: ``RATIO`` or ``MEAN``.
        rarest: The fewest of events and non-events in either arm, for values that are events; else None.
        confidence: Two-sided coverage in (0, 1).
        draws: Of the bootstrap.

    Returns:
        The bootstrap from 50 effective clusters, 100 groups and 10 events; the linearised variance from 10 effective
        clusters and 5 events; below, ``TOO_FEW_CLUSTERS`` or ``TOO_FEW_EVENTS``.
        By simulation a nominal 95 % covers 93.6 to 95 % (``benchmarks/sim_coverage.py``).

    Raises:
        ValueError: As for ``bucket_draws``.

    >>> buckets = {number: Tally(1, 1, 2.0, 4.0, size=10.0, size_squares=100.0, product=20.0) for number in range(9)}
    >>> clustered_interval([buckets], [buckets], rng=np.random.default_rng(7)).limits.value
    'there are fewer than 10 effective clusters in an arm'
    """
    paired_epochs(canary, stable, Mapping)
    checked_rng(rng)
    checked_confidence(confidence)
    checked_draws(draws)
    if rarest is not None and not (isinstance(rarest, Integral) and rarest >= 0):
        raise ValueError(f"rarest is a number of events, 0 or more, got {rarest!r:.80}")
    arms = [[tally for epoch in arm for tally in epoch.values() if tally.observed] for arm in (canary, stable)]
    if not all(arms):
        return ClusteredInterval("none", Unknown.EMPTY_ARM)
    clusters = min(effective_clusters(arm) for arm in arms)
    if rarest is not None and rarest < FEWEST_EVENTS:
        return ClusteredInterval("none", Unknown.TOO_FEW_EVENTS)
    if clusters < FEWEST_CLUSTERS:
        return ClusteredInterval("none", Unknown.TOO_FEW_CLUSTERS)
    groups = min(len(arm) for arm in arms)
    enough_events = rarest is None or rarest >= MOST_EVENTS_NEEDED
    if clusters >= MOST_CLUSTERS_NEEDED and groups >= FEWEST_GROUPS and enough_events:
        drawn = bucket_draws(canary, stable, rng=rng, kind=kind, draws=draws)
        limits = drawn if isinstance(drawn, Unknown) else percentile_interval(drawn, confidence=confidence)
        return ClusteredInterval("clustered bootstrap", limits)
    totals = [[sum(epoch.values(), Tally()) for epoch in arm] for arm in (canary, stable)]
    limits = log_delta_interval(*totals, kind=kind, confidence=confidence, freedom=clusters - 1)
    return ClusteredInterval("linearised variance", limits)


def _at_levels(draws: ArrayLike, low: float, high: float) -> Limits | Unknown:
    values = float_array("draws", draws)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"an interval needs a list of draws, got the shape {values.shape}")
    known = np.sort(values[~np.isnan(values)])
    if known.size < 0.99 * values.size:
        return Unknown.UNBOUNDED
    at = np.clip(np.rint(np.array([low, high]) * (known.size - 1)), 0, known.size - 1).astype(int)
    return Limits(float(known[at[0]]), float(known[at[1]]))
