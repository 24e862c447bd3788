"""One look, criterion by criterion and check by check; ``verdict.judge`` puts it together. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.cells import (
    Cells,
    cells_of,
    counted_units,
    rollout_epochs,
    stable_histogram,
    threshold,
)
from agentcanary_analysis.checks import Boundary, Check
from agentcanary_analysis.evidence import Evidence, Status, describe
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.proportion_intervals import clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.questions import SUSPECT_BELOW, Line, answer
from agentcanary_analysis.summaries import Summary, summarise
from agentcanary_analysis.verdict import CheckFinding, SampleRatio
from agentcanary_analysis.weighing import Split, Weighed, weigh

SAFETY_OUTCOME = "safety_violation"


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
    _summaries: dict[str, Summary] = field(default_factory=dict)

    def criteria(self, boundaries: Mapping[str, Boundary]) -> tuple[tuple[Evidence, ...], Weighed]:
        """The evidence of every criterion, and what they say together.

        A metric is ``harmed`` when harm is proven by all together and its e-value is among those that prove it.

        Raises:
            ValueError: If a criterion is about a count.
        """
        lines = [Line(self.metrics[name], boundary) for name, boundary in boundaries.items()]
        for line in lines:
            if line.metric.kind is Kind.COUNT:
                raise ValueError(f"{line.metric.name} is a count: its limit is a policy, not a criterion")
        cells = [cells_of(self.aggregates, line.metric, line.boundary) for line in lines]
        weighed = weigh(
            lines, cells, self._split(), weight=self.proof_weight, alpha=self.alpha, alpha_promote=self.alpha_promote
        )
        alone = np.log(max(len(lines), 1)) - np.log(self.alpha)
        found = [
            describe(
                counts,
                line,
                answers,
                self._summary(line.metric),
                weight=self.proof_weight,
                alpha=self.alpha,
                alpha_promote=self.alpha_promote,
                log_e_needed=float(alone),
            )
            for line, counts, answers in zip(lines, cells, weighed.answers, strict=True)
        ]
        guilty = _guilty(found, float(alone)) if weighed.harmed[0] else ()
        return tuple(_with_harm(evidence, evidence.metric in guilty) for evidence in found), weighed

    def margins(self, boundaries: Mapping[str, Boundary]) -> tuple[Evidence, ...]:
        """The evidence against boundaries that are only to be proven, not to be rolled back for."""
        lines = [Line(self.metrics[name], boundary) for name, boundary in boundaries.items()]
        cells = [cells_of(self.aggregates, line.metric, line.boundary) for line in lines]
        found = [self._assess(line, counts, self.proof_weight) for line, counts in zip(lines, cells, strict=True)]
        worse = "worse than the margin that promotion asks for"
        return tuple(
            replace(evidence, status=Status.SUSPECT, reason=worse, needs=None)
            if evidence.status is Status.HARMED
            else evidence
            for evidence in found
        )

    def check(self, check: Check) -> CheckFinding:
        """What this look says of one check of the current stage."""
        metric = self.metrics[check.metric]
        if metric.kind is Kind.COUNT:
            return self._count_check(check, metric)
        line = Line(metric, check.boundary(metric))
        cells = cells_of(self.aggregates, metric, line.boundary)
        evidence = self._assess(line, cells, self._stage_weight())
        p_value = 1.0 if evidence.test is None else evidence.test.p_value
        status, reason = evidence.status, evidence.reason
        if status is Status.HARMED or p_value < SUSPECT_BELOW:
            status, reason = Status.SUSPECT, f"worse than the check allows, p = {p_value:.2g} at this look"
        elif status is Status.NO_DATA and cells.canary_n.any() and cells.stable_n.any():
            # Values are there but some are missing: that forbids a proof, it does not make the check suspect.
            status = Status.UNDECIDED
        return CheckFinding(check=check, status=status, reason=reason, evidence=replace(evidence, status=status))

    def unmeasured(self, boundaries: Mapping[str, Boundary], checked: Collection[str]) -> tuple[str, ...]:
        """Criteria that do not count for promotion: no check names them and nothing was ever recorded for them."""
        recorded = {
            cell.metric
            for cell, buckets in self.aggregates.tallies.items()
            if any(tally.observed for tally in buckets.values())
        } | {cell.metric for cell, bins in self.aggregates.histograms.items() if bins}
        return tuple(
            name
            for name in boundaries
            if name not in checked and name not in recorded and not self.metrics[name].always_measured
        )

    def sample_ratio(self, weighed: Weighed) -> SampleRatio:
        """Is the split what was asked for, in words where it is not."""
        assigned, counted = float(weighed.log_e_assigned[0]), float(weighed.log_e_counted[0])
        if not weighed.alarm[0]:
            return SampleRatio(log_e_assigned=assigned, log_e_counted=counted)
        which = "assigned" if assigned >= counted else "counted"
        split = self._split()
        canary, stable = (getattr(split, f"{arm}_{which}")[0] for arm in ("canary", "stable"))
        shares = []
        for weight in sorted({float(value) for value in split.weight[0] if 0 < value < 1}):
            here = split.weight[0] == weight
            got, of = canary[here].sum(), canary[here].sum() + stable[here].sum()
            shares.append(f"{got:.0f} of {of:.0f} where {weight:.1%} was asked for")
        reason = f"sample ratio: of the conversations {which} the canary has {'; '.join(shares)}"
        return SampleRatio(log_e_assigned=assigned, log_e_counted=counted, alarm=True, reason=reason)

    def stage_conversations(self) -> int:
        """Counted canary conversations that began in the current stage."""
        counted = counted_units(self.aggregates)
        return sum(
            counted.get((epoch.number, Arm.CANARY), 0)
            for epoch in rollout_epochs(self.aggregates)
            if epoch.stage == self.stage
        )

    def thresholds(self) -> dict[str, float]:
        """Per quantile metric the threshold that an epoch starting now would use; absent where it is not known."""
        found = {
            metric.name: threshold(stable_histogram(self.aggregates, metric), metric.quantile)
            for metric in self.metrics.values()
            if metric.quantile is not None
        }
        return {name: value for name, value in found.items() if value is not None}

    def _assess(self, line: Line, cells: Cells, weight: float) -> Evidence:
        """The evidence of one line by itself, proven on the epochs of one weight."""
        return describe(
            cells,
            line,
            answer(cells, line, weight=weight, alpha=self.alpha, alpha_promote=self.alpha_promote),
            self._summary(line.metric),
            weight=weight,
            alpha=self.alpha,
            alpha_promote=self.alpha_promote,
            log_e_needed=float(-np.log(self.alpha)),
        )

    def _summary(self, metric: Metric) -> Summary:
        if metric.name not in self._summaries:
            self._summaries[metric.name] = summarise(self.aggregates, metric)
        return self._summaries[metric.name]

    def _stage_weight(self) -> float:
        """The weight at which the current stage can prove a check."""
        weights = [epoch.weight for epoch in rollout_epochs(self.aggregates) if epoch.stage == self.stage]
        return max((weight for weight in weights if 0 < weight < 1), default=self.proof_weight)

    def _split(self) -> Split:
        epochs = rollout_epochs(self.aggregates)
        counted = counted_units(self.aggregates)
        return Split(
            np.array([[epoch.weight for epoch in epochs]], dtype=np.float64),
            *(
                np.array([[units.get((epoch.number, arm), 0) for epoch in epochs]], dtype=np.float64)
                for units in (self.aggregates.assigned, counted)
                for arm in (Arm.CANARY, Arm.STABLE)
            ),
        )

    def _count_check(self, check: Check, metric: Metric) -> CheckFinding:
        if metric.outcome == SAFETY_OUTCOME:
            seen = self.aggregates.safety.canary
        else:
            seen = int(
                sum(
                    self.aggregates.tally(metric.name, epoch.number, Arm.CANARY).total
                    for epoch in rollout_epochs(self.aggregates)
                )
            )
        units = sum(number for (epoch, arm), number in counted_units(self.aggregates).items() if arm is Arm.CANARY)
        if seen > check.limit:
            return CheckFinding(check=check, status=Status.SUSPECT, reason=f"{seen} where {check.limit:g} are allowed")
        if not units:
            return CheckFinding(check=check, status=Status.NO_DATA, reason="no conversation of the canary is counted")
        limit = clopper_pearson_upper(Proportion(min(seen, units), units))
        reason = f"{seen} in {units} conversations of the canary: at most {limit:.2%} of them, with 95 % confidence"
        return CheckFinding(check=check, status=Status.SAFE, reason=reason)


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
