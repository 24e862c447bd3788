"""How a rollout went, for its report: what an offline analysis does not have. Pure, standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of a rollout.

    Attributes:
        at: Unix time in seconds.
        actor: Who made it.
        action: What was done.
        reason: Why.
        after: The phase afterwards.
    """

    at: float
    actor: str
    action: str
    reason: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a rollout went.

    Attributes:
        agent: The agent.
        rollout: Id of the rollout.
        attempt: 1 for the first rollout of this pair of versions.
        phase: Where it is in its life.
        began_at: Unix time in seconds.
        until: When it ended, else the time of the report; Unix seconds.
        weights: Unix time in seconds and the weight from then on, the oldest first.
        steps: The audit log, the oldest first.
    """

    agent: str
    rollout: str
    attempt: int
    phase: str
    began_at: float
    until: float
    weights: tuple[tuple[float, float], ...] = ()
    steps: tuple[Step, ...] = ()
