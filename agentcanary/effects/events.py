"""What is told about a rollout, and its form as a CloudEvent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from agentcanary.rollout import Effect, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message about a rollout.

    Attributes:
        id: The same at every attempt to send it, so that a receiver can drop what it has already.
        event: ``started``, ``stage_entered``, ``paused``, ``rolled_back``, ….
        at: Unix time in seconds at which it happened.
        agent: Name of the agent.
        rollout: Id of the rollout.
        stable: The version that is replaced.
        canary: The version that replaces it.
        phase: The rollout's phase after it happened.
        stage: Name of its stage.
        weight: Share of new conversations that the canary gets now.
        message: For people.
        severity: ``info``, ``warning`` or ``critical``.
        reasons: Why, the deciding one first.
    """

    id: str
    event: str
    at: float
    agent: str
    rollout: str
    stable: str
    canary: str
    phase: str
    stage: str
    weight: float
    message: str
    severity: str = "info"
    reasons: tuple[str, ...] = ()


def notification(
    effect: Effect, rollout: Rollout, *, effect_id: str, at: float, reasons: tuple[str, ...] = ()
) -> Notification:
    """The message that an effect asks for.

    Args:
        effect: Of kind ``NOTIFY``.
        rollout: As it was after the transition.
        effect_id: The effect's id in the outbox.
        at: Unix time in seconds of the transition.
        reasons: Those of the transition; without them, the rollout's own.
    """
    return Notification(
        id=effect_id,
        event=effect.event,
        at=at,
        agent=rollout.agent,
        rollout=rollout.id,
        stable=rollout.stable,
        canary=rollout.canary,
        phase=rollout.phase.value,
        stage=rollout.current_stage.name,
        weight=rollout.weight,
        message=effect.message,
        severity=effect.severity,
        reasons=reasons or ((rollout.reason,) if rollout.reason else ()),
    )


def cloud_event(told: Notification) -> dict[str, Any]:
    """A notification as a CloudEvent in structured JSON form.

    Source:
        CloudEvents specification 1.0.2: ``id`` with ``source`` identifies an event, ``source`` is a URI reference,
        ``time`` is an RFC 3339 timestamp.
    """
    return {
        "specversion": "1.0",
        "id": told.id,
        "source": f"/agentcanary/{quote(told.agent, safe='')}",
        "type": f"agentcanary.rollout.{told.event}",
        "subject": told.rollout,
        "time": datetime.fromtimestamp(told.at, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "agent": told.agent,
            "rollout": told.rollout,
            "stable": told.stable,
            "canary": told.canary,
            "phase": told.phase,
            "stage": told.stage,
            "weight": told.weight,
            "message": told.message,
            "severity": told.severity,
            "reasons": list(told.reasons),
        },
    }
