"""Counts by epoch and arm as arrays, of one rollout or of many at once: what every e-process reads. Pure.

``Aggregates`` is what is stored and added up; ``Cells`` is one metric of it, coded for one boundary: a latency is
coded as "exceeds the epoch's threshold", and the canary's threshold is the boundary's multiple of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of, edge
from agentcanary_analysis.looked_at import LookedAt, linearised
from agentcanary_analysis.metrics import Direction, Kind, Metric

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

HISTORY_EPOCH = -1
MIN_UNITS_FOR_THRESHOLD = 200


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


def cells_of(aggregates: Aggregates | LookedAt, metric: Metric, boundary: Boundary) -> Cells:
    """One metric of one rollout, coded for one boundary; a batch of one.

    An epoch of a quantile metric without a threshold has no units. The history before the rollout is no epoch of it.

    Raises:
        ValueError: If a threshold is not positive, or a proportion's total exceeds its units.
    """
    counted = aggregates if isinstance(aggregates, LookedAt) else LookedAt(aggregates)
    sums = _exceedances(counted, metric, boundary) if metric.kind is Kind.QUANTILE else counted.sums(metric)
    canary, stable = sums[:, 0].T[:, None, :], sums[:, 1].T[:, None, :]
    variance = _variance(counted.aggregates, metric) if metric.kind in (Kind.MEAN, Kind.RATIO) else np.nan
    return Cells(
        weight=counted.weight,
        stage=counted.stage,
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


def threshold(bins: Mapping[int, int], quantile: float) -> float | None:
    """The histogram edge nearest to a quantile, or None with fewer than 200 values or without a finite one.

    Args:
        bins: Values per bin.
        quantile: In (0, 1).

    >>> round(threshold({0: 950, 10: 50}, 0.95), 3), threshold({0: 199}, 0.95)
    (1.0, None)
    """
    numbers, units = zip(*sorted(bins.items()), strict=True) if bins else ((), ())
    return threshold_of(np.array(numbers, dtype=np.int64), np.array(units, dtype=np.float64), quantile)


def threshold_of(numbers: npt.NDArray[np.int64], units: FloatArray, quantile: float) -> float | None:
    """``threshold`` of ascending bins as arrays of shape (bins,)."""
    total = float(units.sum())
    finite = (numbers < INFINITE_BIN) & (units > 0)
    if total < MIN_UNITS_FOR_THRESHOLD or not finite.any():
        return None
    nearest = np.abs(np.cumsum(units[finite]) / total - quantile).argmin()
    return edge(int(numbers[finite][nearest]))


def _variance(aggregates: Aggregates, metric: Metric) -> float:
    """Variance of stable's values before the rollout; NaN where there are too few or they are constant."""
    tally = aggregates.tally(metric.name, HISTORY_EPOCH, Arm.STABLE)
    if tally.observed < MIN_UNITS_FOR_THRESHOLD:
        return float("nan")
    units, total, squares = float(tally.observed), tally.total, tally.total_squares
    if metric.kind is Kind.RATIO:
        units, total, squares = linearised(tally)
    variance = (squares - total**2 / units) / (units - 1) if units > 1 else 0.0
    return variance if variance > 1e-12 * squares / max(units, 1) else float("nan")


def _exceedances(counted: LookedAt, metric: Metric, boundary: Boundary) -> FloatArray:
    """Units, units, exceedances, 0 (last axis) by epoch, canary then stable; zeros where there is no threshold."""
    found = np.zeros((len(counted.epochs), 2, 4))
    limits = [epoch.thresholds.get(metric.name) for epoch in counted.epochs]
    for epoch, limit in zip(counted.epochs, limits, strict=True):
        if limit is not None and not (0 < limit < np.inf and boundary.at(limit) > 0):
            raise ValueError(f"threshold of {metric.name} in epoch {epoch.number} must be positive, got {limit}")
    known = [limit is not None for limit in limits]
    if not any(known):
        return found
    table = counted.table(metric.name)
    highest = [(0, 0) if limit is None else (bin_of(boundary.at(limit)), bin_of(limit)) for limit in limits]
    for arm, bins in enumerate(np.array(highest, dtype=np.int64).T):
        found[:, arm, 0] = found[:, arm, 1] = table.units[arm]
        found[:, arm, 2] = table.above(arm, bins)
    found[~np.array(known)] = 0.0
    return found
