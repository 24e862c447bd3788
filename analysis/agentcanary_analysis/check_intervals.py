"""The interval of a check that people read: by cluster, by bootstrap, or the engine's own. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS, Arm, Cell, Tally
from agentcanary_analysis.bootstrap import bucket_draws, histogram_quantile_draws, proportion_draws
from agentcanary_analysis.bootstrap_intervals import clustered_interval, percentile_interval
from agentcanary_analysis.cluster_variance import Clustered, clustered_ratio_interval, levels
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.counted_checks import (
    clustered_values,
    compared_epochs,
    compared_histograms,
    exceedances,
    kind_of_group,
    rarest_event,
)
from agentcanary_analysis.evidence import Interval
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.quantile_checks import clustered_quantiles

FloatArray = npt.NDArray[np.float64]
LEVEL = 0.95


def check_interval(
    counted: Counted, metric: Metric, by_engine: Interval | None, rng: np.random.Generator | None
) -> Interval | None:
    """The interval of the relative change that people read.

    By cluster where there are clusters; with a generator, by bootstrap; else the engine's own.

    Args:
        counted: The data.
        metric: No count.
        by_engine: What the engine says without clusters and draws.
        rng: The source of randomness, or None.
    """
    if counted.clustered:
        return _clustered_interval(counted, metric, rng)
    if rng is None:
        return by_engine
    drawn = _drawn(counted, metric, rng)
    if drawn is None:
        return by_engine
    limits = percentile_interval(drawn, confidence=LEVEL)
    return by_engine if isinstance(limits, Unknown) else _interval(limits, "bootstrap, 10,000 draws")


def _interval(limits: Limits | Unknown, method: str) -> Interval | None:
    if isinstance(limits, Unknown):
        return None
    return Interval(low=limits.low, high=limits.high, level=LEVEL, method=method)


def _drawn(counted: Counted, metric: Metric, rng: np.random.Generator) -> FloatArray | None:
    if metric.quantile is not None:
        stable_bins, canary_bins = compared_histograms(counted, metric, None)
        quantiles = histogram_quantile_draws(canary_bins, stable_bins, metric.quantile, rng=rng)
        return None if isinstance(quantiles, Unknown) else quantiles
    tallies = counted.tallies(metric.name)
    pairs = [tallies[index] for index in compared_epochs(counted) if all(tally.observed for tally in tallies[index])]
    if not pairs:
        return None
    if metric.kind is Kind.PROPORTION:
        arms = [[Proportion(round(pair[arm].total), pair[arm].observed) for pair in pairs] for arm in (1, 0)]
        return proportion_draws(*arms, rng=rng)
    aggregates = counted.aggregates()
    buckets = [
        [
            aggregates.tallies.get(Cell(metric.name, counted.epochs[index].number, arm), {})
            for index in compared_epochs(counted)
        ]
        for arm in (Arm.CANARY, Arm.STABLE)
    ]
    means = bucket_draws(*buckets, rng=rng)
    return None if isinstance(means, Unknown) else means


def _clustered_interval(counted: Counted, metric: Metric, rng: np.random.Generator | None) -> Interval | None:
    if metric.quantile is not None:
        stable, canary = compared_histograms(counted, metric, None)
        found = clustered_quantiles(
            canary, stable, metric.quantile, lambda at_s, at_c: exceedances(counted, metric, at_s, at_c)
        )
        if isinstance(found, Unknown):
            return None
        limits = found.limits((1 - LEVEL) / 2)
        return _interval(Limits(limits.low - 1, limits.high - 1), f"Woodruff's, variance of {kind_of_group(counted)}")
    values = clustered_values(counted, metric)
    found_levels = levels(values)
    if isinstance(found_levels, Unknown):
        return None
    if rng is not None and not values.shared:
        rarest = int(rarest_event(values)) if metric.kind is Kind.PROPORTION else None
        drawn = clustered_interval(*_bucket_tallies(counted, values), rng=rng, rarest=rarest, confidence=LEVEL)
        return _interval(drawn.limits, drawn.method)
    limits_or_why = clustered_ratio_interval(found_levels, confidence=LEVEL)
    return _interval(limits_or_why, f"linearised variance of {kind_of_group(counted)}")


def _bucket_tallies(counted: Counted, values: Clustered) -> tuple[list[dict[int, Tally]], list[dict[int, Tally]]]:
    """Per epoch, canary then stable: the sums of clusters by resampling bucket, one unit a cluster."""
    found: tuple[list[dict[int, Tally]], list[dict[int, Tally]]] = ([], [])
    bucket = counted.buckets[values.cluster]
    y, n = values.total, values.n
    for index in compared_epochs(counted):
        for position, arm in enumerate((1, 0)):
            here = (values.epoch == index) & (values.arm == arm) & (n > 0)
            sums = [
                np.bincount(bucket[here], weights=column[here], minlength=RESAMPLING_BUCKETS)
                for column in (np.ones(n.size), y, y * y, n, n * n, y * n)
            ]
            found[position].append(
                {
                    int(at): Tally(round(sums[0][at]), round(sums[0][at]), *(float(column[at]) for column in sums[1:]))
                    for at in np.flatnonzero(sums[0])
                }
            )
    return found
