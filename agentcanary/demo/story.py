"""What happens in a rollout, as lines of the timeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentcanary.rollout import Audit, Phase, Rollout

_SAFETY = "safety"
_HEADLINES = {"harm": "ROLLED BACK", _SAFETY: "STOPPED"}
# Housekeeping that is no news to somebody who watches for a minute.
_SILENT = frozenset({"create", "epoch", "drained"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the timeline.

    Attributes:
        at: Unix time on the accelerated clock.
        scenario: Name of the agent.
        text: What happened.
        style: For a terminal: ``good``, ``bad`` or empty.
    """

    at: float
    scenario: str
    text: str
    style: str = ""


def events_of(rollout: Rollout, audit: Sequence[Audit]) -> list[Event]:
    """The events of one rollout so far, the oldest first."""
    ramp = iter(rollout.plan.stages)
    found = []
    for entry in audit:
        if entry.action in _SILENT:
            continue
        text, style = f"{entry.action}: {entry.reason}", ""
        if entry.action in ("start", "advance"):
            stage = next(ramp)
            share = f"{stage.weight:.0%} of new conversations".replace("%", " %")
            if entry.action == "start":
                text = f"begins: {share} to {rollout.canary}"
            elif stage.weight < 1:
                text = f"stage {stage.name}: {share}"
            else:
                text, style = f"proven safe; stage {stage.name}: {share}", "good"
        elif entry.action == "promote":
            text, style = f"PROMOTED: {rollout.canary} serves everybody new", "good"
        elif entry.action == "rollback":
            # The rest names the outcome and its conversation: `agentcanary status` has it.
            why = entry.reason.partition(" in a conversation")[0] if rollout.cause == _SAFETY else entry.reason
            text, style = f"{_HEADLINES.get(rollout.cause, 'ROLLED BACK')}: {why}", "bad"
        found.append(Event(at=entry.at, scenario=rollout.agent, text=text, style=style))
    return found


def weight_changes(audit: Sequence[Audit]) -> list[float]:
    """When the weight changed, in Unix time on the accelerated clock."""
    return [entry.at for entry in audit if entry.action in ("start", "advance", "rollback")]


def taken_back_at(rollout: Rollout) -> float | None:
    """From when on stable served the canary's conversations, on the accelerated clock; None when it never did.

    A violation stops the worker that saw it before anybody has written anything.
    """
    if rollout.stopped_at is not None:
        return rollout.stopped_at
    return rollout.ended_at if rollout.phase is Phase.ROLLED_BACK else None
