"""A rollout as a value, what a transition is made of, and what the request path sees of it. Pure.

``state_machine.advance`` makes one state from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from agentcanary.assignment import RolloutView
from agentcanary.plan import Pinned, Plan, Stage, plan_from_dict
from agentcanary_analysis.aggregates import Arm, Epoch


class Phase(StrEnum):
    """Where a rollout is in its life."""

    PENDING = "pending"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"

    @property
    def ended(self) -> bool:
        """True when nothing is decided any more."""
        return self in (Phase.PROMOTED, Phase.ROLLED_BACK)


class Verdict(StrEnum):
    """What is done after one look."""

    ROLLBACK = "rollback"
    ADVANCE = "advance"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """When the current stage's checks were last asked whether they are suspect, and what they said.

    Attributes:
        conversations: Counted canary conversations of the stage at that time.
        suspect: Texts of the checks that were suspect.
    """

    conversations: int
    suspect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One attempt to take an agent from the stable to the canary version. All times are Unix seconds.

    Attributes:
        id: Unique.
        agent: Name of the agent.
        stable: The version that is replaced.
        canary: The version that replaces it.
        plan: What it is going to do.
        salt: Secret, random for each rollout.
        attempt: 1 for the first rollout of this pair of versions, 2 for its first restart, …
        revision: Grows by one with every change: the compare-and-set of the store.
        phase: See ``Phase``.
        stage: Index of the current stage.
        created_at: When it was made.
        stage_started_at: When the current stage began.
        weight_changed_at: When the current weight was set.
        ended_at: When it was promoted or rolled back.
        epochs: Every stretch of constant weight so far; the last one is current.
        stopped_at: When a safety violation stopped the canary: set by the worker that recorded it, acted on next look.
        stop_reason: What was recorded then.
        cause: Why it was rolled back: ``safety``, ``harm``, ``manual`` or ``inconclusive``.
        reason: The last verdict in words.
        asked: See ``Asked``.
        acknowledged: Reasons that an operator chose to go on in spite of: ``harm``, ``invalid``.
        paused_for: Why it is paused: ``manual``, ``harm`` or ``inconclusive``; empty when it is not.
        paused_metrics: Whose harm it is paused for, by their ``on_fail: pause``; empty where it is paused for all harm.
        drained_at: When the version left behind had no live conversation any more.
        told: Conditions that were notified once: ``undecided``, ``invalid``, ``dry_run:METRIC``, ``degraded:KIND``.
    """

    id: str
    agent: str
    stable: str
    canary: str
    plan: Plan
    salt: bytes = field(repr=False)
    attempt: int = 1
    revision: int = 0
    phase: Phase = Phase.PENDING
    stage: int = 0
    created_at: float
    stage_started_at: float = 0.0
    weight_changed_at: float = 0.0
    ended_at: float | None = None
    epochs: tuple[Epoch, ...] = ()
    stopped_at: float | None = None
    stop_reason: str = ""
    cause: str = ""
    reason: str = ""
    asked: Asked | None = None
    acknowledged: tuple[str, ...] = ()
    paused_for: str = ""
    paused_metrics: tuple[str, ...] = ()
    drained_at: float | None = None
    told: tuple[str, ...] = ()

    @property
    def weight(self) -> float:
        """Share of new conversations that the canary gets now."""
        return self.epochs[-1].weight if self.epochs else 0.0

    @property
    def current_stage(self) -> Stage:
        """The stage that it is in."""
        return self.plan.stages[self.stage]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the salt in hexadecimal."""
        stored = asdict(self)
        stored["plan"] = self.plan.to_dict()
        stored["salt"] = self.salt.hex()
        return stored


def rollout_from_dict(stored: Mapping[str, Any]) -> Rollout:
    """The rollout that ``Rollout.to_dict`` stored."""
    return Rollout(
        **{
            **stored,
            "plan": plan_from_dict(stored["plan"]),
            "salt": bytes.fromhex(stored["salt"]),
            "phase": Phase(stored["phase"]),
            "epochs": tuple(Epoch(**epoch) for epoch in stored["epochs"]),
            "asked": None
            if stored["asked"] is None
            else Asked(conversations=stored["asked"]["conversations"], suspect=tuple(stored["asked"]["suspect"])),
            "acknowledged": tuple(stored["acknowledged"]),
            "paused_metrics": tuple(stored.get("paused_metrics", ())),
            "told": tuple(stored["told"]),
        }
    )


def rollout_id(agent: str, salt: bytes) -> str:
    """The id of the rollout that has this salt; says nothing about the salt.

    >>> rollout_id("support", b"secret")
    'support-cb446d2edf'
    """
    return f"{agent}-{blake2b(salt, digest_size=5, person=b'rollout-id').hexdigest()}"


def view_of(
    agent: str,
    rollout: Rollout | None,
    *,
    stable: str,
    canary: str | None,
    handover: float,
    deployed: Arm | None = None,
) -> RolloutView:
    """What the request path needs to know.

    A rollout that runs or drains has the say, whatever the configuration of this worker names. A drained one is
    history: it only says which version of the configured pair won.

    Args:
        agent: Name of the agent.
        rollout: The agent's newest rollout, if there is one.
        stable: The stable version that the configuration names.
        canary: The canary version that it names, if it does.
        handover: Seconds after a change of the weight during which other workers may not have seen it.
        deployed: The arm that this Deployment is, where a mesh draws each request: it serves its own version,
            whatever becomes of the rollout.
    """
    if rollout is None or rollout.phase is Phase.PENDING:
        return RolloutView(agent=agent, stable=stable, canary=(deployed and canary) or stable, deployed=deployed)
    if rollout.drained_at is not None:
        won = rollout.phase is Phase.PROMOTED and (rollout.stable, rollout.canary) == (stable, canary)
        serves = rollout.canary if won else stable
        other = rollout.canary if deployed else serves
        kept = rollout.stable if deployed else serves
        return RolloutView(agent=agent, revision=rollout.revision, stable=kept, canary=other, deployed=deployed)
    stopped = rollout.stopped_at is not None
    cause = "safety" if stopped else rollout.cause
    left = stopped or rollout.phase is Phase.ROLLED_BACK
    taken_back = left and rollout.plan.pinned[cause if cause in rollout.plan.pinned else "harm"] is Pinned.SWITCH
    before = rollout.epochs[-2] if len(rollout.epochs) > 1 else None
    rising = before is None or before.weight <= rollout.weight
    return RolloutView(
        agent=agent,
        rollout=rollout.id,
        revision=rollout.revision,
        salt=rollout.salt,
        stable=rollout.stable,
        canary=rollout.stable if taken_back and deployed is None else rollout.canary,
        epoch=rollout.epochs[-1].number,
        stage=rollout.current_stage.name,
        weight=0.0 if left else rollout.weight,
        max_weight=max(epoch.weight for epoch in rollout.epochs),
        min_weight=min(epoch.weight for epoch in rollout.epochs),
        previous_epoch=-1 if before is None else before.number,
        previous_weight=0.0 if before is None else before.weight,
        handover_until=rollout.weight_changed_at + handover if rising else 0.0,
        open=not (left or rollout.phase.ended),
        taken_back=taken_back,
        new_units=Arm.CANARY if rollout.phase is Phase.PROMOTED and not left else Arm.STABLE,
        sticky=rollout.plan.sticky,
        deployed=deployed,
    )


class EffectKind(StrEnum):
    """What a transition causes outside."""

    WEIGHT = "weight"
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something to be done outside, exactly once, after the transition is stored. Kept in the outbox until done.

    Attributes:
        kind: See ``EffectKind``.
        event: What happened: ``started``, ``stage_entered``, ``paused``, ``resumed``, ``rolled_back``, ``promoted``, ….
        message: For people.
        severity: ``info``, ``warning`` or ``critical``.
        weight: The weight that the outside must have.
    """

    kind: EffectKind
    event: str
    message: str
    severity: str = "info"
    weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Who changed what, and why.

    Attributes:
        at: Unix time in seconds.
        actor: ``agentcanary`` for the controller, else the name that was given.
        action: ``advance``, ``rollback``, ``pause``, ….
        reason: In words.
        before: Phase, stage and weight before.
        after: The same after.
    """

    at: float
    actor: str
    action: str
    reason: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The result of ``advance()``.

    Attributes:
        rollout: The next state; the very same object when nothing changes.
        verdict: What was decided.
        reasons: Why, the deciding one first.
        audit: The entry to store, or None when nothing changed.
        effects: What to do after it is stored.
    """

    rollout: Rollout
    verdict: Verdict
    reasons: tuple[str, ...]
    audit: Audit | None = None
    effects: tuple[Effect, ...] = ()
