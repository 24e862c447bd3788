"""The engine of rollouts, put to what was counted of a table: the same ``judge``, the same e-values. Pure.

Each check is a boundary of its own, so two checks of one metric are two lines of the same evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from agentcanary_analysis.aggregates import Aggregates, Cell, Epoch
from agentcanary_analysis.cells import MIN_UNITS_FOR_THRESHOLD, threshold
from agentcanary_analysis.checks import Boundary, Check
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.evidence import Evidence
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.verdict import Findings, judge

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A check with what it is about.

    Attributes:
        check: As it was written.
        metric: As the table has it.
        boundary: Its line; None for a count.
    """

    check: Check
    metric: Metric
    boundary: Boundary | None


def asked(check: Check, metrics: Sequence[Metric]) -> Asked:
    """A check with its metric and boundary."""
    metric = next(metric for metric in metrics if metric.name == check.metric)
    return Asked(check=check, metric=metric, boundary=None if metric.kind is Kind.COUNT else check.boundary(metric))


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What ``judge`` found, check by check.

    Attributes:
        findings: All of it.
        evidence: Per position of a check that is no count.
    """

    findings: Findings
    evidence: dict[int, Evidence]


def engine(
    counted: Counted, checks: Sequence[Asked], *, alpha: float, alpha_promote: float, upto: int | None = None
) -> Engine:
    """What the engine of rollouts says.

    Args:
        counted: The data.
        checks: What is asked.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``.
        upto: Only the slices before this number.
    """
    aggregates = counted.aggregates(upto, by_bucket=False)
    names: dict[int, str] = {}
    metrics: list[Metric] = []
    criteria: dict[str, Boundary] = {}
    for position, one in enumerate(checks):
        if one.boundary is None:
            continue
        repeats = sum(other.metric == one.metric for other in checks[:position])
        name = f"{one.metric.name}_{repeats + 1}" if repeats else one.metric.name
        names[position] = name
        metrics.append(replace(one.metric, name=name))
        criteria[name] = one.boundary
        if repeats:
            aggregates = _with_copy(aggregates, one.metric.name, name)
    found = judge(
        aggregates,
        metrics=metrics,
        criteria=criteria,
        checked=list(criteria),
        alpha=alpha,
        alpha_promote=alpha_promote,
        proof_weight=_proof_weight(counted),
    )
    by_name = {evidence.metric: evidence for evidence in found.evidence}
    return Engine(findings=found, evidence={position: by_name[name] for position, name in names.items()})


def _with_copy(aggregates: Aggregates, name: str, copy: str) -> Aggregates:
    """The aggregates with one metric under a second name too."""

    def both(cells: Mapping[Cell, Found]) -> dict[Cell, Found]:
        return {**cells, **{replace(cell, metric=copy): found for cell, found in cells.items() if cell.metric == name}}

    epochs = tuple(
        replace(epoch, thresholds={**epoch.thresholds, copy: epoch.thresholds[name]})
        if name in epoch.thresholds
        else epoch
        for epoch in aggregates.epochs
    )
    return replace(
        aggregates,
        epochs=epochs,
        tallies=both(aggregates.tallies),
        histograms=both(aggregates.histograms),
    )


def _proof_weight(counted: Counted) -> float:
    """The weight on whose epochs safety is asked: the largest below 1; where none was designed, that of most rows."""
    units = counted.units().sum(axis=1).tolist()
    inside = [(epoch.weight, rows) for epoch, rows in zip(counted.epochs, units, strict=True) if 0 < epoch.weight < 1]
    if not inside:
        return 0.0
    return max(weight for weight, _ in inside) if counted.designed else max(inside, key=lambda one: one[1])[0]


def with_thresholds(counted: Counted) -> Counted:
    """The counts with the thresholds of quantile metrics that a rollout would have had, each from earlier data only.

    Where nothing came before the first epoch, its beginning (200 conversations of stable) is cut off and fixes the
    threshold of the rest. Strata have no order, so they get none.
    """
    quantiles = [metric for metric in counted.metrics if metric.kind is Kind.QUANTILE]
    if not quantiles or counted.columns.strata:
        return counted
    for slices in range(1, counted.slices):
        enough = all(
            sum(counted.histograms(metric.name, slices)[0][0].values()) >= MIN_UNITS_FOR_THRESHOLD
            for metric in quantiles
        )
        if enough:
            counted = counted.split_first(slices)
            break
    earlier: dict[str, dict[int, int]] = {metric.name: {} for metric in quantiles}
    histograms = {metric.name: counted.histograms(metric.name) for metric in quantiles}
    epochs: list[Epoch] = []
    for index, epoch in enumerate(counted.epochs):
        limits = {metric.name: threshold(earlier[metric.name], metric.quantile or 0.5) for metric in quantiles}
        epochs.append(replace(epoch, thresholds={name: at for name, at in limits.items() if at is not None}))
        for name, found in histograms.items():
            for number, rows in found[index][0].items():
                earlier[name][number] = earlier[name].get(number, 0) + rows
    return replace(counted, epochs=tuple(epochs))
