"""What a page says, in words and in order; the templates only place it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentcanary.dashboard.source import Seen
from agentcanary.errors import TransitionError
from agentcanary.rollout import EffectKind, Phase, Rollout
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.status.figures import count, span
from agentcanary.store import Delivery

# What an action does, for the person who is about to do it; in the order in which the page offers them.
ACTIONS: Mapping[ActionKind, tuple[str, str]] = {
    ActionKind.ROLLBACK: ("Roll back", "New conversations go to {stable} at once{pinned}."),
    ActionKind.PAUSE: (
        "Pause",
        "No step is taken until it is resumed; new conversations are still split at the present weight.",
    ),
    ActionKind.RESUME: ("Resume", "The rollout goes on, in spite of what held it."),
    ActionKind.ADVANCE: ("Advance", "The step to the next stage is taken now, whatever the evidence says."),
    ActionKind.PROMOTE: ("Promote", "The rollout ends: {canary} gets all new conversations now."),
    ActionKind.RESTART: (
        "Restart",
        "The same canary is tried again: a new split, fresh evidence, a share of the budgets.",
    ),
}
_FORWARD = {ActionKind.ADVANCE, ActionKind.PROMOTE, ActionKind.RESUME}
_FRESH_SALT = b"only to see whether it is allowed"
PHASES = {
    Phase.PENDING: "waits to start",
    Phase.PROGRESSING: "in progress",
    Phase.PAUSED: "paused",
    Phase.PROMOTED: "promoted",
    Phase.ROLLED_BACK: "rolled back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """An action that the rollout's phase allows.

    Attributes:
        kind: Its name in URLs.
        label: On the button.
        effect: What it does, in a sentence.
        forward: It is a step forward, which a freeze window refuses unless it is meant.
        drains: It would move live conversations, unless one waits.
    """

    kind: str
    label: str
    effect: str
    forward: bool
    drains: int


def offered(rollout: Rollout, *, now: float, newest: bool, live: int | None) -> list[Offered]:
    """The actions that the rollout's phase allows at present.

    Args:
        rollout: As it is stored.
        now: Unix time in seconds.
        newest: Only an agent's newest rollout can be acted on.
        live: Live conversations on the version left behind.
    """
    found = []
    for kind, (label, effect) in ACTIONS.items():
        if newest and _allowed(rollout, kind, now):
            pinned = ""
            if kind is ActionKind.ROLLBACK:
                finish = rollout.plan.pinned["manual"].value == "finish"
                pinned = f"; those under way on {rollout.canary} " + (
                    "end there" if finish else f"get {rollout.stable} at their next turn"
                )
            found.append(
                Offered(
                    kind=kind.value,
                    label=label,
                    effect=effect.format(stable=rollout.stable, canary=rollout.canary, pinned=pinned),
                    forward=kind in _FORWARD,
                    drains=(live or 0) if kind is ActionKind.RESTART else 0,
                )
            )
    return found


def _allowed(rollout: Rollout, kind: ActionKind, now: float) -> bool:
    action = Action(kind=kind, actor="nobody", reason="is it allowed", during_freeze=True)
    try:
        advance(rollout, action, now=now, new_salt=_FRESH_SALT)
    except TransitionError:
        return False
    return True


def headline(rollout: Rollout) -> str:
    """Where the rollout is, for people: its phase, or that it is stopped."""
    if rollout.stopped_at is not None and not rollout.phase.ended:
        return "stopped"
    return PHASES[rollout.phase]


def tone(data: Mapping[str, Any]) -> str:
    """Whether a rollout is well: ``bad``, ``care``, ``good`` or ``calm``; the colour of its verdict."""
    if data["verdict"] == "rollback":
        return "bad"
    if data["verdict"] == "promote":
        return "good"
    worrying = data["sample_ratio"]["alarm"] or data["rollout"]["phase"] == "paused"
    statuses = {line["status"] for line in (*data["checks"], *data["criteria"])}
    return "care" if worrying or statuses & {"suspect", "harmed"} else "calm"


def share(weight: float) -> str:
    """A share of conversations in words.

    >>> share(0.05), share(0.005), share(1.0)
    ('5 %', '0.5 %', '100 %')
    """
    return f"{weight * 100:g} %"


def progress(stage: Mapping[str, Any]) -> dict[str, str]:
    """What the current stage still waits for, in words."""
    left, needed, had = stage["remaining"], stage["min_conversations"], stage["conversations"]
    time = "–" if stage["elapsed"] is None else f"{span(stage['elapsed'])} elapsed"
    if left:
        time = f"{span(left)} left of {span(stage['duration'])}"
    elif left is not None:
        time = f"minimum of {span(stage['duration'])} reached"
    conversations = f"{count(had)} counted" if not needed else f"{count(had)} of {count(needed)} counted"
    if needed > had:
        conversations = f"{count(needed - had)} more needed ({conversations})"
    return {"time": time, "conversations": conversations}


def notification(delivery: Delivery) -> dict[str, Any]:
    """One message about a rollout and what became of it."""
    if delivery.done_at is not None:
        state, said = "sent", f"after {span(max(delivery.done_at - delivery.created_at, 0.0))}"
    elif delivery.attempts:
        state, said = "not sent yet", f"{delivery.attempts} attempts: {delivery.error}"
    else:
        state, said = "waiting", ""
    return {
        "at": delivery.created_at,
        "event": delivery.effect.event,
        "message": delivery.effect.message,
        "severity": delivery.effect.severity,
        "state": state,
        "said": said,
    }


def notifications(seen: Seen) -> list[dict[str, Any]]:
    """The messages about a rollout, the newest first; changes of the weight are no messages."""
    return [notification(one) for one in seen.deliveries if one.effect.kind is EffectKind.NOTIFY]
