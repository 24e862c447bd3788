"""The aggregates of one rollout as arrays, made once for all questions of a look. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.metrics import Kind, Metric

FloatArray = npt.NDArray[np.float64]

ARMS = (Arm.CANARY, Arm.STABLE)
_COUNTED = attrgetter("units", "observed", "total")


class Table(NamedTuple):
    """The histograms of one quantile metric on common bins.

    Attributes:
        numbers: Bin numbers, ascending, shape (bins,).
        counts: Conversations per arm (canary, stable), epoch and bin, shape (2, epochs, bins).
        upto: The same, accumulated over the bins.
        before: Stable's conversations per bin outside the rollout's epochs: the history, shape (bins,).
    """

    numbers: npt.NDArray[np.int64]
    counts: FloatArray
    upto: FloatArray
    before: FloatArray

    @property
    def stable(self) -> FloatArray:
        """All counted stable conversations per bin, the history before the rollout included, shape (bins,)."""
        total: FloatArray = self.before + self.counts[1].sum(axis=0)
        return total

    @property
    def units(self) -> FloatArray:
        """Conversations per arm and epoch, shape (2, epochs)."""
        return self.upto[:, :, -1] if self.numbers.size else np.zeros(self.counts.shape[:2])

    def above(self, arm: int, bins: npt.NDArray[np.int64]) -> FloatArray:
        """Conversations of an arm above a bin of each epoch; of the shape of ``bins``, (…, epochs)."""
        units: FloatArray = np.broadcast_to(self.units[arm], bins.shape)
        if not self.numbers.size:
            return units
        at = np.searchsorted(self.numbers, bins, side="right") - 1
        upto = self.upto[arm][np.arange(bins.shape[-1]), np.maximum(at, 0)]
        return units - np.where(at >= 0, upto, 0.0)


def linearised(tally: Tally) -> tuple[float, float, float]:
    """Number, sum and sum of squares of values whose mean is the ratio, and whose variance is that of the ratio.

    With ``r = Σy / Σn`` and ``n̄`` the mean size, a conversation's value is ``r + (y - r n) / n̄``.

    **Source**: Deng, Knoblich & Lu (2018), KDD '18, pages 233-242, section 3: the delta method for ratios.

    >>> linearised(Tally(2, 2, 3.0, 5.0, 4.0, 10.0, 7.0))  # 1 of 1 and 2 of 3
    (2, 1.5, 1.15625)
    """
    if not tally.size > 0:
        return 0, 0.0, 0.0
    ratio, size = tally.total / tally.size, tally.size / tally.observed
    spread = tally.total_squares - 2 * ratio * tally.product + ratio**2 * tally.size_squares
    return tally.observed, tally.observed * ratio, max(spread, 0.0) / size**2 + tally.observed * ratio**2


@dataclass(slots=True)
class LookedAt:
    """The aggregates of one rollout, and what is summed from them; every sum is made once.

    Attributes:
        aggregates: What is counted.
        epochs: Those of the rollout itself, without the history before it.
        weight: Designed share of the canary, shape (1, epochs).
        stage: Index of the stage, shape (1, epochs).
    """

    aggregates: Aggregates
    epochs: tuple[Epoch, ...] = field(init=False)
    weight: FloatArray = field(init=False)
    stage: FloatArray = field(init=False)
    _counts: dict[Cell, tuple[int, int, float]] = field(init=False, default_factory=dict)
    _tables: dict[str, Table] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.epochs = tuple(epoch for epoch in self.aggregates.epochs if epoch.number >= 0)
        self.weight = np.array([[epoch.weight for epoch in self.epochs]], dtype=np.float64)
        self.stage = np.array([[epoch.stage for epoch in self.epochs]], dtype=np.float64)

    def sums(self, metric: Metric) -> FloatArray:
        """Units, observed, total and squares (last axis) by epoch, canary then stable; shape (epochs, 2, 4).

        Squares are summed for means and ratios only; a ratio's are those of its linearised values.

        Raises:
            ValueError: If a proportion's total exceeds its units.
        """
        found = np.zeros((len(self.epochs), 2, 4))
        for row, epoch in enumerate(self.epochs):
            for column, arm in enumerate(ARMS):
                cell = Cell(metric.name, epoch.number, arm)
                buckets = self.aggregates.tallies.get(cell)
                if buckets:
                    found[row, column] = self._sums(metric, cell, buckets.values())
        return found

    def counted(self, without: Collection[str] = ()) -> FloatArray:
        """Conversations counted by the metric that counts earliest, per arm (canary, stable); shape (2, epochs).

        Args:
            without: Names of metrics that do not count.
        """
        place = {(epoch.number, arm): (row, at) for at, epoch in enumerate(self.epochs) for row, arm in enumerate(ARMS)}
        most = np.zeros((2, len(self.epochs)))
        for cell in self.aggregates.tallies:
            here = place.get((cell.epoch, cell.arm))
            if here is not None and cell.metric not in without:
                most[here] = max(most[here], self._units_of(cell))
        for name in {cell.metric for cell in self.aggregates.histograms}:
            most = np.maximum(most, self.table(name).units)
        return most

    def table(self, metric: str) -> Table:
        """The histograms of a quantile metric."""
        if metric not in self._tables:
            self._tables[metric] = self._table(metric)
        return self._tables[metric]

    def _sums(self, metric: Metric, cell: Cell, tallies: Collection[Tally]) -> tuple[float, ...]:
        if metric.kind is Kind.RATIO:
            return self._units_of(cell), *linearised(sum(tallies, Tally()))
        units, observed, total = self._counted(cell)
        squares = sum([tally.total_squares for tally in tallies]) if metric.kind is Kind.MEAN else 0.0
        if metric.kind is Kind.PROPORTION and not 0 <= total <= observed:
            raise ValueError(
                f"{metric.name} of the {cell.arm.value} in epoch {cell.epoch} has {total:g} events "
                f"among {observed} conversations with a value"
            )
        return units, units if metric.always_measured else observed, total, squares

    def _units_of(self, cell: Cell) -> int:
        return self._counted(cell)[0]

    def _counted(self, cell: Cell) -> tuple[int, int, float]:
        """Units, units with a value and the sum of the values of a cell."""
        if cell not in self._counts:
            tallies = self.aggregates.tallies[cell].values()
            # 200 buckets for every cell are most of a look, so they are walked through once.
            units, observed, total = map(sum, zip(*map(_COUNTED, tallies), strict=True)) if tallies else (0, 0, 0.0)
            self._counts[cell] = units, observed, total
        return self._counts[cell]

    def _table(self, metric: str) -> Table:
        cells = {cell: bins for cell, bins in self.aggregates.histograms.items() if cell.metric == metric and bins}
        numbers = np.array(sorted(set[int]().union(*cells.values())), dtype=np.int64)
        rows = {epoch.number: row for row, epoch in enumerate(self.epochs)}
        counts, before = np.zeros((2, len(rows), numbers.size)), np.zeros(numbers.size)
        for cell, bins in cells.items():
            at = np.searchsorted(numbers, np.fromiter(bins, dtype=np.int64, count=len(bins)))
            units = np.fromiter(bins.values(), dtype=np.float64, count=len(bins))
            row = rows.get(cell.epoch)
            if row is not None:
                counts[ARMS.index(cell.arm), row, at] = units
            elif cell.arm is Arm.STABLE:
                before[at] += units
        return Table(numbers, counts, np.cumsum(counts, axis=2), before)
