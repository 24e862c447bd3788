"""What people read of a metric: a value an arm, the relative change, an interval. Over epochs, never pooled. Pure.

Both arms are standardised to the same mix of epochs (Mantel–Haenszel weights), so that a ramp with a drifting base rate
shows no difference where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.cells import Cells, cells_of
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evidence import ArmSummary, Interval
from agentcanary_analysis.forecast import standardised
from agentcanary_analysis.looked_at import ARMS, LookedAt
from agentcanary_analysis.means import log_delta_interval
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportion_intervals import ratio_limits
from agentcanary_analysis.proportions import RARE
from agentcanary_analysis.quantile_ratios import table_interval, table_quantiles

LEVEL = 0.95
_Z = float(ndtri((1 + LEVEL) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What people read of a metric.

    Attributes:
        stable: The stable arm.
        canary: The canary arm.
        relative_change: Canary / stable - 1, or None.
        interval: Of the relative change, or None.
    """

    stable: ArmSummary
    canary: ArmSummary
    relative_change: float | None
    interval: Interval | None


def summarise(aggregates: Aggregates | LookedAt, metric: Metric, cells: Cells | None = None) -> Summary:
    """Both arms of a metric over the epochs in which both could be chosen.

    Args:
        aggregates: Of one rollout.
        metric: The metric.
        cells: Its counts, where they are already known.
    """
    counted = aggregates if isinstance(aggregates, LookedAt) else LookedAt(aggregates)
    if metric.kind is Kind.QUANTILE:
        return _quantile(counted, metric)
    if cells is None:
        cells = cells_of(counted, metric, Boundary(ratio=1.0, floor=0.0, direction=metric.direction))
    if metric.kind is Kind.RATIO:
        return _ratio(counted, metric, cells)
    values = standardised(cells, cells.canary_k, cells.stable_k)
    change = interval = None
    if values is not None and values[1] > 0:
        change = values[0] / values[1] - 1
        interval = _proportion_interval(cells) if metric.kind is Kind.PROPORTION else _mean_interval(counted, metric)
    return Summary(
        stable=_arm(cells, "stable", None if values is None else values[1], metric),
        canary=_arm(cells, "canary", None if values is None else values[0], metric),
        relative_change=change,
        interval=interval,
    )


def _ratio(counted: LookedAt, metric: Metric, cells: Cells) -> Summary:
    """Sums over sums, epoch by epoch; an epoch has the same weight in both arms."""
    levels = dict.fromkeys(Arm, 0.0)
    total = 0.0
    for epoch in counted.epochs:
        tallies = {arm: counted.aggregates.tally(metric.name, epoch.number, arm) for arm in Arm}
        if 0 < epoch.weight < 1 and all(tally.size > 0 for tally in tallies.values()):
            weight = 1 / sum(1 / tally.observed for tally in tallies.values())
            total += weight
            for arm, tally in tallies.items():
                levels[arm] += weight * tally.total / tally.size
    canary, stable = (levels[arm] / total if total else None for arm in (Arm.CANARY, Arm.STABLE))
    change = None if canary is None or stable is None or stable <= 0 else canary / stable - 1
    return Summary(
        stable=_arm(cells, "stable", stable, metric),
        canary=_arm(cells, "canary", canary, metric),
        relative_change=change,
        interval=None if change is None else _mean_interval(counted, metric),
    )


def _arm(cells: Cells, arm: str, value: float | None, metric: Metric) -> ArmSummary:
    units, observed, total = (
        float(np.where(cells.testable, getattr(cells, f"{arm}_{name}"), 0.0).sum()) for name in ("units", "n", "k")
    )
    events = int(total) if metric.kind in (Kind.PROPORTION, Kind.COUNT) else None
    return ArmSummary(units=int(units), observed=int(observed), value=value, events=events)


def _proportion_interval(cells: Cells) -> Interval:
    """By Greenland and Robins where both arms have 10 events; by the score, which knows no limit theorem, below.

    **Source**: Greenland & Robins (1985), Biometrics 41:55-68.
    """
    c_k, c_n, s_k, s_n = (
        column[0, cells.testable[0]] for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
    )
    if min(c_k.sum(), s_k.sum()) < RARE:
        low, high = ratio_limits(c_k, c_n, s_k, s_n, confidence=LEVEL)
        return Interval(low=float(low) - 1, high=float(high) - 1, level=LEVEL, method="stratified score (Koopman)")
    units = np.maximum(c_n + s_n, 1)
    above, below = (c_k * s_n / units).sum(), (s_k * c_n / units).sum()
    variance = ((c_k + s_k) * c_n * s_n / units**2 - c_k * s_k / units).sum() / (above * below)
    half = _Z * np.sqrt(max(variance, 0.0))
    low, high = above / below * np.exp([-half, half]) - 1
    return Interval(low=float(low), high=float(high), level=LEVEL, method="Mantel-Haenszel (Greenland-Robins)")


def _mean_interval(counted: LookedAt, metric: Metric) -> Interval | None:
    """Delta method on the logarithm; None where a mean is not positive or nothing varies."""
    arms = [
        [counted.aggregates.tally(metric.name, epoch.number, arm) for epoch in counted.epochs if 0 < epoch.weight < 1]
        for arm in (Arm.CANARY, Arm.STABLE)
    ]
    limits = log_delta_interval(arms[0], arms[1], kind=metric.kind, confidence=LEVEL)
    if isinstance(limits, Unknown):
        return None
    return Interval(low=limits.low, high=limits.high, level=LEVEL, method="delta method on the logarithm of the ratio")


def _quantile(counted: LookedAt, metric: Metric) -> Summary:
    """Order statistics of both arms over the same mix of epochs; an end is infinite where nothing bounds it."""
    if metric.quantile is None:
        raise ValueError(f"{metric.name} is no quantile metric")
    table = counted.table(metric.name)
    by_epoch = table.units
    open_to_both = (counted.weight[0] > 0) & (counted.weight[0] < 1)
    units = dict(zip(ARMS, by_epoch[:, open_to_both].sum(axis=1).astype(int).tolist(), strict=True))
    common = open_to_both & (by_epoch > 0).all(axis=0)
    values: dict[Arm, float | None] = dict.fromkeys(ARMS)
    change = interval = None
    if common.any():
        of_canary, of_stable = table.counts[:, common]
        both = canary, stable = table_quantiles(table.numbers, of_canary, of_stable, metric.quantile)
        values = {Arm.CANARY: canary, Arm.STABLE: stable}
        if stable < np.inf:
            change = canary / stable - 1
            limits = table_interval(table.numbers, of_canary, of_stable, metric.quantile, both, confidence=LEVEL)
            if not isinstance(limits, Unknown):
                method = "order statistics (Woodruff) of both arms"
                interval = Interval(low=limits.low - 1, high=limits.high - 1, level=LEVEL, method=method)
    return Summary(
        stable=ArmSummary(units=units[Arm.STABLE], observed=units[Arm.STABLE], value=values[Arm.STABLE]),
        canary=ArmSummary(units=units[Arm.CANARY], observed=units[Arm.CANARY], value=values[Arm.CANARY]),
        relative_change=change,
        interval=interval,
    )
