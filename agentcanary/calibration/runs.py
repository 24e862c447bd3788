"""Replays run through engine and state machine, and what came of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from agentcanary.calibration.design import Design
from agentcanary.calibration.history import FloatArray, IntArray
from agentcanary.calibration.injection import Harm
from agentcanary.calibration.past import Past, Stretch
from agentcanary.calibration.replayed import ReplayedOutcomes
from agentcanary.plan import Plan
from agentcanary.simulate import End, SideBySide, lines_of
from agentcanary.simulated_outcomes import Rows
from agentcanary_analysis.batch import STATUSES, Decisions
from agentcanary_analysis.cells import BoolArray
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.metrics import Direction, Kind
from agentcanary_analysis.questions import Line

_SAFE = STATUSES.index(Status.SAFE)
_NEVER = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """What came of replays, one row each. Times are hours since the start, NaN for never.

    Attributes:
        block: Block of each, shape (runs,).
        end: How it ended, ``End`` values, shape (runs,).
        cause: Why it was rolled back; empty when it was not, shape (runs,).
        guilty: Index of the criterion with the largest e-value when harm was proven, else -1, shape (runs,).
        hours: When it ended; its whole length when it did not, shape (runs,).
        entered: When it entered each stage, shape (runs, stages).
        safe: When each criterion was first proven within its boundary, shape (runs, criteria).
        log_e: Largest log e-value of harm, of all criteria together, shape (runs,).
        log_e_alone: The same of each criterion, shape (runs, criteria).
        naive: A check's plain comparison was beyond its limit at the end of some stage's minimum, shape (runs,).
    """

    block: IntArray
    end: npt.NDArray[np.str_]
    cause: npt.NDArray[np.str_]
    guilty: IntArray
    hours: FloatArray
    entered: FloatArray
    safe: FloatArray
    log_e: FloatArray
    log_e_alone: FloatArray
    naive: BoolArray

    def rows(self, index: BoolArray | slice) -> Runs:
        """Some of them."""
        return Runs(**{one.name: getattr(self, one.name)[index] for one in fields(self)})

    @property
    def rolled_back(self) -> BoolArray:
        """Rolled back because harm was proven, shape (runs,)."""
        return np.asarray((self.end == End.ROLLED_BACK.value) & (self.cause == "harm"), dtype=np.bool_)

    @property
    def promoted(self) -> BoolArray:
        """Promoted, shape (runs,)."""
        return np.asarray(self.end == End.PROMOTED.value, dtype=np.bool_)


def joined(parts: Sequence[Runs]) -> Runs:
    """Several as one, in order."""
    return Runs(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Runs)})


def run(
    past: Past, plan: Plan, design: Design, stretches: Sequence[Stretch], harms: Sequence[Harm | None]
) -> list[Runs]:
    """What comes of replays under a plan, once for each harm.

    Args:
        past: The history.
        plan: The plan, without what the history does not know.
        design: When it is looked at.
        stretches: The replays.
        harms: What is injected, None for nothing.
    """
    size = len(stretches) * len(harms)
    outcomes = ReplayedOutcomes(past, lines_of(plan), stretches, harms, design.looks)
    watch = _Watch(plan, outcomes, design, size)
    rollouts = SideBySide(plan, outcomes, size, watch)
    for number in range(1, len(design.looks)):
        if not rollouts.running.size:
            break
        outcomes.look = number
        rollouts.look(now=float(design.looks[number]), done=number)
    result = rollouts.result(len(design.looks) - 1)
    hours = design.looks / 3600
    found = Runs(
        block=np.tile([stretch.replay.block for stretch in stretches], len(harms)),
        end=np.array([end.value for end in result.ends]),
        cause=np.array(result.causes, dtype=np.str_),
        guilty=watch.guilty,
        hours=hours[np.array(result.conversations)],
        entered=_hours(outcomes.entered, hours),
        safe=_hours(watch.safe, hours),
        log_e=watch.log_e,
        log_e_alone=watch.log_e_alone,
        naive=watch.naive,
    )
    each = len(stretches)
    return [found.rows(slice(number * each, (number + 1) * each)) for number in range(len(harms))]


def _hours(looks: IntArray, hours: FloatArray) -> FloatArray:
    return np.where(looks == _NEVER, np.nan, hours[looks])


class _Watch:
    """Remembers of every look what the end alone does not tell."""

    def __init__(self, plan: Plan, outcomes: ReplayedOutcomes, design: Design, size: int) -> None:
        self._plan, self._outcomes, self._design = plan, outcomes, design
        criteria = len(plan.criteria)
        self._weights = np.array([stage.weight for stage in plan.stages])
        self._lines = [
            [(check, Line(plan.metric(check.metric), check.boundary(plan.metric(check.metric))))
             for check in stage.checks if plan.metric(check.metric).kind is not Kind.COUNT]
            for stage in plan.stages
        ]  # fmt: skip
        self._read = np.zeros((size, len(plan.stages)), dtype=np.bool_)
        self.safe = np.full((size, criteria), _NEVER)
        self.guilty = np.full(size, -1)
        self.log_e = np.full(size, -np.inf)
        self.log_e_alone = np.full((size, criteria), -np.inf)
        self.naive = np.zeros(size, dtype=np.bool_)

    def __call__(self, rows: Rows, stages: Rows, decisions: Decisions) -> None:
        """As ``SideBySide`` calls it at every look."""
        look = self._outcomes.look
        proving = self._weights[stages] == self._plan.proof_weight
        fresh = (decisions.criteria == _SAFE) & proving[:, None] & (self.safe[rows] == _NEVER)
        self.safe[rows] = np.where(fresh, look, self.safe[rows])
        self.log_e[rows] = np.maximum(self.log_e[rows], decisions.log_e_harm)
        self.log_e_alone[rows] = np.maximum(self.log_e_alone[rows], decisions.log_e_by_criterion)
        harmed = decisions.harmed & (self.guilty[rows] < 0)
        if harmed.any():
            self.guilty[rows[harmed]] = decisions.log_e_by_criterion[harmed].argmax(axis=1)
        conversations = self._outcomes.stage_conversations(rows, stages)
        now = self._design.looks[look]
        for number, stage in enumerate(self._plan.stages):
            entered = self._design.looks[self._outcomes.entered[rows, number]]
            due = (stages == number) & ~self._read[rows, number] & (now - entered >= stage.duration)
            due &= conversations >= max(stage.min_conversations, 1)
            if due.any() and 0 < stage.weight < 1:
                self._read[rows[due], number] = True
                for _, line in self._lines[number]:
                    self.naive[rows[due]] |= self._beyond(line, rows[due], number)

    def _beyond(self, line: Line, rows: Rows, stage: int) -> BoolArray:
        """The comparison that thresholds are usually put to: the stage's plain rates, no floor, no uncertainty."""
        cells = self._outcomes.cells(line, rows)
        here = (cells.stage == stage) & cells.testable
        c_k, c_n, s_k, s_n = (
            np.where(here, part, 0.0).sum(axis=1)
            for part in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
        )
        ratio = 1.0 if line.metric.kind is Kind.QUANTILE else line.boundary.ratio
        canary, stable = c_k * s_n, s_k * c_n * ratio
        worse = canary > stable if line.boundary.direction is Direction.UP_IS_WORSE else canary < stable
        return np.asarray(worse & (c_n > 0) & (s_n > 0), dtype=np.bool_)
