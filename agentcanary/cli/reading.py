"""From the store to a ``Situation``: what ``status`` and ``watch`` read at one moment."""

from __future__ import annotations

from agentcanary.cli.drift import differences
from agentcanary.cli.seat import Seat
from agentcanary.cli.situation import Situation
from agentcanary.looking import findings_of
from agentcanary.rollout import Phase, Rollout
from agentcanary.store import DEAD_AFTER, Worker
from agentcanary_analysis.aggregates import Arm


def situation(at: Seat, rollout: Rollout) -> Situation:
    """What is known of a rollout now; reads only.

    Raises:
        StoreError: If the store cannot be read.
    """
    now, store = at.clock(), at.store
    latest = store.revision(rollout.agent)
    newest = latest is not None and latest.id == rollout.id
    counted = store.aggregates(rollout)
    return Situation(
        rollout=rollout,
        findings=findings_of(rollout, counted),
        aggregates=counted,
        now=now,
        audit=store.audit(rollout.id),
        workers=alive(at, rollout.agent, now),
        undelivered=[
            f"{pending.effect.event}, {pending.attempts} attempts: {pending.error}"
            for pending in store.undone(rollout.id)
            if pending.attempts
        ],
        live=live(at, rollout, now),
        differences=tuple(differences(at.config, rollout, str(at.file))) if newest else (),
    )


def alive(at: Seat, agent: str, now: float) -> list[Worker]:
    """The agent's workers that have reported lately."""
    dead_after = DEAD_AFTER * at.clock.speed
    return [worker for worker in at.store.workers(agent) if worker.heartbeat_at > now - dead_after]


def live(at: Seat, rollout: Rollout, now: float) -> int | None:
    """Live conversations on the version that an ended rollout leaves behind; None where nothing drains."""
    if not rollout.phase.ended or rollout.drained_at is not None:
        return None
    behind = Arm.STABLE if rollout.phase is Phase.PROMOTED else Arm.CANARY
    idle_after = rollout.plan.idle_after
    return at.store.live_conversations(rollout.agent, rollout.id, behind, now=now, idle_after=idle_after)
