"""What is known of a rollout at one moment, and what follows at once: its rate, its warnings. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentcanary.rollout import Audit, Rollout
from agentcanary.status.figures import span
from agentcanary.status.judges import judge_warnings
from agentcanary.store import ReportedArm, Worker
from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.verdict import Findings

_ENOUGH_FOR_A_RATE = 20
_CLOCK_TOLERANCE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of a rollout at one moment.

    Attributes:
        rollout: As it is stored.
        findings: What the evidence says.
        aggregates: What was counted.
        now: Unix time in seconds.
        audit: The oldest first.
        workers: That are alive.
        undelivered: Messages of the rollout that could not be delivered yet, with what went wrong.
        live: Live conversations on the version left behind, None where nothing drains.
        differences: Where the configuration and the rollout differ, a sentence each.
        segments: What each segment says, see ``segments_data``.
        reported: What judges did with the newest conversations of each arm.
    """

    rollout: Rollout
    findings: Findings
    aggregates: Aggregates
    now: float
    audit: Sequence[Audit] = ()
    workers: Sequence[Worker] = ()
    undelivered: Sequence[str] = ()
    live: int | None = None
    differences: Sequence[str] = ()
    reported: Sequence[ReportedArm] = ()
    segments: Sequence[Mapping[str, Any]] = ()

    @property
    def horizons(self) -> dict[str, float]:
        """Seconds after which a conversation is counted, by the name of the outcome that a metric reads."""
        return {metric.outcome: metric.horizon for metric in self.rollout.plan.metrics}


def conversations_per_hour(seen: Situation) -> float | None:
    """New conversations of both arms an hour in this stage, or in the whole rollout while the stage has few."""
    rollout, assigned = seen.rollout, seen.aggregates.assigned
    end = seen.now if rollout.ended_at is None else rollout.ended_at
    here = {epoch.number for epoch in rollout.epochs if epoch.stage == rollout.stage}
    units, since = sum(n for (epoch, _), n in assigned.items() if epoch in here), rollout.stage_started_at
    if units < _ENOUGH_FOR_A_RATE:
        units, since = sum(assigned.values()), rollout.created_at
    return units / (end - since) * 3600 if units and end > since else None


def degraded(workers: Sequence[Worker]) -> dict[str, int]:
    """How often something of ours went wrong in the workers that are alive, by kind."""
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(worker.degraded)
    return dict(sorted(total.items()))


def warnings(seen: Situation) -> list[str]:
    """What people should know before they believe the rest."""
    rollout = seen.rollout
    found = list(seen.findings.warnings)
    ahead = max(rollout.created_at, rollout.stage_started_at, rollout.ended_at or 0.0) - seen.now
    if ahead > _CLOCK_TOLERANCE:
        found.append(
            f"the rollout's last change lies {span(ahead)} in the future: the machines' clocks differ, "
            f"or it ran on an accelerated clock"
        )
    if rollout.cause == "harm":
        found.append(
            "estimates at a rollback for harm exaggerate: it was taken back just when they were at their worst; "
            "the e-values hold"
        )
    hashes = {worker.config_hash for worker in seen.workers}
    if len(hashes) > 1:
        found.append(f"{len(seen.workers)} workers run {len(hashes)} different configurations; is one being deployed?")
    found += judge_warnings(seen.reported, seen.horizons)
    found += [f"not delivered yet: {message}" for message in seen.undelivered]
    return [*found, *seen.differences]
