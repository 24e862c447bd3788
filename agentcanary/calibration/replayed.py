"""What is counted of rollouts that are replayed from history: an ``Outcomes`` for ``simulate.SideBySide``. Pure.

A rollout's conversations are those of a stretch of history, given to the arms by the real hash at the weight that
they met; each is counted when it reaches a metric's horizon. The counts of an epoch are summed once, when it opens,
for every look that may come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agentcanary.calibration.history import MISSING_BIN, FloatArray, IntArray, bins_of
from agentcanary.calibration.injection import Harm, scaled
from agentcanary.calibration.past import LOOK_BACK, Past, Stretch
from agentcanary.plan import HOUR
from agentcanary.simulated_outcomes import Rows
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.cells import MIN_UNITS_FOR_THRESHOLD, Cells
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.questions import Line
from agentcanary_analysis.weighing import Split


@dataclass(slots=True, eq=False)
class _Open:
    """The epoch that is open in one row: its sums at each number of the stretch's grid, shape (grid, columns)."""

    epoch: int
    sums: FloatArray


@dataclass(slots=True, eq=False)
class _Columns:
    """What is summed: a name, and the horizon (None: counted as soon as it begins)."""

    names: dict[str, int] = field(default_factory=dict)
    horizons: list[float | None] = field(default_factory=list)

    def add(self, name: str, horizon: float | None) -> int:
        if name not in self.names:
            self.names[name] = len(self.horizons)
            self.horizons.append(horizon)
        return self.names[name]


class ReplayedOutcomes:
    """Counts of replayed rollouts, one row a stretch and harm; all stretches of the first harm come first.

    Args:
        past: History and plan.
        lines: Every line that the plan judges.
        stretches: The replays.
        harms: What is injected, None for nothing.
        looks: When they are looked at, seconds since the start, shape (looks,).
    """

    def __init__(
        self,
        past: Past,
        lines: Sequence[Line],
        stretches: Sequence[Stretch],
        harms: Sequence[Harm | None],
        looks: FloatArray,
    ) -> None:
        self._past, self._lines, self._looks = past, tuple(lines), looks
        self._rows = [(stretch, harm) for harm in harms for stretch in stretches]
        self._metrics = {line.metric.name: line.metric for line in lines}
        self._columns = _Columns()
        self._shortest = min((metric.horizon for metric in self._metrics.values()), default=None)
        for arm in ("canary", "stable"):
            self._columns.add(f"{arm} assigned", None)
            self._columns.add(f"{arm} units", self._shortest)
        self._columns.add("violations", None)
        for line in lines:
            metric = line.metric
            for arm in ("canary", "stable"):
                for part in ("units", "n", _part(line, arm), *(("squares",) if metric.kind is Kind.MEAN else ())):
                    self._columns.add(f"{arm} {metric.name} {part}", metric.horizon)
        self._open: list[_Open | None] = [None] * len(self._rows)
        self._epochs = len(past.plan.stages) + 1
        shape = (len(self._rows), self._epochs, len(looks), len(self._columns.horizons))
        self._table = np.zeros(shape)
        self._weight, self._stage = np.zeros(shape[:2]), np.zeros(shape[:2])
        self._variance = {
            metric.name: np.array([self._variance_before(metric, stretch) for stretch, _ in self._rows])
            for metric in self._metrics.values()
            if metric.kind is Kind.MEAN
        }
        self.entered = np.full((len(self._rows), len(past.plan.stages)), -1)
        """Number of the look at which each row entered each stage; -1 where it did not. Shape (rows, stages)."""
        self.look = 0
        """Number of the look that comes: the counts are those of its time."""

    @property
    def violations(self) -> npt.NDArray[np.int64]:
        """Confirmed safety violations of each rollout's canary so far, shape (rows,)."""
        return np.asarray(self._now("violations", slice(None)).sum(axis=1), dtype=np.int64)

    def known_thresholds(self, row: int) -> dict[str, float]:
        """Per quantile metric the threshold of an epoch that began now: from the seven days before."""
        stretch = self._rows[row][0]
        now = stretch.replay.start + float(self._looks[self.look])
        hour = int((now - self._past.history.times[0]) // HOUR)
        found = {}
        for name, hourly in self._past.thresholds.items():
            limit = hourly[min(hour, len(hourly) - 1)]
            if np.isfinite(limit):
                found[name] = float(limit)
        return found

    def open_epoch(self, row: int, epoch: Epoch) -> None:
        """From now on the conversations of a rollout belong to this epoch."""
        self._close(row)
        while epoch.number >= self._epochs:
            self._table = np.concatenate([self._table, np.zeros_like(self._table[:, :1])], axis=1)
            self._weight, self._stage = (np.pad(one, ((0, 0), (0, 1))) for one in (self._weight, self._stage))
            self._epochs += 1
        self._weight[row, epoch.number], self._stage[row, epoch.number] = epoch.weight, epoch.stage
        if self.entered[row, epoch.stage] < 0:
            self.entered[row, epoch.stage] = self.look
        stretch = self._rows[row][0]
        if epoch.weight == 0 or stretch.begun[self.look] == len(stretch.rows):
            return
        self._open[row] = _Open(epoch.number, self._sums(row, epoch))
        self._write(row, len(stretch.rows))

    def cells(self, line: Line, rows: Rows) -> Cells:
        """The counts of some rollouts for one line."""
        name, mean = line.metric.name, line.metric.kind is Kind.MEAN
        zeros = np.zeros((len(rows), self._epochs))
        parts = {
            f"{arm}_{field_}": self._now(f"{arm} {name} {part}", rows)
            for arm in ("canary", "stable")
            for field_, part in (("units", "units"), ("n", "n"), ("k", _part(line, arm)))
        }
        squares = {
            f"{arm}_squares": self._now(f"{arm} {name} squares", rows) if mean else zeros
            for arm in ("canary", "stable")
        }
        variance = self._variance[name][rows] if mean else np.full(len(rows), np.nan)
        return Cells(weight=self._weight[rows], stage=self._stage[rows], variance=variance, **parts, **squares)

    def split(self, rows: Rows) -> Split:
        """The numbers of units of some rollouts."""
        names = ("canary assigned", "stable assigned", "canary units", "stable units")
        return Split(self._weight[rows], *(self._now(name, rows) for name in names))

    def stage_conversations(self, rows: Rows, stages: Rows) -> npt.NDArray[np.int64]:
        """Counted canary conversations that began in the given stage of each rollout."""
        here = self._stage[rows] == np.asarray(stages)[:, None]
        return np.asarray(np.where(here, self._now("canary units", rows), 0.0).sum(axis=1), dtype=np.int64)

    def _now(self, name: str, rows: Rows | slice) -> FloatArray:
        return np.asarray(self._table[rows, :, self.look, self._columns.names[name]], dtype=np.float64)

    def _close(self, row: int) -> None:
        if self._open[row] is not None:
            self._write(row, int(self._rows[row][0].begun[self.look]))
            self._open[row] = None

    def _write(self, row: int, last: int) -> None:
        """Put the open epoch's sums where looks from now on find them; it ends with the ``last`` conversation."""
        opened, stretch = self._open[row], self._rows[row][0]
        if opened is None:
            return
        for horizon in dict.fromkeys(self._columns.horizons):
            counted = stretch.begun if horizon is None else stretch.counted[horizon]
            where = np.searchsorted(stretch.grid, np.minimum(counted[self.look :], last))
            columns = [index for index, one in enumerate(self._columns.horizons) if one == horizon]
            self._table[row, opened.epoch, self.look :, columns] = opened.sums[where][:, columns].T

    def _sums(self, row: int, epoch: Epoch) -> FloatArray:
        """Sums of every column over the conversations from now on up to each number of the grid."""
        stretch, harm = self._rows[row]
        first = int(stretch.begun[self.look])
        canary = stretch.buckets[first:] < epoch.weight
        added = np.zeros((len(stretch.grid) + 1, len(self._columns.horizons)))
        for arm, here in (("canary", np.flatnonzero(canary) + first), ("stable", np.flatnonzero(~canary) + first)):
            read = stretch.rows[here]
            injected = harm if arm == "canary" else None
            if injected is not None and injected.metric in self._past.donors:
                donors = self._past.donors[injected.metric]
                read = donors.replaced(read, injected.ratio, stretch.draws[here], stretch.picks[here])
            parts = {"assigned": np.ones(len(here)), "units": np.ones(len(here))}
            for metric in self._metrics.values():
                scaling = injected if injected is not None and injected.metric == metric.name else None
                for part, values in self._parts(metric, arm, read, scaling, epoch).items():
                    parts[f"{metric.name} {part}"] = values
            columns = {f"{arm} {name}": part for name, part in parts.items()}
            if arm == "canary":
                columns["violations"] = self._past.history.violations[read]
            step = stretch.step[here]
            for name, summands in columns.items():
                added[:, self._columns.names[name]] = np.bincount(step, summands, minlength=len(added))
        return np.asarray(np.cumsum(added, axis=0)[:-1], dtype=np.float64)

    def _parts(
        self, metric: Metric, arm: str, rows: IntArray, harm: Harm | None, epoch: Epoch
    ) -> dict[str, FloatArray]:
        """What each conversation adds to each column of a metric's arm."""
        history = self._past.history
        if metric.kind is Kind.QUANTILE:
            limit = epoch.thresholds.get(metric.name)
            bins = history.bins[metric.name][rows]
            if harm is not None:
                bins = bins_of(scaled(history.values[metric.name][rows], metric, harm.ratio))
            answered = (bins > MISSING_BIN) & (limit is not None)
            found = {"units": answered.astype(np.float64), "n": answered.astype(np.float64)}
            for line in self._lines:
                if line.metric.name == metric.name:
                    highest = INFINITE_BIN
                    if limit is not None:
                        highest = bin_of(line.boundary.at(limit) if arm == "canary" else limit)
                    found[_part(line, arm)] = (answered & (bins > highest)).astype(np.float64)
            return found
        values = history.values[metric.name][rows]
        if harm is not None and metric.kind is not Kind.PROPORTION:
            values = scaled(values, metric, harm.ratio)
        answered = ~np.isnan(values)
        values = np.where(answered, values, 0.0)
        found = {"units": np.ones(len(rows)), "n": answered.astype(np.float64), "k": values}
        return found | ({"squares": values**2} if metric.kind is Kind.MEAN else {})

    def _variance_before(self, metric: Metric, stretch: Stretch) -> float:
        times = self._past.history.times
        first, last = np.searchsorted(times, [stretch.replay.start - LOOK_BACK * HOUR, stretch.replay.start])
        values = self._past.history.values[metric.name][first:last]
        values = values[~np.isnan(values)]
        return float(values.var(ddof=1)) if len(values) >= MIN_UNITS_FOR_THRESHOLD and np.ptp(values) > 0 else np.nan


def _part(line: Line, arm: str) -> str:
    """The column that a line reads: exceedances of the canary are counted beyond the line's own multiple."""
    if line.metric.kind is not Kind.QUANTILE:
        return "k"
    return f"beyond {line.boundary.ratio!r}" if arm == "canary" else "beyond"
