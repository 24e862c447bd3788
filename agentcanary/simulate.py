"""A plan's operating characteristics, by simulation of assignment, engine and state machine. Pure: rng is an argument.

Conversations are drawn by their sufficient statistics (binomial splits and events), decided on by the engine that a
controller runs, and moved by ``advance()`` itself. They are counted at once: with a horizon of half an hour everything
happens half an hour later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from agentcanary.plan import Advance, Plan
from agentcanary.rollout import Phase, Rollout
from agentcanary.simulated_outcomes import Effect, Rows, SimulatedOutcomes, Truth
from agentcanary.state_machine import Look, advance, new_rollout
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.batch import STATUSES, Codes, Decisions, check_statuses, decide, margin_statuses
from agentcanary_analysis.cells import Cells
from agentcanary_analysis.checks import Check
from agentcanary_analysis.evidence import Evidence, Status
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.questions import Line
from agentcanary_analysis.verdict import CheckFinding, Findings
from agentcanary_analysis.violation_rate import log_e_below
from agentcanary_analysis.weighing import Split

__all__ = ["Effect", "End", "OperatingCharacteristics", "Outcomes", "SideBySide", "Truth", "lines_of", "simulate"]

_HOUR = 3600.0
_Words = tuple[tuple[Evidence, ...], tuple[Evidence, ...], tuple[CheckFinding, ...]]


class End(StrEnum):
    """How a simulated rollout ended."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    HOLDING = "holding"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingCharacteristics:
    """How often a plan ends how, and when. One entry a simulated rollout.

    Attributes:
        ends: How it ended.
        conversations: Conversations of both arms until then.
        stages: Index of the stage in which it ended.
        causes: Why it was rolled back; empty when it was not.
    """

    ends: tuple[End, ...]
    conversations: tuple[int, ...]
    stages: tuple[int, ...]
    causes: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Simulated rollouts."""
        return len(self.ends)

    def count(self, end: End) -> int:
        """Rollouts that ended so."""
        return self.ends.count(end)

    def share(self, end: End) -> float:
        """Share of the rollouts that ended so."""
        return self.count(end) / self.runs

    def median_conversations(self, end: End) -> float | None:
        """Median conversations, of both arms, of the rollouts that ended so; None when none did."""
        found = [size for one, size in zip(self.ends, self.conversations, strict=True) if one is end]
        return float(np.median(found)) if found else None


def simulate(
    plan: Plan,
    truth: Truth,
    *,
    runs: int,
    rng: np.random.Generator,
    look_every: int = 200,
    look_growth: float = 0.0,
    max_conversations: int = 60_000,
    conversations_per_hour: float = 200.0,
) -> OperatingCharacteristics:
    """How a plan treats versions that are truly like this.

    Args:
        plan: Stages, criteria and policies.
        truth: What the versions are like; it must name every metric that the plan judges, but for safety.
        runs: Rollouts to simulate.
        rng: Source of randomness.
        look_every: Conversations of both arms between two looks.
        look_growth: Looks move apart to this share of the conversations so far, where that is more: a long rollout
            then takes a number of looks that grows with the logarithm of its length.
        max_conversations: Conversations after which a rollout without an end counts as holding.
        conversations_per_hour: Traffic, for the stages' durations.

    Raises:
        ValueError: If the truth lacks a metric, or a number is not positive.
    """
    for name, value in (("runs", runs), ("look_every", look_every), ("conversations_per_hour", conversations_per_hour)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if not 0 <= look_growth < 1:
        raise ValueError(f"look_growth must be a share below 1, got {look_growth} (write 0.03 for 3 %)")
    outcomes = SimulatedOutcomes(truth, lines_of(plan), runs, rng)
    rollouts = SideBySide(plan, outcomes, runs)
    done = 0
    while done < max_conversations and rollouts.running.size:
        size = min(max(look_every, int(look_growth * done)), max_conversations - done)
        done += size
        outcomes.draw(rollouts.running, rollouts.epochs(), size)
        rollouts.look(now=done / conversations_per_hour * _HOUR, done=done)
    return rollouts.result(done)


class Outcomes(Protocol):
    """What is counted of many rollouts, one row each: drawn from a distribution, or replayed from history."""

    @property
    def violations(self) -> npt.NDArray[np.int64]:
        """Confirmed safety violations of each rollout's canary so far, shape (runs,)."""

    def known_thresholds(self, row: int) -> dict[str, float]:
        """Per quantile metric the threshold that an epoch of this rollout would have if it began now."""

    def open_epoch(self, row: int, epoch: Epoch) -> None:
        """From now on the conversations of a rollout belong to this epoch."""

    def cells(self, line: Line, rows: Rows) -> Cells:
        """The counts of some rollouts for one line."""

    def split(self, rows: Rows) -> Split:
        """The numbers of units of some rollouts."""

    def stage_conversations(self, rows: Rows, stages: Rows) -> npt.NDArray[np.int64]:
        """Counted canary conversations that began in the given stage of each rollout."""


def lines_of(plan: Plan) -> tuple[Line, ...]:
    """Every line that a plan judges, each once: criteria, margins and checks; counts have none."""
    criteria, margins, checks = _lines(plan)
    return tuple(dict.fromkeys((*criteria, *margins, *checks.values())))


def _lines(plan: Plan) -> tuple[tuple[Line, ...], tuple[Line, ...], dict[Check, Line]]:
    criteria = tuple(Line(plan.metric(one.metric), plan.boundary(one)) for one in plan.criteria)
    margins = tuple(Line(plan.metric(one.metric), plan.boundary(one)) for one in plan.promotion)
    checks = {
        check: Line(plan.metric(check.metric), check.boundary(plan.metric(check.metric)))
        for stage in plan.stages
        for check in stage.checks
        if plan.metric(check.metric).kind is not Kind.COUNT
    }
    return criteria, margins, checks


class SideBySide:
    """Many rollouts of one plan, side by side.

    Args:
        plan: Stages, criteria and policies.
        outcomes: What is counted of them.
        runs: How many.
        observe: Is told of every look: its rows, the index of each row's stage, and the decisions.

    Attributes:
        running: Rows of the rollouts that have not ended.
    """

    def __init__(
        self,
        plan: Plan,
        outcomes: Outcomes,
        runs: int,
        observe: Callable[[Rows, Rows, Decisions], None] | None = None,
    ) -> None:
        # Freeze windows are hours of the week, and these rollouts begin at no hour of it.
        plan = replace(plan, freeze=())
        self._plan, self._outcomes, self._observe = plan, outcomes, observe
        self._criteria, self._margins, self._check_lines = _lines(plan)
        rollout = new_rollout("simulated", "stable", "canary", plan, now=0.0, new_salt=b"simulated")
        self._rollouts: list[Rollout] = [
            advance(rollout, Look(findings=Findings(thresholds=outcomes.known_thresholds(row))), now=0.0).rollout
            for row in range(runs)
        ]
        self._ended_after: dict[int, int] = {}
        self._known: dict[tuple[object, ...], _Words] = {}
        self.running: Rows = np.arange(runs)
        for row in range(runs):
            self._open_epochs(row, 0)

    def epochs(self) -> Rows:
        """Number of the current epoch of every running rollout."""
        return np.array([len(self._rollouts[row].epochs) - 1 for row in self.running], dtype=np.intp)

    def look(self, *, now: float, done: int) -> None:
        """One look at every running rollout."""
        rows, plan = self.running, self._plan
        stages = np.array([self._rollouts[row].stage for row in rows])
        cells = {line: self._outcomes.cells(line, rows) for line in self._criteria}
        split = self._outcomes.split(rows)
        decisions = decide(
            cells,
            self._criteria,
            split,
            weight=plan.proof_weight,
            alpha=plan.alpha,
            alpha_promote=plan.alpha_promote,
        )
        if self._observe is not None:
            self._observe(rows, stages, decisions)
        conversations = self._outcomes.stage_conversations(rows, stages)
        checks = self._checks(rows, stages, conversations)
        margins = self._margin_statuses(rows, stages)
        still = []
        counts = self._outcomes.violations
        on_canary = split.canary_counted.sum(axis=1)
        for index, row in enumerate(rows):
            stage = int(stages[index])
            harmed = self._suspects(decisions.criteria[index]) if decisions.harmed[index] else ()
            codes = (tuple(decisions.criteria[index].tolist()), margins[index], checks[index])
            evidence, proofs, findings = self._words(stage, *codes)
            violations = int(counts[row])
            found = Findings(
                unsafe="a safety violation" if violations > plan.max_safety_violations else "",
                unproven=self._unproven(violations, int(on_canary[index])),
                harmed=harmed,
                invalid="sample ratio" if decisions.alarm[index] else "",
                evidence=evidence,
                margins=proofs,
                checks=findings,
                stage_conversations=int(conversations[index]),
                thresholds=self._outcomes.known_thresholds(int(row)),
            )
            before = len(self._rollouts[row].epochs)
            self._rollouts[row] = advance(self._rollouts[row], Look(findings=found), now=now).rollout
            if self._rollouts[row].phase.ended:
                self._ended_after[int(row)] = done
            else:
                still.append(row)
                self._open_epochs(int(row), before)
        self.running = np.array(still, dtype=np.intp)

    def result(self, done: int) -> OperatingCharacteristics:
        """How all of them ended."""
        ends = {Phase.PROMOTED: End.PROMOTED, Phase.ROLLED_BACK: End.ROLLED_BACK}
        return OperatingCharacteristics(
            ends=tuple(ends.get(rollout.phase, End.HOLDING) for rollout in self._rollouts),
            conversations=tuple(self._ended_after.get(row, done) for row in range(len(self._rollouts))),
            stages=tuple(rollout.stage for rollout in self._rollouts),
            causes=tuple(rollout.cause for rollout in self._rollouts),
        )

    def _open_epochs(self, row: int, before: int) -> None:
        for epoch in self._rollouts[row].epochs[before:]:
            self._outcomes.open_epoch(row, epoch)

    def _unproven(self, violations: int, conversations: int) -> tuple[str, ...]:
        """Whether a rate of violations is still to be ruled out."""
        rate, tolerated = self._plan.max_violation_rate, self._plan.max_safety_violations
        if rate is None:
            return ()
        log_e = log_e_below(min(violations, conversations), conversations, rate, tolerated=tolerated)
        return ("a rate of violations",) if log_e < -np.log(self._plan.alpha_promote) else ()

    def _suspects(self, codes: Codes) -> tuple[str, ...]:
        """Names of what may be harmed: simulation asks whether, not which."""
        names = tuple(line.metric.name for line in self._criteria)
        safe = STATUSES.index(Status.SAFE)
        return tuple(name for name, code in zip(names, codes, strict=True) if code != safe) or names

    def _checks(self, rows: Rows, stages: Rows, conversations: Rows) -> list[tuple[int, ...]]:
        """Statuses of the checks of each rollout's stage, as soon as the stage has its minimum of conversations."""
        plan = self._plan
        statuses: list[tuple[int, ...]] = [()] * len(rows)
        for number, stage in enumerate(plan.stages):
            asked = np.flatnonzero((stages == number) & (conversations >= stage.min_conversations))
            lines = [self._check_lines[check] for check in stage.checks if check in self._check_lines]
            if not asked.size or not lines:
                continue
            columns = [
                check_statuses(
                    self._outcomes.cells(line, rows[asked]),
                    line,
                    weight=stage.weight if stage.weight < 1 else plan.proof_weight,
                    alpha=plan.alpha,
                    alpha_promote=plan.alpha_promote,
                    prove=stage.advance is Advance.PROVEN,
                )
                for line in lines
            ]
            for position, codes in zip(asked, np.stack(columns, axis=-1).tolist(), strict=True):
                statuses[position] = tuple(codes)
        return statuses

    def _margin_statuses(self, rows: Rows, stages: Rows) -> list[tuple[int, ...]]:
        """Statuses of the margins that promotion asks for, of rollouts in a stage that can prove them."""
        plan = self._plan
        statuses = [(STATUSES.index(Status.UNDECIDED),) * len(self._margins)] * len(rows)
        proving = np.flatnonzero([plan.stages[stage].weight == plan.proof_weight for stage in stages])
        if self._margins and proving.size:
            columns = [
                margin_statuses(
                    self._outcomes.cells(line, rows[proving]),
                    line,
                    weight=plan.proof_weight,
                    alpha=plan.alpha,
                    alpha_promote=plan.alpha_promote,
                )
                for line in self._margins
            ]
            for position, codes in zip(proving, np.stack(columns, axis=-1).tolist(), strict=True):
                statuses[position] = tuple(codes)
        return statuses

    def _words(
        self, stage: int, criteria: tuple[int, ...], margins: tuple[int, ...], checks: tuple[int, ...]
    ) -> _Words:
        """Evidence and findings with these statuses; made once."""
        key = (stage, criteria, margins, checks)
        if key not in self._known:
            judged = [check for check in self._plan.stages[stage].checks if check in self._check_lines]
            findings = tuple(
                CheckFinding(check=check, status=STATUSES[code]) for check, code in zip(judged, checks, strict=False)
            )
            self._known[key] = (_evidence(self._criteria, criteria), _evidence(self._margins, margins), findings)
        return self._known[key]


def _evidence(lines: tuple[Line, ...], codes: tuple[int, ...]) -> tuple[Evidence, ...]:
    """Evidence of which only the status is known: the state machine asks for no more."""
    return tuple(
        Evidence(metric=line.metric.name, boundary=line.boundary, status=STATUSES[code], log_e_harm=0.0, log_e_safe=0.0)
        for line, code in zip(lines, codes, strict=True)
    )
