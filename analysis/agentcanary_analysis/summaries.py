"""What people read of a metric: a value an arm, the relative change, an interval. Over epochs, never pooled. Pure.

Both arms are standardised to the same mix of epochs (Mantel–Haenszel weights), so that a ramp with a drifting base rate
shows no difference where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.cells import Cells, cells_of, rollout_epochs
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evidence import ArmSummary, Interval
from agentcanary_analysis.forecast import standardised
from agentcanary_analysis.histogram import INFINITE_BIN, edge
from agentcanary_analysis.means import log_delta_interval
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportion_intervals import ratio_limits
from agentcanary_analysis.proportions import RARE

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


def summarise(aggregates: Aggregates, metric: Metric, cells: Cells | None = None) -> Summary:
    """Both arms of a metric over the epochs in which both could be chosen.

    Args:
        aggregates: Of one rollout.
        metric: The metric.
        cells: Its counts, where they are already known.
    """
    if metric.kind is Kind.QUANTILE:
        return _quantile(aggregates, metric)
    if cells is None:
        cells = cells_of(aggregates, metric, Boundary(ratio=1.0, floor=0.0, direction=metric.direction))
    if metric.kind is Kind.RATIO:
        return _ratio(aggregates, metric, cells)
    values = standardised(cells, cells.canary_k, cells.stable_k)
    change = interval = None
    if values is not None and values[1] > 0:
        change = values[0] / values[1] - 1
        interval = _proportion_interval(cells) if metric.kind is Kind.PROPORTION else _mean_interval(aggregates, metric)
    return Summary(
        stable=_arm(cells, "stable", None if values is None else values[1], metric),
        canary=_arm(cells, "canary", None if values is None else values[0], metric),
        relative_change=change,
        interval=interval,
    )


def _ratio(aggregates: Aggregates, metric: Metric, cells: Cells) -> Summary:
    """Sums over sums, epoch by epoch; an epoch has the same weight in both arms."""
    levels = dict.fromkeys(Arm, 0.0)
    total = 0.0
    for epoch in rollout_epochs(aggregates):
        tallies = {arm: aggregates.tally(metric.name, epoch.number, arm) for arm in Arm}
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
        interval=None if change is None else _mean_interval(aggregates, metric),
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


def _mean_interval(aggregates: Aggregates, metric: Metric) -> Interval | None:
    """Delta method on the logarithm; None where a mean is not positive or nothing varies."""
    arms = [
        [
            aggregates.tally(metric.name, epoch.number, arm)
            for epoch in rollout_epochs(aggregates)
            if 0 < epoch.weight < 1
        ]
        for arm in (Arm.CANARY, Arm.STABLE)
    ]
    limits = log_delta_interval(arms[0], arms[1], kind=metric.kind, confidence=LEVEL)
    if isinstance(limits, Unknown):
        return None
    return Interval(low=limits.low, high=limits.high, level=LEVEL, method="delta method on the logarithm of the ratio")


def _quantile(aggregates: Aggregates, metric: Metric) -> Summary:
    if metric.quantile is None:
        raise ValueError(f"{metric.name} is no quantile metric")
    epochs = [epoch.number for epoch in rollout_epochs(aggregates) if 0 < epoch.weight < 1]
    bins = {arm: [aggregates.histogram(metric.name, epoch, arm) for epoch in epochs] for arm in Arm}
    units = {arm: sum(sum(one.values()) for one in bins[arm]) for arm in Arm}
    mixes = {arm: _Mix(bins[arm], bins[Arm.STABLE if arm is Arm.CANARY else Arm.CANARY]) for arm in Arm}
    canary, stable = (mixes[arm].quantile(metric.quantile) for arm in (Arm.CANARY, Arm.STABLE))
    change = interval = None
    if canary is not None and stable is not None and 0 < stable < np.inf:
        change = canary / stable - 1
        interval = _quantile_interval(mixes[Arm.CANARY], mixes[Arm.STABLE], metric.quantile)
    return Summary(
        stable=ArmSummary(units=units[Arm.STABLE], observed=units[Arm.STABLE], value=stable),
        canary=ArmSummary(units=units[Arm.CANARY], observed=units[Arm.CANARY], value=canary),
        relative_change=change,
        interval=interval,
    )


class _Mix:
    """One arm's distribution over epochs, each epoch with the same weight in both arms."""

    def __init__(self, mine: Sequence[Mapping[int, int]], others: Sequence[Mapping[int, int]]) -> None:
        both = [(a, b) for a, b in zip(mine, others, strict=True) if sum(a.values()) and sum(b.values())]
        self._numbers = np.array(sorted({number for a, _ in both for number in a}), dtype=np.int64)
        counts = np.zeros((len(both), self._numbers.size))
        for row, (histogram, _) in enumerate(both):
            filled = np.fromiter(histogram, dtype=np.int64, count=len(histogram))
            counts[row, np.searchsorted(self._numbers, filled)] = list(histogram.values())
        self._units = counts.sum(axis=1)
        weights = np.array([1 / (1 / sum(a.values()) + 1 / sum(b.values())) for a, b in both])
        self._weights = weights / max(weights.sum(), 1e-300)
        self._below = np.cumsum(counts, axis=1) / np.maximum(self._units, 1)[:, None]
        self._share = self._weights @ self._below

    def quantile(self, p: float) -> float | None:
        """The geometric middle of the bin with the quantile; infinite among values that never came; None if empty."""
        if not self._numbers.size:
            return None
        number = int(self._numbers[min(int(np.searchsorted(self._share, p - 1e-12)), self._numbers.size - 1)])
        return float(edge(number)) if number >= INFINITE_BIN else float(np.sqrt(edge(number) * edge(number - 1)))

    def limits(self, p: float) -> tuple[float, float] | None:
        """Woodruff's interval of the quantile: the share below it has a known error, in every epoch its own."""
        at = min(int(np.searchsorted(self._share, p - 1e-12)), self._numbers.size - 1)
        below = self._below[:, at]
        error = float(np.sqrt((self._weights**2 * below * (1 - below) / np.maximum(self._units, 1)).sum()))
        low, high = self.quantile(max(p - _Z * error, 0.0)), self.quantile(min(p + _Z * error, 1.0))
        return None if low is None or high is None else (low, high)


def _quantile_interval(canary: _Mix, stable: _Mix, p: float) -> Interval | None:
    """Both arms' intervals put together on the logarithm; None where a value that never came would decide.

    **Source**: Woodruff (1952), JASA 47:635-646; Zou & Donner (2008), Statistics in Medicine 27:1693-1702.
    """
    c, c_ends = canary.quantile(p), canary.limits(p)
    s, s_ends = stable.quantile(p), stable.limits(p)
    if c is None or s is None or c_ends is None or s_ends is None or not np.isfinite([c, s, *c_ends, *s_ends]).all():
        return None
    log_c, log_s = float(np.log(c)), float(np.log(s))
    c_low, c_high, s_low, s_high = np.log([*c_ends, *s_ends]).tolist()
    down, up = np.hypot(log_c - c_low, s_high - log_s), np.hypot(c_high - log_c, log_s - s_low)
    return Interval(
        low=float(np.exp(log_c - log_s - down)) - 1,
        high=float(np.exp(log_c - log_s + up)) - 1,
        level=LEVEL,
        method="order statistics (Woodruff) of both arms",
    )
