"""What a check reads of the counts: testable epochs, values and exceedances by cluster, the split. Pure."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from agentcanary_analysis.cluster_variance import Clustered
from agentcanary_analysis.counted import Counted, Keys
from agentcanary_analysis.histogram import GROWTH, INFINITE_BIN
from agentcanary_analysis.metrics import Metric

FloatArray = npt.NDArray[np.float64]
Bins = dict[int, int]


def compared_epochs(counted: Counted) -> npt.NDArray[np.intp]:
    """Positions of the epochs in which both arms could be chosen."""
    return np.array([i for i, epoch in enumerate(counted.epochs) if 0 < epoch.weight < 1], dtype=np.intp)


def compared_histograms(counted: Counted, metric: Metric, upto: int | None) -> tuple[list[Bins], list[Bins]]:
    """Filled bins by testable epoch, of stable and of the canary."""
    both = counted.histograms(metric.name, upto)
    chosen = [both[index] for index in compared_epochs(counted)]
    return [stable for stable, _ in chosen], [canary for _, canary in chosen]


def clustered_values(counted: Counted, metric: Metric, upto: int | None = None) -> Clustered:
    """Values of a proportion or a mean by cluster, over the testable epochs."""
    sums = counted.sums[metric.name]
    return _cells(counted, counted.keys, sums.observed, sums.total, upto)


def responses(counted: Counted, metric: Metric, upto: int | None = None) -> Clustered:
    """Who has a value, by cluster."""
    return _cells(counted, counted.keys, counted.keys.rows, counted.sums[metric.name].observed, upto)


def exceedances(counted: Counted, metric: Metric, at_s: float, at_c: float, upto: int | None = None) -> Clustered:
    """Who exceeds a limit, one for each arm, by cluster; the rows of a bin are spread evenly on the logarithm.

    Args:
        counted: The data.
        metric: A quantile.
        at_s: Limit of stable.
        at_c: Limit of the canary.
        upto: Only the slices before this number.
    """
    bins = counted.bins[metric.name]
    limit = np.array([at_s, at_c])[bins.keys.arm]
    came = bins.number < INFINITE_BIN
    above = np.where(came, bins.number, 0) - np.log(limit) / math.log(GROWTH)
    share = np.where(came, np.clip(above, 0.0, 1.0), 1.0)
    return _cells(counted, bins.keys, bins.keys.rows, bins.keys.rows * share, upto)


def _cells(counted: Counted, keys: Keys, n: FloatArray, total: FloatArray, upto: int | None) -> Clustered:
    chosen = np.isin(keys.epoch, compared_epochs(counted))
    if upto is not None:
        chosen &= keys.slice < upto
    groups = counted.buckets.size
    address = ((keys.epoch * 2 + keys.arm) * groups + keys.group)[chosen]
    different, where = np.unique(address, return_inverse=True)
    return Clustered(
        arm=different // groups % 2,
        epoch=different // groups // 2,
        cluster=different % groups,
        n=np.bincount(where, weights=n[chosen], minlength=different.size).astype(np.float64),
        total=np.bincount(where, weights=total[chosen], minlength=different.size).astype(np.float64),
    )


def kind_of_group(counted: Counted) -> str:
    """What variances are between, in words."""
    return "clusters" if counted.exact_clusters else "200 groups of clusters"


def rarest_event(values: Clustered) -> float:
    """The fewest of events and non-events in either arm."""
    n, events = values.sums(values.n).sum(axis=0), values.sums(values.total).sum(axis=0)
    return float(np.minimum(events, n - events).min())


def split_p_value(counted: Counted) -> float | None:
    """P-value of "the canary got the designed share", by chi-square over weights; None where nobody said it."""
    epochs = compared_epochs(counted)
    if not counted.designed or not epochs.size:
        return None
    units = counted.units()[epochs]
    weights = np.array([counted.epochs[index].weight for index in epochs])
    statistic = 0.0
    different = np.unique(weights)
    for weight in different:
        stable, canary = units[weights == weight].sum(axis=0)
        expected = (stable + canary) * weight
        statistic += (canary - expected) ** 2 / max(expected * (1 - weight), 1e-300)
    return float(chdtrc(different.size, statistic))
