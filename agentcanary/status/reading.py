"""From the store to a ``Situation``: what is known of a rollout at one moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentcanary.looking import findings_of
from agentcanary.rollout import Phase, Rollout
from agentcanary.status.segments import segments_data
from agentcanary.status.situation import Situation
from agentcanary.store import DEAD_AFTER, ReportedArm, Store, Worker
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.verdict import Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What changes only when conversations are counted.

    Attributes:
        aggregates: The counts.
        findings: What the evidence says.
        reported: What judges reported of each arm.
        segments: What each segment says, see ``segments_data``.
    """

    aggregates: Aggregates
    findings: Findings
    reported: tuple[ReportedArm, ...]
    segments: Sequence[Mapping[str, Any]]


def situation(
    store: Store,
    rollout: Rollout,
    *,
    now: float,
    speed: float = 1.0,
    differences: Callable[[Rollout], Sequence[str]] = lambda _: (),
    known: Counted | None = None,
) -> Situation:
    """What is known of a rollout now; reads only.

    Args:
        store: The store.
        rollout: As it is stored.
        now: Unix time in seconds, of the rollout's clock.
        speed: Of that clock.
        differences: Where the configuration and an agent's newest rollout differ, a sentence each.
        known: What is counted, where that was read a moment ago.

    Raises:
        StoreError: If the store cannot be read.
    """
    latest = store.revision(rollout.agent)
    newest = latest is not None and latest.id == rollout.id
    known = known or counted(store, rollout)
    return Situation(
        rollout=rollout,
        findings=known.findings,
        aggregates=known.aggregates,
        now=now,
        audit=store.audit(rollout.id),
        workers=alive(store, rollout.agent, now, speed=speed),
        undelivered=[
            f"{pending.effect.event}, {pending.attempts} attempts: {pending.error}"
            for pending in store.undone(rollout.id)
            if pending.attempts
        ],
        live=live(store, rollout, now),
        differences=tuple(differences(rollout)) if newest else (),
        reported=known.reported,
        segments=known.segments,
    )


def counted(store: Store, rollout: Rollout, *, reported: tuple[ReportedArm, ...] | None = None) -> Counted:
    """What is counted of a rollout, and what the evidence says.

    Args:
        store: The store.
        rollout: As it is stored.
        reported: What judges reported of each arm, where that was read lately.

    Raises:
        StoreError: If the store cannot be read.
    """
    found = store.aggregates(rollout)
    horizons = {metric.outcome: metric.horizon for metric in rollout.plan.metrics}
    return Counted(
        aggregates=found,
        findings=findings_of(rollout, found),
        reported=tuple(store.reported(rollout.agent, rollout.id, horizons)) if reported is None else reported,
        segments=segments_data(store.segments(rollout), rollout.plan),
    )


def alive(store: Store, agent: str, now: float, *, speed: float = 1.0) -> list[Worker]:
    """The agent's workers that have reported lately."""
    return [worker for worker in store.workers(agent) if worker.heartbeat_at > now - DEAD_AFTER * speed]


def live(store: Store, rollout: Rollout, now: float) -> int | None:
    """Live conversations on the version that an ended rollout leaves behind; None where nothing drains."""
    if not rollout.phase.ended or rollout.drained_at is not None:
        return None
    behind = Arm.STABLE if rollout.phase is Phase.PROMOTED else Arm.CANARY
    return store.live_conversations(rollout.agent, rollout.id, behind, now=now, idle_after=rollout.plan.idle_after)
