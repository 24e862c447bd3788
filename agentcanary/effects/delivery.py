"""Delivers what the outbox holds: each effect until it is done, in the order in which they were caused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from agentcanary.effects.backoff import next_attempt
from agentcanary.effects.events import notification
from agentcanary.effects.notifications import Notifier
from agentcanary.rollout import EffectKind, Rollout
from agentcanary.store import Pending

log = structlog.get_logger("agentcanary")


class Outbox(Protocol):
    """Where effects wait."""

    def due(self, now: float, agent: str | None = None) -> Sequence[Pending]:
        """Effects to try now, in the order in which they were caused."""

    def done(self, effect_id: str, now: float) -> None:
        """Note that an effect is done."""

    def failed(self, effect_id: str, error: str, next_attempt: float) -> None:
        """Note that an attempt failed, and when the next one is due."""

    def rollouts(self, agent: str | None = None) -> Sequence[Rollout]:
        """The rollouts of an agent."""


def deliver(
    outbox: Outbox,
    notify: Notifier,
    *,
    agent: str,
    now: float,
    set_weight: Callable[[float], None] | None = None,
) -> None:
    """Try every effect that is due. A failure delays that effect only, and nothing that was decided.

    Messages are sent once or more, under the same id. Workers read a weight from the store, so that it needs no
    delivery but to a mesh; what is set there is the weight that holds now, however late an older one is tried again.

    Args:
        outbox: Where they wait.
        notify: Tells people.
        agent: Whose effects.
        now: Unix time in seconds.
        set_weight: Sets a weight outside of agentcanary, and raises if it is not set; None where there is no mesh.
    """
    due = outbox.due(now, agent)
    if not due:
        return
    rollouts = {rollout.id: rollout for rollout in outbox.rollouts(agent)}
    newest = max(rollouts.values(), key=lambda rollout: rollout.created_at, default=None)
    is_set = set_weight is None or newest is None
    for pending in due:
        effect = pending.effect
        try:
            if effect.kind is EffectKind.NOTIFY:
                notify(notification(effect, rollouts[pending.rollout], effect_id=pending.id, at=pending.created_at))
            elif set_weight is not None and newest is not None and not is_set:
                set_weight(newest.weight)
                is_set = True
        except Exception as error:  # noqa: BLE001 (a notifier may be the user's; what failed is tried again)
            outbox.failed(pending.id, str(error) or type(error).__name__, next_attempt(pending.attempts + 1, now))
            told = effect.kind is EffectKind.NOTIFY
            event = "agentcanary.notification_failed" if told else "agentcanary.weight_failed"
            log.warning(event, agent=agent, effect=pending.id, error=str(error))
            continue
        outbox.done(pending.id, now)
