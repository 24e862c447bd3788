"""Conversations that belong together (of one user, of one task): how to count them. Pure.

Three ways, from the safest: one unit a cluster that counts once (``clusters_with_event``), sums of clusters whose
variance is that of clusters (``cluster_tallies``), and counts of conversations divided by how often they repeat each
other (``tempered_events``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS, Tally
from agentcanary_analysis.checked_input import checked_type, float_array, paired_epochs
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportions import Proportion

FloatArray = NDArray[np.float64]


class Tempered(NamedTuple):
    """Events that count as if independent.

    Attributes:
        canary: Of the canary by epoch, shape (epochs,), not whole numbers.
        stable: Of stable, the same epochs.
        factor: What both were divided by.
    """

    canary: FloatArray
    stable: FloatArray
    factor: float


def clusters_with_event(clusters: Sequence[Hashable], events: ArrayLike) -> Proportion:
    """Clusters with at least one event, among all clusters of one arm and epoch.

    With ``sticky_by: user`` this is exact: users are assigned independently, their conversations are not.

    Args:
        clusters: The cluster of each conversation, shape (conversations,).
        events: 0 or 1 for each, the same shape.

    Raises:
        ValueError: If the lengths differ or a value is neither 0 nor 1.

    >>> clusters_with_event(["ann", "ann", "bob", "cem"], [1, 1, 0, 0])
    Proportion(events=1, units=3)
    """
    happened = _values(clusters, events)
    if not np.isin(happened, (0.0, 1.0)).all():
        odd = happened[~np.isin(happened, (0.0, 1.0))][0]
        raise ValueError(f"an event is 0 or 1, got {odd:g}; leave out conversations without a value")
    found = {cluster for cluster, event in zip(clusters, happened, strict=True) if event}
    return Proportion(len(found), len(set(clusters)))


def cluster_tallies(clusters: Sequence[Hashable], values: ArrayLike) -> dict[int, Tally]:
    """Sums of one arm and epoch by resampling bucket, one unit a cluster: its total, and its number of conversations.

    They are what ``bucket_draws``, ``clustered_interval``, ``effective_clusters``, ``repeat_factor`` and, with
    ``Kind.RATIO``, the tests and intervals of means read. A cluster has the same bucket in every process.

    Args:
        clusters: The cluster of each conversation, shape (conversations,).
        values: The value of each, the same shape.

    Raises:
        ValueError: If the lengths differ or a value is not finite.

    >>> sum(cluster_tallies(["ann", "ann", "bob"], [1.0, 0.0, 1.0]).values(), Tally())
    Tally(units=2, observed=2, total=2.0, total_squares=2.0, size=3.0, size_squares=5.0, product=3.0)
    """
    observed = _values(clusters, values)
    totals: dict[Hashable, tuple[float, int]] = {}
    for cluster, value in zip(clusters, observed.tolist(), strict=True):
        total, size = totals.get(cluster, (0.0, 0))
        totals[cluster] = total + value, size + 1
    buckets: dict[int, Tally] = {}
    for cluster, (y, n) in totals.items():
        bucket = int.from_bytes(blake2b(repr(cluster).encode(), digest_size=8).digest()) % RESAMPLING_BUCKETS
        buckets[bucket] = buckets.get(bucket, Tally()) + Tally(1, 1, y, y * y, n, n * n, y * n)
    return buckets


def repeat_factor(tallies: Iterable[Tally]) -> float | Unknown:
    """How many events of a cluster stand for one: ``d = sum(y**2) / sum(y)``, y being the events of a cluster.

    Args:
        tallies: One unit a cluster, ``total`` its events; of both arms and all epochs.

    Returns:
        1 where no cluster has two events; ``NO_EVENTS`` without any.

    Raises:
        ValueError: If the totals are not counts of events.

    >>> repeat_factor([Tally(100, 100, 12.0, 30.0)])
    2.5
    """
    together = sum((checked_type("each cluster's sums", tally, Tally) for tally in tallies), Tally())
    if not 0 <= together.total <= together.total_squares:
        raise ValueError(
            f"the values of clusters must be counts of events, got total={together.total:g} and "
            f"total_squares={together.total_squares:g}"
        )
    return together.total_squares / together.total if together.total else Unknown.NO_EVENTS


def tempered_events(canary: Sequence[Tally], stable: Sequence[Tally]) -> Tempered | Unknown:
    """Events of conversations for the conditional binomial e-process, divided by how often they repeat each other.

    For when conversations must be counted although users were randomised. An approximation: the e-process of tempered
    counts is no exact e-process; the tests show its false alarms by simulation. ``clusters_with_event`` is exact.

    Args:
        canary: One tally an epoch, one unit a cluster, ``total`` its events.
        stable: The same epochs.

    Returns:
        ``NO_EVENTS`` without any event.

    Raises:
        ValueError: If the arms have different epochs or the totals are not counts of events.

    >>> tempered_events([Tally(40, 40, 6.0, 16.0)], [Tally(60, 60, 4.0, 4.0)])
    Tempered(canary=array([3.]), stable=array([2.]), factor=2.0)
    """
    paired_epochs(canary, stable, Tally)
    factor = repeat_factor([*canary, *stable])
    if isinstance(factor, Unknown):
        return factor
    in_canary, in_stable = (np.array([tally.total for tally in arm]) / factor for arm in (canary, stable))
    return Tempered(in_canary, in_stable, factor)


def _values(clusters: Sequence[Hashable], values: ArrayLike) -> FloatArray:
    found = float_array("values", values)
    if found.shape != (len(clusters),):
        raise ValueError(f"each conversation needs one value, got the shape {found.shape} for {len(clusters)} of them")
    if not np.isfinite(found).all():
        where = int(np.flatnonzero(~np.isfinite(found))[0])
        raise ValueError(f"conversation {where} has the value {found[where]}; leave out conversations without a value")
    return found
