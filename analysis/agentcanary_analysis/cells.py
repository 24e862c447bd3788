"""Counts by epoch and arm as arrays, of one rollout or of many at once: what every e-process reads. Pure.

``Aggregates`` is what is stored and added up; ``Cells`` is one metric of it, coded for one boundary: a latency is
coded as "exceeds the epoch's threshold", and the canary's threshold is the boundary's multiple of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of, edge
from agentcanary_analysis.metrics import Direction, Kind, Metric

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

HISTORY_EPOCH = -1
MIN_UNITS_FOR_THRESHOLD = 200
_SUMS = attrgetter("units", "observed", "total", "total_squares")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Counts of one metric, coded for one boundary. Arrays have the shape (batch, epochs) unless stated.

    Attributes:
        weight: Designed share of the canary.
        stage: Index of the stage.
        canary_n: Canary units with a value.
        canary_k: Sum of their values: the events of a proportion, the exceedances of a quantile.
        stable_n: Stable units with a value.
        stable_k: Sum of their values.
        canary_squares: Sum of the squared values, for means; zeros otherwise.
        stable_squares: The same of stable.
        canary_units: Canary units counted, with a value or without.
        stable_units: The same of stable.
        variance: Variance of the values before the rollout, for means, shape (batch,); NaN where it is not known.
        testable: Epochs in which both arms could be chosen: the others are in no test.
    """

    weight: FloatArray
    stage: FloatArray
    canary_n: FloatArray
    canary_k: FloatArray
    stable_n: FloatArray
    stable_k: FloatArray
    canary_squares: FloatArray
    stable_squares: FloatArray
    canary_units: FloatArray
    stable_units: FloatArray
    variance: FloatArray
    testable: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "testable", (self.weight > 0) & (self.weight < 1))

    @property
    def counts(self) -> FloatArray:
        """Canary units with and without the event, stable units with and without, shape (batch, epochs, 4)."""
        return np.stack(
            [self.canary_k, self.canary_n - self.canary_k, self.stable_k, self.stable_n - self.stable_k], axis=-1
        )

    @property
    def gaps(self) -> BoolArray:
        """Rollouts in which some counted unit of a testable epoch has no value, shape (batch,)."""
        gap = (self.canary_units > self.canary_n) | (self.stable_units > self.stable_n)
        return np.asarray((gap & self.testable).any(axis=1), dtype=np.bool_)

    def rows(self, index: npt.NDArray[np.intp] | BoolArray) -> Cells:
        """Some of the rollouts."""
        return Cells(**{name: getattr(self, name)[index] for name in _COLUMNS})

    def at_realised_share(self) -> Cells:
        """The same counts, as if the canary's share of the values had been the design.

        Epochs with an empty arm are left out.
        """
        share = self.canary_n / np.maximum(self.canary_n + self.stable_n, 1)
        return replace(self, weight=np.where(self.testable, share, self.weight))

    def worst_case(self, worse: Direction) -> Cells:
        """The counts of a proportion if every missing value spoke against the canary."""
        up = worse is Direction.UP_IS_WORSE
        return replace(
            self,
            canary_n=self.canary_units,
            canary_k=self.canary_k + (self.canary_units - self.canary_n if up else 0.0),
            stable_n=self.stable_units,
            stable_k=self.stable_k + (0.0 if up else self.stable_units - self.stable_n),
        )

    def responses(self) -> Cells:
        """The counts of another proportion: units with a value among units counted."""
        return replace(
            self,
            canary_n=self.canary_units,
            canary_k=self.canary_n,
            stable_n=self.stable_units,
            stable_k=self.stable_n,
        )


_COLUMNS = tuple(column.name for column in fields(Cells) if column.init)


def cells_of(aggregates: Aggregates, metric: Metric, boundary: Boundary) -> Cells:
    """One metric of one rollout, coded for one boundary; a batch of one.

    An epoch of a quantile metric without a threshold has no units. The history before the rollout is no epoch of it.

    Raises:
        ValueError: If a threshold is not positive, or a proportion's total exceeds its units.
    """
    epochs = rollout_epochs(aggregates)
    if metric.kind is Kind.QUANTILE:
        sums = _exceedances(aggregates, metric, boundary, epochs)
    else:
        sums = _sums(aggregates, metric, epochs)
    columns = np.array(sums, dtype=np.float64).reshape(len(epochs), 2, 4)
    canary, stable = columns[:, 0].T[:, None, :], columns[:, 1].T[:, None, :]
    variance = _variance(aggregates, metric) if metric.kind is Kind.MEAN else np.nan
    return Cells(
        weight=np.array([[epoch.weight for epoch in epochs]], dtype=np.float64),
        stage=np.array([[epoch.stage for epoch in epochs]], dtype=np.float64),
        canary_units=canary[0],
        canary_n=canary[1],
        canary_k=canary[2],
        canary_squares=canary[3],
        stable_units=stable[0],
        stable_n=stable[1],
        stable_k=stable[2],
        stable_squares=stable[3],
        variance=np.array([variance]),
    )


def stacked(cells: Sequence[Cells]) -> Cells:
    """Several lines of the same rollouts as one batch, in order."""
    return Cells(**{name: np.concatenate([getattr(one, name) for one in cells]) for name in _COLUMNS})


def rollout_epochs(aggregates: Aggregates) -> tuple[Epoch, ...]:
    """The epochs of the rollout itself, without the history before it."""
    return tuple(epoch for epoch in aggregates.epochs if epoch.number >= 0)


def counted_units(aggregates: Aggregates) -> dict[tuple[int, Arm], int]:
    """Per epoch and arm the conversations counted, by the metric that counts earliest."""
    units = {cell: sum([tally.units for tally in buckets.values()]) for cell, buckets in aggregates.tallies.items()}
    for cell, bins in aggregates.histograms.items():
        units[cell] = max(units.get(cell, 0), sum(bins.values()))
    counted: dict[tuple[int, Arm], int] = {}
    for cell, number in units.items():
        key = cell.epoch, cell.arm
        counted[key] = max(counted.get(key, 0), number)
    return counted


def stable_histogram(aggregates: Aggregates, metric: Metric) -> Mapping[int, int]:
    """Conversations per bin of all counted stable data, the history before the rollout included."""
    total: dict[int, int] = {}
    for cell, bins in aggregates.histograms.items():
        if cell.metric == metric.name and cell.arm is Arm.STABLE:
            for number, units in bins.items():
                total[number] = total.get(number, 0) + units
    return total


def threshold(bins: Mapping[int, int], quantile: float) -> float | None:
    """The histogram edge nearest to a quantile, or None with fewer than 200 values or without a finite one.

    Args:
        bins: Values per bin.
        quantile: In (0, 1).

    >>> round(threshold({0: 950, 10: 50}, 0.95), 3), threshold({0: 199}, 0.95)
    (1.0, None)
    """
    total = sum(bins.values())
    finite = sorted(number for number, units in bins.items() if number < INFINITE_BIN and units > 0)
    if total < MIN_UNITS_FOR_THRESHOLD or not finite:
        return None
    below, nearest, distance = 0, finite[0], 1.0
    for number in finite:
        below += bins[number]
        if abs(below / total - quantile) < distance:
            nearest, distance = number, abs(below / total - quantile)
    return edge(nearest)


def _sums(aggregates: Aggregates, metric: Metric, epochs: Sequence[Epoch]) -> list[list[tuple[float, ...]]]:
    """Per epoch, canary then stable: units, observed, total, squares."""
    sums: list[list[tuple[float, ...]]] = []
    for epoch in epochs:
        pair: list[tuple[float, ...]] = []
        for arm in (Arm.CANARY, Arm.STABLE):
            buckets = aggregates.tallies.get(Cell(metric.name, epoch.number, arm), {}).values()
            # Four sums of 200 buckets each for every cell are most of a look, so they are made without a Tally.
            units, observed, total, squares = map(sum, zip(*map(_SUMS, buckets), strict=True)) if buckets else (0,) * 4
            if metric.kind is Kind.PROPORTION and not 0 <= total <= observed:
                raise ValueError(
                    f"{metric.name} of the {arm.value} in epoch {epoch.number} has {total:g} events "
                    f"among {observed} conversations with a value"
                )
            pair.append((units, units if metric.always_measured else observed, total, squares))
        sums.append(pair)
    return sums


def _variance(aggregates: Aggregates, metric: Metric) -> float:
    """Variance of stable's values before the rollout; NaN where there are too few or they are constant."""
    tally = aggregates.tally(metric.name, HISTORY_EPOCH, Arm.STABLE)
    if tally.observed < MIN_UNITS_FOR_THRESHOLD:
        return float("nan")
    variance = (tally.total_squares - tally.total**2 / tally.observed) / (tally.observed - 1)
    return variance if variance > 1e-12 * tally.total_squares / tally.observed else float("nan")


def _exceedances(
    aggregates: Aggregates, metric: Metric, boundary: Boundary, epochs: Sequence[Epoch]
) -> list[list[tuple[float, ...]]]:
    """Per epoch, canary then stable: units, units, exceedances, 0; zeros where the epoch has no threshold."""
    sums: list[list[tuple[float, ...]]] = []
    for epoch in epochs:
        limit = epoch.thresholds.get(metric.name)
        if limit is None:
            sums.append([(0.0, 0.0, 0.0, 0.0)] * 2)
            continue
        if not 0 < limit < np.inf or not boundary.at(limit) > 0:
            raise ValueError(f"threshold of {metric.name} in epoch {epoch.number} must be positive, got {limit}")
        pair: list[tuple[float, ...]] = []
        for arm, highest in ((Arm.CANARY, bin_of(boundary.at(limit))), (Arm.STABLE, bin_of(limit))):
            bins = aggregates.histogram(metric.name, epoch.number, arm)
            units = sum(bins.values())
            exceeding = sum([number for position, number in bins.items() if position > highest])
            pair.append((float(units), float(units), float(exceeding), 0.0))
        sums.append(pair)
    return sums
