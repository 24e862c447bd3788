"""What one process computes of a calibration: some of the replays, under every harm and margin. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agentcanary.calibration.design import Design
from agentcanary.calibration.history import FloatArray, bins_of
from agentcanary.calibration.injection import Harm
from agentcanary.calibration.past import Past, Stretch, stretch_of
from agentcanary.calibration.runs import Runs, joined, run
from agentcanary.plan import Plan
from agentcanary_analysis.metrics import Direction, Kind, Metric

CHUNK = 50
RATIOS = (1.25, 1.5, 2.0, 3.0)
# Margins that a person would write.
MARGINS = {
    Direction.UP_IS_WORSE: (0.05, 0.10, 0.15, 0.20, 0.30, 0.50, 0.75, 1.0),
    Direction.DOWN_IS_WORSE: (0.01, 0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20),
}
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """Everything that a process needs, once.

    Attributes:
        past: History and plan.
        design: All replays.
        harms: What is injected, one after the other; the first is None.
        margins: Plans that differ in the margins to be proven; the first has the plan's own.
    """

    past: Past
    design: Design
    harms: tuple[Harm | None, ...]
    margins: tuple[Plan, ...]

    @property
    def chunks(self) -> int:
        """Into how many parts the replays are cut: the same for any number of processes."""
        return -(-len(self.design.replays) // CHUNK)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worked:
    """What came of some replays.

    Attributes:
        policy: Under the plan as it is, safety stops included.
        harmed: For each harm, judged by evidence alone.
        margins: For each plan with other margins, judged by evidence alone.
        z: Per metric the z statistic of each replay's split, shape (replays,).
    """

    policy: Runs
    harmed: tuple[Runs, ...]
    margins: tuple[Runs, ...]
    z: Mapping[str, FloatArray]


def task_of(past: Past, design: Design, ratios: Sequence[float] = RATIOS) -> Task:
    """The work of a calibration: harms in every metric that has a criterion, and margins to be proven."""
    judged = [past.plan.metric(one.metric) for one in past.plan.criteria if one.metric in past.history.values]
    harms = [Harm(metric=metric.name, ratio=ratio) for metric in judged for ratio in ratios]
    own = {one.metric: _own_margin(past.plan, one.metric) for one in past.plan.criteria}
    number = len(MARGINS[Direction.UP_IS_WORSE])
    candidates = [{metric.name: MARGINS[metric.direction][index] for metric in judged} for index in range(number)]
    return Task(
        past=past,
        design=design,
        harms=(None, *harms),
        margins=tuple(_proving(past.plan, {**own, **one}) for one in ({}, *candidates)),
    )


def work(task: Task, chunk: int) -> Worked:
    """One chunk of a task: replays ``chunk * CHUNK`` and following."""
    past, design = task.past, task.design
    replays = design.replays[chunk * CHUNK : (chunk + 1) * CHUNK]
    stretches = [stretch_of(past, design, one) for one in replays]
    evidence = _without_policy(past.plan)
    return Worked(
        policy=run(past, past.plan, design, stretches, [None])[0],
        harmed=tuple(run(past, evidence, design, stretches, task.harms)),
        margins=tuple(run(past, plan, design, stretches, [None])[0] for plan in task.margins),
        z={name: split_z(past, past.plan.metric(name), stretches) for name in past.history.values},
    )


def gathered(parts: Sequence[Worked]) -> Worked:
    """All chunks as one, in their order."""
    return Worked(
        policy=joined([part.policy for part in parts]),
        harmed=tuple(joined(runs) for runs in zip(*(part.harmed for part in parts), strict=True)),
        margins=tuple(joined(runs) for runs in zip(*(part.margins for part in parts), strict=True)),
        z={name: np.concatenate([part.z[name] for part in parts]) for name in parts[0].z},
    )


def events(metric: Metric, values: FloatArray) -> FloatArray:
    """Values whose mean the metric is: for a quantile, whether a value lies beyond the quantile of all of them."""
    if metric.kind is not Kind.QUANTILE or metric.quantile is None:
        return values
    present = values[~np.isnan(values)]
    limit = bins_of(np.array([np.quantile(present, metric.quantile, method="inverted_cdf")]))[0]
    return np.where(np.isnan(values), np.nan, (bins_of(values) > limit).astype(np.float64))


def split_z(past: Past, metric: Metric, stretches: Sequence[Stretch]) -> FloatArray:
    """The difference of the arms over its standard error, at the weight at which the plan proves, shape (stretches,).

    NaN where an arm has fewer than two values, or all values are equal.
    """
    weight = past.plan.proof_weight or 0.5
    values = events(metric, past.history.values[metric.name])
    found = []
    for stretch in stretches:
        here, canary = values[stretch.rows], stretch.buckets < weight
        c, s = (arm[~np.isnan(arm)] for arm in (here[canary], here[~canary]))
        both = np.concatenate([c, s])
        if min(len(c), len(s)) < 2 or not both.var() > 0:
            found.append(np.nan)
            continue
        found.append(float((c.mean() - s.mean()) / np.sqrt(both.var(ddof=1) * (1 / len(c) + 1 / len(s)))))
    return np.array(found, dtype=np.float64)


def _own_margin(plan: Plan, metric: str) -> float:
    criterion = next(one for one in plan.criteria if one.metric == metric)
    return next((one.margin for one in plan.promotion if one.metric == metric), criterion.margin)


def _without_policy(plan: Plan) -> Plan:
    """The plan with no end but those that the evidence makes."""
    return replace(plan, max_safety_violations=_NO_LIMIT, max_violation_rate=None)


def _proving(plan: Plan, margins: Mapping[str, float]) -> Plan:
    """The plan with these margins as its criteria, and no others."""
    criteria = tuple(replace(one, margin=margins[one.metric]) for one in plan.criteria)
    return replace(_without_policy(plan), criteria=criteria, promotion=())
