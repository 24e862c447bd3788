"""Outcomes of simulated conversations, drawn by their sufficient statistics. Pure: rng is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.cells import Cells, FloatArray
from agentcanary_analysis.histogram import bin_of, edge
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.questions import Line
from agentcanary_analysis.weighing import Split

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What is true of one metric.

    Attributes:
        stable: Probability of a proportion, mean of a mean (normal values), the quantile itself of a quantile
            (lognormal values).
        canary: The same of the canary.
        spread: Standard deviation of a mean's values; of their logarithm, for a quantile.
        answered: Share of the conversations that have a value at all.
        from_stage: The canary is like stable before this stage.
        by_stage: Factor on both arms in stage 0, 1, …; the last one holds on. Empty: no drift.
    """

    stable: float
    canary: float
    spread: float = 1.0
    answered: float = 1.0
    from_stage: int = 0
    by_stage: tuple[float, ...] = ()

    def at(self, stage: int) -> tuple[float, float]:
        """Canary's and stable's value in a stage."""
        factor = self.by_stage[min(stage, len(self.by_stage) - 1)] if self.by_stage else 1.0
        return factor * (self.canary if stage >= self.from_stage else self.stable), factor * self.stable


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the two versions are really like.

    Attributes:
        effects: By the name of the metric. A metric without one is never recorded.
        violations: Probability that a conversation of the canary has a confirmed safety violation.
    """

    effects: Mapping[str, Effect]
    violations: float = 0.0


class SimulatedOutcomes:
    """Counts of many rollouts, one row each, one column an epoch."""

    def __init__(self, truth: Truth, lines: Sequence[Line], runs: int, rng: np.random.Generator) -> None:
        """Nothing is counted yet.

        Raises:
            ValueError: If the truth says nothing about the metric of a line.
        """
        missing = sorted({line.metric.name for line in lines} - truth.effects.keys())
        if missing:
            raise ValueError(f"the plan judges {', '.join(missing)}, of which the truth says nothing")
        self._truth, self._lines, self._rng = truth, tuple(lines), rng
        self._metrics = {line.metric.name: line.metric for line in lines}
        self.thresholds = {
            name: edge(bin_of(truth.effects[name].stable))
            for name, metric in self._metrics.items()
            if metric.kind is Kind.QUANTILE
        }
        self.violations = np.zeros(runs, dtype=np.int64)
        self._runs = runs
        self._columns: dict[str, FloatArray] = {}
        self._epochs = 0

    def known_thresholds(self, row: int) -> dict[str, float]:  # noqa: ARG002  # the same for every rollout
        """Per quantile metric its threshold, the same for every rollout at any time."""
        return self.thresholds

    def open_epoch(self, row: int, epoch: Epoch) -> None:
        """From now on the conversations of a rollout belong to this epoch."""
        while epoch.number >= self._epochs:
            self._columns = {
                name: np.concatenate([column, np.zeros((self._runs, 1))], axis=1)
                for name, column in self._columns.items()
            }
            self._epochs += 1
        self._column("weight")[row, epoch.number] = epoch.weight
        self._column("stage")[row, epoch.number] = epoch.stage

    def draw(self, rows: Rows, epochs: Rows, size: int) -> None:
        """The next ``size`` conversations of every given rollout, in its given epoch."""
        stages = self._column("stage")[rows, epochs].astype(int)
        canary = self._rng.binomial(size, self._column("weight")[rows, epochs])
        units = {"canary": canary, "stable": size - canary}
        for arm, number in units.items():
            self._column(f"{arm} units")[rows, epochs] += number
        if self._truth.violations:
            self.violations[rows] += self._rng.binomial(canary, self._truth.violations)
        for name, metric in self._metrics.items():
            effect = self._truth.effects[name]
            values = np.array([effect.at(stage) for stage in range(int(stages.max(initial=0)) + 1)])[stages]
            for arm, value in (("canary", values[:, 0]), ("stable", values[:, 1])):
                answered = units[arm]
                if effect.answered < 1:
                    answered = self._rng.binomial(answered, effect.answered)
                self._column(f"{arm} {name} n")[rows, epochs] += answered
                for part, drawn in self._draw(metric, arm, answered, value).items():
                    self._column(f"{arm} {name} {part}")[rows, epochs] += drawn

    def cells(self, line: Line, rows: Rows) -> Cells:
        """The counts of some rollouts for one line."""
        name = line.metric.name
        part = self._part(line)
        zeros = np.zeros((len(rows), self._epochs))
        mean = line.metric.kind in (Kind.MEAN, Kind.RATIO)
        return Cells(
            weight=self._column("weight")[rows],
            stage=self._column("stage")[rows],
            canary_units=self._column("canary units")[rows],
            canary_n=self._column(f"canary {name} n")[rows],
            canary_k=self._column(f"canary {name} {part}")[rows],
            canary_squares=self._column(f"canary {name} squares")[rows] if mean else zeros,
            stable_units=self._column("stable units")[rows],
            stable_n=self._column(f"stable {name} n")[rows],
            stable_k=self._column(f"stable {name} {'beyond' if part.startswith('beyond') else part}")[rows],
            stable_squares=self._column(f"stable {name} squares")[rows] if mean else zeros,
            variance=np.full(len(rows), self._truth.effects[name].spread ** 2 if mean else np.nan),
        )

    def split(self, rows: Rows) -> Split:
        """The numbers of units of some rollouts; all assigned ones are counted."""
        canary, stable = self._column("canary units")[rows], self._column("stable units")[rows]
        return Split(self._column("weight")[rows], canary, stable, canary, stable)

    def stage_conversations(self, rows: Rows, stages: Rows) -> npt.NDArray[np.int64]:
        """Canary conversations that began in the given stage of each rollout."""
        here = self._column("stage")[rows] == stages[:, None]
        counted = np.where(here, self._column("canary units")[rows], 0.0).sum(axis=1)
        return np.asarray(counted, dtype=np.int64)

    def _draw(self, metric: Metric, arm: str, units: npt.NDArray[np.int64], value: FloatArray) -> dict[str, FloatArray]:
        """What so many values add to every column of a metric's arm."""
        spread = self._truth.effects[metric.name].spread
        if metric.kind is Kind.PROPORTION:
            return {"k": self._rng.binomial(units, value).astype(np.float64)}
        # A ratio is judged by its linearised values, which have a mean and a spread as others do.
        if metric.kind in (Kind.MEAN, Kind.RATIO):
            # A normal sample's sum and its sum of squares about the mean are independent: normal and chi-squared.
            total = units * value + spread * np.sqrt(units) * self._rng.standard_normal(len(units))
            around = spread**2 * np.where(units > 1, self._rng.chisquare(np.maximum(units - 1, 1)), 0.0)
            return {"k": total, "squares": around + total**2 / np.maximum(units, 1)}
        return self._exceedances(metric, arm, units, value)

    def _exceedances(
        self, metric: Metric, arm: str, units: npt.NDArray[np.int64], value: FloatArray
    ) -> dict[str, FloatArray]:
        """Values beyond every line's limit: who is beyond a higher one is beyond a lower one too."""
        if metric.quantile is None:
            raise ValueError(f"values of {metric.name}, a {metric.kind.value}, cannot be drawn")
        centre = np.log(value) - self._truth.effects[metric.name].spread * ndtri(metric.quantile)
        spread = self._truth.effects[metric.name].spread
        threshold = self.thresholds[metric.name]
        limits = {"beyond": threshold}
        if arm == "canary":
            limits = {
                self._part(line): edge(bin_of(line.boundary.at(threshold)))
                for line in self._lines
                if line.metric.name == metric.name
            }
        drawn: dict[str, FloatArray] = {}
        remaining, before = units, np.ones(len(units))
        for part, limit in sorted(limits.items(), key=lambda item: item[1]):
            beyond = ndtr((centre - np.log(limit)) / spread)
            remaining = self._rng.binomial(remaining, np.minimum(beyond / before, 1.0))
            drawn[part], before = remaining.astype(np.float64), beyond
        return drawn

    def _part(self, line: Line) -> str:
        """The column that a line reads."""
        return f"beyond {line.boundary.ratio!r}" if line.metric.kind is Kind.QUANTILE else "k"

    def _column(self, name: str) -> FloatArray:
        return self._columns.setdefault(name, np.zeros((self._runs, self._epochs)))
