"""From the store to a ``Situation``: what is known of a rollout at one moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentcanary.looking import findings_of
from agentcanary.rollout import Phase, Rollout
from agentcanary.status.situation import Situation
from agentcanary.store import DEAD_AFTER, Store, Worker
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.verdict import Findings


def situation(
    store: Store,
    rollout: Rollout,
    *,
    now: float,
    speed: float = 1.0,
    differences: Callable[[Rollout], Sequence[str]] = lambda _: (),
    find: Callable[[Rollout, Aggregates], Findings] = findings_of,
) -> Situation:
    """What is known of a rollout now; reads only.

    Args:
        store: The store.
        rollout: As it is stored.
        now: Unix time in seconds, of the rollout's clock.
        speed: Of that clock.
        differences: Where the configuration and an agent's newest rollout differ, a sentence each.
        find: What the evidence says.

    Raises:
        StoreError: If the store cannot be read.
    """
    latest = store.revision(rollout.agent)
    newest = latest is not None and latest.id == rollout.id
    counted = store.aggregates(rollout)
    return Situation(
        rollout=rollout,
        findings=find(rollout, counted),
        aggregates=counted,
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
        reported=store.reported(
            rollout.agent, rollout.id, {metric.outcome: metric.horizon for metric in rollout.plan.metrics}
        ),
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
