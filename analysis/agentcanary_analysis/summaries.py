"""What people read of a metric: a value an arm, the relative change, an interval. Over epochs, never pooled. Pure.

Both arms are standardised to the same mix of epochs (Mantel–Haenszel weights), so that a ramp with a drifting base rate
shows no difference where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.cells import Cells, FloatArray, cells_of, rollout_epochs
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.confidence_sequences import Moments, unbiased_variance
from agentcanary_analysis.evidence import ArmSummary, Interval
from agentcanary_analysis.forecast import standardised
from agentcanary_analysis.histogram import INFINITE_BIN, edge
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.proportion_intervals import ratio_limits

LEVEL = 0.95


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


def summarise(aggregates: Aggregates, metric: Metric) -> Summary:
    """Both arms of a metric over the epochs in which both could be chosen."""
    if metric.kind is Kind.QUANTILE:
        return _quantile(aggregates, metric)
    cells = cells_of(aggregates, metric, Boundary(ratio=1.0, floor=0.0, direction=metric.direction))
    values = standardised(cells, cells.canary_k, cells.stable_k)
    change = interval = None
    if values is not None and values[1] > 0:
        change = values[0] / values[1] - 1
        interval = _proportion_interval(cells) if metric.kind is Kind.PROPORTION else _mean_interval(cells, values)
    return Summary(
        stable=_arm(cells, "stable", None if values is None else values[1], metric),
        canary=_arm(cells, "canary", None if values is None else values[0], metric),
        relative_change=change,
        interval=interval,
    )


def _arm(cells: Cells, arm: str, value: float | None, metric: Metric) -> ArmSummary:
    units, observed, total = (
        float(np.where(cells.testable, getattr(cells, f"{arm}_{name}"), 0.0).sum()) for name in ("units", "n", "k")
    )
    events = int(total) if metric.kind in (Kind.PROPORTION, Kind.COUNT) else None
    return ArmSummary(units=int(units), observed=int(observed), value=value, events=events)


def _proportion_interval(cells: Cells) -> Interval:
    c_k, c_n, s_k, s_n = (
        np.where(cells.testable, column, 0.0)[0]
        for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
    )
    low, high = ratio_limits(c_k, c_n, s_k, s_n, confidence=LEVEL)
    return Interval(low=float(low) - 1, high=float(high) - 1, level=LEVEL, method="stratified score (Koopman)")


def _mean_interval(cells: Cells, values: tuple[float, float]) -> Interval | None:
    """Delta method on the logarithm; None where a mean is not clearly positive or nothing varies."""
    variances = []
    for arm in ("canary", "stable"):
        n, k, squares = (getattr(cells, f"{arm}_{name}") for name in ("n", "k", "squares"))
        error = unbiased_variance(Moments(n, k, squares)) / np.maximum(n, 1)
        variances.append(float((_weights(cells) ** 2 * error).sum()))
    canary, stable = values
    if not all(0 < 9 * variance < value**2 for variance, value in zip(variances, values, strict=True)):
        return None
    half = float(ndtri((1 + LEVEL) / 2)) * float(np.sqrt(variances[0] / canary**2 + variances[1] / stable**2))
    ratio = canary / stable
    return Interval(
        low=ratio * float(np.exp(-half)) - 1,
        high=ratio * float(np.exp(half)) - 1,
        level=LEVEL,
        method="delta method on the logarithm of the ratio",
    )


def _weights(cells: Cells) -> FloatArray:
    common = cells.testable & (cells.canary_n > 0) & (cells.stable_n > 0)
    raw = np.where(common, cells.canary_n * cells.stable_n / np.maximum(cells.canary_n + cells.stable_n, 1), 0.0)
    weights: FloatArray = raw / max(float(raw.sum()), 1e-300)
    return weights


def _quantile(aggregates: Aggregates, metric: Metric) -> Summary:
    if metric.quantile is None:
        raise ValueError(f"{metric.name} is no quantile metric")
    mixed: dict[Arm, dict[int, float]] = {arm: {} for arm in Arm}
    units = dict.fromkeys(Arm, 0)
    total = 0.0
    for epoch in rollout_epochs(aggregates):
        if not 0 < epoch.weight < 1:
            continue
        bins = {arm: aggregates.histogram(metric.name, epoch.number, arm) for arm in Arm}
        sizes = {arm: sum(bins[arm].values()) for arm in Arm}
        for arm in Arm:
            units[arm] += sizes[arm]
        if not all(sizes.values()):
            continue
        weight = sizes[Arm.CANARY] * sizes[Arm.STABLE] / sum(sizes.values())
        total += weight
        for arm in Arm:
            for number, count in bins[arm].items():
                mixed[arm][number] = mixed[arm].get(number, 0.0) + weight * count / sizes[arm]
    values = {arm: _quantile_of(mixed[arm], metric.quantile) if total else None for arm in Arm}
    canary, stable = values[Arm.CANARY], values[Arm.STABLE]
    change = None
    if canary is not None and stable is not None and np.isfinite(stable) and stable > 0:
        change = canary / stable - 1
    return Summary(
        stable=ArmSummary(units=units[Arm.STABLE], observed=units[Arm.STABLE], value=stable),
        canary=ArmSummary(units=units[Arm.CANARY], observed=units[Arm.CANARY], value=canary),
        relative_change=change,
        interval=None,
    )


def _quantile_of(bins: Mapping[int, float], quantile: float) -> float:
    """The geometric middle of the bin in which the quantile lies; infinite among values that never came."""
    remaining = quantile * sum(bins.values())
    for number in sorted(bins):
        remaining -= bins[number]
        if remaining <= 1e-9 * bins[number]:
            break
    return float(edge(number)) if number >= INFINITE_BIN else float(np.sqrt(edge(number) * edge(number - 1)))
