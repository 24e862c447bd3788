"""One look, criterion by criterion and check by check; ``verdict.judge`` puts it together. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.anytime_intervals import anytime_interval
from agentcanary_analysis.cells import Cells, cells_of, threshold_of
from agentcanary_analysis.checks import Boundary, Check
from agentcanary_analysis.evidence import Evidence, Status, describe
from agentcanary_analysis.looked_at import ARMS, LookedAt
from agentcanary_analysis.metrics import Kind, Metric, early_ages
from agentcanary_analysis.proportion_intervals import clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.questions import Answers, Line, answers, with_early_ages
from agentcanary_analysis.summaries import Summary, summarise
from agentcanary_analysis.suspicion import SUSPECT_BELOW, drift_ps, suspect_ps
from agentcanary_analysis.verdict import CheckFinding, SampleRatio
from agentcanary_analysis.violation_rate import conversations_without_violation, log_e_below
from agentcanary_analysis.weighing import Split, Weighed, weigh

SAFETY_OUTCOME = "safety_violation"


class _Asked(NamedTuple):
    """What is known of a line that is to be proven at one weight."""

    cells: Cells
    answers: Answers
    suspect_p: float
    drift_p: float


@dataclass(slots=True, kw_only=True)
class Look:
    """The aggregates of one rollout at one look, and what every question about them needs.

    Attributes:
        aggregates: What is counted.
        metrics: By name.
        alpha: Budget of ``harmed``, of this attempt.
        alpha_promote: Budget of ``safe``, of this attempt.
        proof_weight: Criteria are proven on epochs of this weight.
        stage: Index of the current stage.
    """

    aggregates: Aggregates
    metrics: Mapping[str, Metric]
    alpha: float
    alpha_promote: float
    proof_weight: float
    stage: int
    _known: LookedAt = field(init=False)
    _split: Split = field(init=False)
    _exceedances: dict[Line, Cells] = field(default_factory=dict)
    _sums: dict[str, Cells] = field(default_factory=dict)
    _summaries: dict[str, Summary] = field(default_factory=dict)
    _asked: dict[tuple[Line, float], _Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = self._known = LookedAt(self.aggregates)
        assigned = [[[self.aggregates.assigned.get((epoch.number, arm), 0) for epoch in known.epochs]] for arm in ARMS]
        early = {age.name for metric in self.metrics.values() for age in early_ages(metric)}
        counted = known.counted(without=early)[:, None]
        self._split = Split(known.weight, *np.array(assigned, dtype=np.float64), *counted)

    def prepare(
        self, criteria: Mapping[str, Boundary], margins: Mapping[str, Boundary], checks: Iterable[Check]
    ) -> None:
        """Ask everything at once that the criteria, margins and checks ask: the more at once, the faster."""
        lines = [(line, self.proof_weight) for line in [*self._lines(criteria), *self._lines(margins)]]
        stage_weight = self._stage_weight()
        self._ask([*lines, *((line, stage_weight) for line in self._check_lines(checks).values())])

    def criteria(
        self, boundaries: Mapping[str, Boundary], *, anytime: bool = True
    ) -> tuple[tuple[Evidence, ...], Weighed]:
        """The evidence of every criterion, and what they say together.

        A metric is ``harmed`` when harm is proven by all together and its e-value is among those that prove it.

        Raises:
            ValueError: If a criterion is about a count.
        """
        lines = self._lines(boundaries)
        asked = self._ask([(line, self.proof_weight) for line in lines])
        early = {
            at: self._ask([(Line(age, line.boundary), self.proof_weight) for age in early_ages(line.metric)])
            for at, line in enumerate(lines)
            if line.metric.early
        }
        for at, ages in early.items():
            asked[at] = asked[at]._replace(answers=with_early_ages(asked[at].answers, [age.answers for age in ages]))
        weighed = weigh(
            lines,
            [one.cells for one in asked],
            [one.answers for one in asked],
            self._split,
            alpha=self.alpha,
            early={at: [age.cells for age in ages] for at, ages in early.items()},
        )
        alone = float(np.log(max(len(lines), 1)) - np.log(self.alpha))
        found = self._describe(lines, asked, self.proof_weight, alone)
        if anytime:
            found = [
                replace(evidence, anytime=anytime_interval(self._known, one.cells, line))
                for evidence, one, line in zip(found, asked, lines, strict=True)
            ]
        guilty = _guilty(found, alone) if weighed.harmed[0] else ()
        return tuple(_with_harm(evidence, evidence.metric in guilty) for evidence in found), weighed

    def margins(self, boundaries: Mapping[str, Boundary]) -> tuple[Evidence, ...]:
        """The evidence against boundaries that are only to be proven, not to be rolled back for."""
        worse = "worse than the margin that promotion asks for"
        return tuple(
            replace(evidence, status=Status.SUSPECT, reason=worse, needs=None)
            if evidence.status is Status.HARMED
            else evidence
            for evidence in self._assess(self._lines(boundaries), self.proof_weight)
        )

    def checks(self, checks: Sequence[Check]) -> tuple[CheckFinding, ...]:
        """What this look says of the checks of the current stage, in their order."""
        lines = self._check_lines(checks)
        evidence = dict(zip(lines, self._assess(list(lines.values()), self._stage_weight()), strict=True))
        return tuple(
            _check_finding(check, evidence[check])
            if check in evidence
            else self._count_check(check, self.metrics[check.metric])
            for check in checks
        )

    def unmeasured(self, boundaries: Mapping[str, Boundary], checked: Collection[str]) -> tuple[str, ...]:
        """Criteria that do not count for promotion: no check names them and nothing was ever recorded for them."""
        return tuple(
            name
            for name in boundaries
            if name not in checked and not self.metrics[name].always_measured and not self._recorded(name)
        )

    def _recorded(self, name: str) -> bool:
        values = (
            any(tally.observed for tally in buckets.values())
            for cell, buckets in self.aggregates.tallies.items()
            if cell.metric == name
        )
        bins = (found for cell, found in self.aggregates.histograms.items() if cell.metric == name)
        return any(values) or any(bins)

    def sample_ratio(self, weighed: Weighed) -> SampleRatio:
        """Is the split what was asked for, in words where it is not."""
        assigned, counted = float(weighed.log_e_assigned[0]), float(weighed.log_e_counted[0])
        if not weighed.alarm[0]:
            return SampleRatio(log_e_assigned=assigned, log_e_counted=counted)
        which = "assigned" if assigned >= counted else "counted"
        split = self._split
        canary, stable = (getattr(split, f"{arm}_{which}")[0] for arm in ("canary", "stable"))
        shares = []
        for weight in sorted({float(value) for value in split.weight[0] if 0 < value < 1}):
            here = split.weight[0] == weight
            got, of = canary[here].sum(), canary[here].sum() + stable[here].sum()
            shares.append(f"{got:.0f} of {of:.0f} where {weight:.1%} was asked for")
        reason = f"sample ratio: of the conversations {which} the canary has {'; '.join(shares)}"
        return SampleRatio(log_e_assigned=assigned, log_e_counted=counted, alarm=True, reason=reason)

    def violation_rate(self, rate: float | None, tolerated: int) -> tuple[str, ...]:
        """Why a rate of safety violations is not ruled out yet; empty when it is, or when none is declared."""
        if rate is None:
            return ()
        seen, units = self.aggregates.safety.canary, int(self._split.canary_counted.sum())
        log_e = log_e_below(min(seen, units), units, rate, tolerated=tolerated)
        if log_e >= -math.log(self.alpha_promote):
            return ()
        text = f"safety: {seen} violations in {units} conversations of the canary do not rule out a rate of {rate:g}"
        needed = conversations_without_violation(rate, alpha=self.alpha_promote)
        return (f"{text}; {needed} without one do" if seen == 0 and tolerated == 0 else text,)

    def stage_conversations(self) -> int:
        """LookedAt canary conversations that began in the current stage."""
        return int(self._split.canary_counted[self._known.stage == self.stage].sum())

    def thresholds(self) -> dict[str, float]:
        """Per quantile metric the threshold that an epoch starting now would use; absent where it is not known."""
        found = {}
        for metric in self.metrics.values():
            if metric.quantile is not None:
                table = self._known.table(metric.name)
                found[metric.name] = threshold_of(table.numbers, table.stable, metric.quantile)
        return {name: value for name, value in found.items() if value is not None}

    def _lines(self, boundaries: Mapping[str, Boundary]) -> list[Line]:
        lines = [Line(self.metrics[name], boundary) for name, boundary in boundaries.items()]
        for line in lines:
            if line.metric.kind is Kind.COUNT:
                raise ValueError(f"{line.metric.name} is a count: its limit is a policy, not a criterion")
        return lines

    def _check_lines(self, checks: Iterable[Check]) -> dict[Check, Line]:
        return {
            check: Line(self.metrics[check.metric], check.boundary(self.metrics[check.metric]))
            for check in checks
            if self.metrics[check.metric].kind is not Kind.COUNT
        }

    def _assess(self, lines: Sequence[Line], weight: float) -> list[Evidence]:
        """The evidence of lines, each by itself, proven on the epochs of one weight."""
        asked = self._ask([(line, weight) for line in lines])
        return self._describe(lines, asked, weight, float(-np.log(self.alpha)))

    def _describe(
        self, lines: Sequence[Line], asked: Sequence[_Asked], weight: float, log_e_needed: float
    ) -> list[Evidence]:
        return [
            describe(
                one.cells,
                line,
                one.answers,
                self._summary(line.metric, one.cells),
                suspect_p=one.suspect_p,
                drift_p=one.drift_p,
                weight=weight,
                alpha_promote=self.alpha_promote,
                log_e_needed=log_e_needed,
            )
            for line, one in zip(lines, asked, strict=True)
        ]

    def _ask(self, lines: Sequence[tuple[Line, float]]) -> list[_Asked]:
        """Everything that is asked of lines, each to be proven at its weight; what was asked before is remembered."""
        new = [key for key in dict.fromkeys(lines) if key not in self._asked]
        if new:
            cells, own = [self._cells(line) for line, _ in new], [line for line, _ in new]
            found = answers(
                cells,
                own,
                weights=[weight for _, weight in new],
                alpha=self.alpha,
                alpha_promote=self.alpha_promote,
            )
            columns = zip(cells, found, suspect_ps(cells, own), drift_ps(cells, own), strict=True)
            self._asked |= zip(new, (_Asked(*column) for column in columns), strict=True)
        return [self._asked[key] for key in lines]

    def _cells(self, line: Line) -> Cells:
        """The counts of a line; only those of a quantile depend on the boundary."""
        if line.metric.kind is Kind.QUANTILE:
            if line not in self._exceedances:
                self._exceedances[line] = cells_of(self._known, line.metric, line.boundary)
            return self._exceedances[line]
        if line.metric.name not in self._sums:
            self._sums[line.metric.name] = cells_of(self._known, line.metric, line.boundary)
        return self._sums[line.metric.name]

    def _summary(self, metric: Metric, cells: Cells) -> Summary:
        if metric.name not in self._summaries:
            self._summaries[metric.name] = summarise(self._known, metric, cells)
        return self._summaries[metric.name]

    def _stage_weight(self) -> float:
        """The weight at which the current stage can prove a check."""
        weights = [epoch.weight for epoch in self._known.epochs if epoch.stage == self.stage]
        return max((weight for weight in weights if 0 < weight < 1), default=self.proof_weight)

    def _count_check(self, check: Check, metric: Metric) -> CheckFinding:
        if metric.outcome == SAFETY_OUTCOME:
            seen = self.aggregates.safety.canary
        else:
            seen = int(
                sum(self.aggregates.tally(metric.name, epoch.number, Arm.CANARY).total for epoch in self._known.epochs)
            )
        units = int(self._split.canary_counted.sum())
        if seen > check.limit:
            return CheckFinding(check=check, status=Status.SUSPECT, reason=f"{seen} where {check.limit:g} are allowed")
        if not units:
            return CheckFinding(check=check, status=Status.NO_DATA, reason="no conversation of the canary is counted")
        limit = clopper_pearson_upper(Proportion(min(seen, units), units))
        reason = f"{seen} in {units} conversations of the canary: at most {limit:.2%} of them, with 95 % confidence"
        return CheckFinding(check=check, status=Status.SAFE, reason=reason)


def _check_finding(check: Check, evidence: Evidence) -> CheckFinding:
    p_value = 1.0 if evidence.test is None else evidence.test.p_value
    status, reason = evidence.status, evidence.reason
    if status is Status.HARMED or p_value < SUSPECT_BELOW:
        status, reason = Status.SUSPECT, f"worse than the check allows, p = {p_value:.2g} at this look"
    elif status is Status.NO_DATA and evidence.answered:
        # Values are there but some are missing: that forbids a proof, it does not make the check suspect.
        status = Status.UNDECIDED
    return CheckFinding(check=check, status=status, reason=reason, evidence=replace(evidence, status=status))


def _guilty(found: Iterable[Evidence], log_e_needed: float) -> tuple[str, ...]:
    """The metrics that prove harm: each that does so alone, else the largest, as many as it takes together."""
    names: list[str] = []
    total = -np.inf
    for evidence in sorted(found, key=lambda evidence: -evidence.log_e_harm):
        if total >= log_e_needed > evidence.log_e_harm:
            break
        names.append(evidence.metric)
        total = np.logaddexp(total, evidence.log_e_harm)
    return tuple(names)


def _with_harm(evidence: Evidence, guilty: bool) -> Evidence:
    if guilty:
        return replace(evidence, status=Status.HARMED, reason="", needs=None)
    if evidence.status is Status.HARMED:
        # Only while the split alarms: enough by the design, not by the realised shares.
        return replace(evidence, status=Status.UNDECIDED, reason="harm is not proven at the realised split")
    return evidence
