"""What came of a rollout, in one word. Pure."""

from __future__ import annotations

from agentcanary.rollout import Phase, Rollout


def conclusion(rollout: Rollout) -> str:
    """``promote``, ``rollback``, or ``hold`` while neither is decided.

    A canary that a safety violation stopped is taken back, though the controller has yet to look.
    """
    if rollout.phase is Phase.ROLLED_BACK or rollout.stopped_at is not None:
        return "rollback"
    return "promote" if rollout.phase is Phase.PROMOTED else "hold"
