"""A rollout as plain values, for lists. Pure."""

from __future__ import annotations

from typing import Any

from agentcanary.rollout import Rollout


def rollout_data(rollout: Rollout) -> dict[str, Any]:
    """A rollout as plain values, without its salt."""
    return {
        "id": rollout.id,
        "agent": rollout.agent,
        "stable": rollout.stable,
        "canary": rollout.canary,
        "attempt": rollout.attempt,
        "revision": rollout.revision,
        "phase": rollout.phase.value,
        "stage": rollout.current_stage.name,
        "weight": rollout.weight,
        "created_at": rollout.created_at,
        "ended_at": rollout.ended_at,
        "stopped_at": rollout.stopped_at,
        "drained_at": rollout.drained_at,
        "cause": rollout.cause,
        "paused_for": rollout.paused_for,
        "reason": rollout.stop_reason if rollout.stopped_at is not None else rollout.reason,
    }
