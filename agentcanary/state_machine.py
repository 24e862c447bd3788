"""The rollout state machine: one state and one event → the next state. Pure.

The order in which a look is answered is fixed: safety, harm, validity, the stage's minimums and checks, freeze windows,
the step, and last the maximum duration. Nothing later can hide anything earlier, and every verdict latches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from agentcanary.durations import format_duration
from agentcanary.errors import TransitionError
from agentcanary.freeze import Frozen, frozen
from agentcanary.plan import Advance, OnFail, OnInconclusive, Plan
from agentcanary.rollout import Asked, Phase, Rollout, Transition, Verdict, rollout_id
from agentcanary.transitions import (
    CONTROLLER,
    acknowledge,
    audit_entry,
    changed,
    enter,
    hold,
    mention,
    next_epoch,
    pause,
    promote,
    resume,
    roll_back,
    tell,
    told_mark,
)
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.verdict import Findings

_ASK_AGAIN = 1.5


class ActionKind(StrEnum):
    """What an operator can do."""

    ADVANCE = "advance"
    PROMOTE = "promote"
    PAUSE = "pause"
    RESUME = "resume"
    ROLLBACK = "rollback"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The controller looked at the evidence.

    Attributes:
        findings: What it says.
        degraded: What goes wrong with us in live workers, by name: people are told once of each, and that is all.
    """

    findings: Findings
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An operator acts.

    Attributes:
        kind: What is done.
        actor: Who does it.
        reason: Why, for the audit log.
        plan: For a restart: the plan of the new rollout; None keeps the old one.
        during_freeze: True takes a step forward inside a freeze window too.
    """

    kind: ActionKind
    actor: str
    reason: str
    plan: Plan | None = None
    during_freeze: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """The live conversations of the version left behind were counted."""

    live: int


Event = Look | Action | Drain


def new_rollout(agent: str, stable: str, canary: str, plan: Plan, *, now: float, new_salt: bytes) -> Rollout:
    """A rollout that waits for the controller's first look."""
    return Rollout(
        id=rollout_id(agent, new_salt),
        agent=agent,
        stable=stable,
        canary=canary,
        plan=plan,
        salt=new_salt,
        created_at=now,
    )


def advance(rollout: Rollout, event: Event, *, now: float, new_salt: bytes = b"") -> Transition:
    """What becomes of a rollout.

    Args:
        rollout: As it is stored.
        event: A look, an operator's action, or a count of what is left to drain.
        now: Unix time in seconds.
        new_salt: Fresh random bytes, used by a restart only.

    Raises:
        TransitionError: If the rollout's phase does not allow the action.
    """
    match event:
        case Look():
            return _look(rollout, event, now)
        case Action():
            return _act(rollout, event, now, new_salt)
        case Drain():
            return _drain(rollout, event.live, now)
        case _:
            assert_never(event)


def _look(rollout: Rollout, look: Look, now: float) -> Transition:
    findings = look.findings
    if rollout.phase.ended:
        return hold(rollout, f"the rollout is {rollout.phase.value}")
    freeze = frozen(rollout.plan.freeze, now)
    if rollout.phase is Phase.PENDING:
        if freeze is not None:
            return hold(rollout, freeze.reason)
        return enter(rollout, 0, now, CONTROLLER, "started", findings.thresholds)
    if rollout.stopped_at is not None:
        return roll_back(rollout, now, CONTROLLER, "safety", rollout.stop_reason)
    if findings.unsafe:
        return roll_back(rollout, now, CONTROLLER, "safety", findings.unsafe)
    harm = _harm(rollout, findings, now)
    if harm is not None:
        return harm
    if rollout.phase is Phase.PAUSED:
        return hold(rollout, f"paused ({rollout.paused_for}): {rollout.reason}")
    rollout, holds = _holds(rollout, findings, now)
    if not holds and freeze is None:
        return _step(rollout, now, CONTROLLER, "every condition of the stage is met", findings.thresholds)
    waiting = _wait(rollout, findings, holds, freeze, now)
    new = [kind for kind in look.degraded if told_mark("degraded", kind) not in rollout.told]
    if waiting.audit is not None or not new:
        return waiting
    return mention(waiting.rollout, now, "degraded", _degraded(new[0]), waiting.reasons, about=new[0])


def _degraded(kind: str) -> str:
    return f"agentcanary is degraded in a worker: {kind}; requests are served, and status shows more"


def _harm(rollout: Rollout, findings: Findings, now: float) -> Transition | None:
    """What proven harm leads to; None where there is none that an operator has not acknowledged."""
    plan = rollout.plan
    new = tuple(metric for metric in findings.harmed if not {"harm", f"harm:{metric}"} & set(rollout.acknowledged))
    if not new:
        return None
    reason = f"harm is proven: {', '.join(findings.harmed)}"
    pauses = all(plan.on_fail.get(metric) is OnFail.PAUSE for metric in new)
    if rollout.current_stage.auto_rollback and not pauses:
        return roll_back(rollout, now, CONTROLLER, "harm", reason)
    if rollout.paused_for == "harm":
        return None
    if not rollout.current_stage.auto_rollback:
        return pause(rollout, now, CONTROLLER, "harm", f"{reason}; auto_rollback is off in this stage")
    return pause(rollout, now, CONTROLLER, "harm", f"{reason}; on_fail: pause", new)


def _holds(rollout: Rollout, findings: Findings, now: float) -> tuple[Rollout, tuple[str, ...]]:
    """The rollout with what was asked of it, and why it may not take the next step; empty when it may."""
    stage, plan = rollout.current_stage, rollout.plan
    if findings.invalid and "invalid" not in rollout.acknowledged:
        return rollout, (f"the data cannot be trusted: {findings.invalid}",)
    holds = []
    duration = max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration
    remaining = rollout.stage_started_at + duration - now
    if remaining > 0:
        holds.append(f"stage {stage.name} lasts {format_duration(math.ceil(remaining))} more")
    missing = stage.min_conversations - findings.stage_conversations
    if missing > 0:
        holds.append(f"stage {stage.name} needs {missing} more counted canary conversations")
    if holds:
        return rollout, tuple(holds)
    checks = [found for found in findings.checks if not plan.only_warns(found.check.metric)]
    asked = rollout.asked
    if asked is None or findings.stage_conversations >= _ASK_AGAIN * asked.conversations:
        suspect = tuple(found.check.text for found in checks if found.status is Status.SUSPECT)
        asked = Asked(conversations=findings.stage_conversations, suspect=suspect)
        rollout = replace(rollout, asked=asked, revision=rollout.revision + 1)
    holds += [f"{text}: suspect" for text in asked.suspect]
    for found in checks:
        if found.status is Status.NO_DATA:
            holds.append(f"{found.check.text}: no data; {found.reason}")
        elif stage.advance is Advance.PROVEN and found.status is not Status.SAFE:
            holds.append(f"{found.check.text}: not proven yet; {found.reason}")
    if rollout.stage + 1 < len(plan.stages) and stage.weight < 1 == plan.stages[rollout.stage + 1].weight:
        for evidence in (*findings.evidence, *findings.margins):
            if evidence.status is not Status.SAFE:
                needs = f", about {evidence.needs} more conversations" if evidence.needs is not None else ""
                holds.append(f"{evidence.metric}: {evidence.status.value}, not proven safe{needs}")
        holds += findings.unproven
    return rollout, tuple(holds)


def _wait(
    rollout: Rollout, findings: Findings, holds: tuple[str, ...], freeze: Frozen | None, now: float
) -> Transition:
    """Hold; but apply the maximum duration, tell once what people must know, and fix thresholds when they are known."""
    plan = rollout.plan
    # One that only a freeze window holds is decided: the step is earned.
    late = bool(holds) and plan.max_duration is not None and now - rollout.created_at >= plan.max_duration
    if freeze is not None:
        holds = (*holds, freeze.reason)
    if late and rollout.current_stage.weight < 1 and "inconclusive" not in rollout.acknowledged:
        reason = f"undecided after the maximum duration: {'; '.join(holds)}"
        match plan.on_inconclusive:
            case OnInconclusive.ROLLBACK:
                return roll_back(rollout, now, CONTROLLER, "inconclusive", reason)
            case OnInconclusive.PAUSE:
                return pause(rollout, now, CONTROLLER, "inconclusive", reason)
            case OnInconclusive.HOLD:
                if "undecided" not in rollout.told:
                    return tell(rollout, now, "undecided", reason, holds)
            case _:
                assert_never(plan.on_inconclusive)
    if findings.invalid and not {"invalid"} & {*rollout.told, *rollout.acknowledged}:
        return tell(rollout, now, "invalid", holds[0], holds)
    for found in findings.dry_run:
        if found.status is Status.HARMED and told_mark("dry_run", found.metric) not in rollout.told:
            reason = f"harm is proven: {found.metric}; on_fail: warn, so nothing is done"
            return tell(rollout, now, "dry_run", reason, holds, about=found.metric)
    if _lacks_thresholds(rollout, findings):
        epochs = (*rollout.epochs, next_epoch(rollout, rollout.weight, rollout.stage, findings.thresholds))
        fixed = ", ".join(f"{name} at {value:.3g}" for name, value in sorted(findings.thresholds.items()))
        following = replace(rollout, epochs=epochs, revision=rollout.revision + 1)
        audit = audit_entry(rollout, following, now, CONTROLLER, "epoch", f"thresholds are known now: {fixed}")
        return Transition(rollout=following, verdict=Verdict.HOLD, reasons=holds, audit=audit)
    return Transition(rollout=rollout, verdict=Verdict.HOLD, reasons=holds)


def _lacks_thresholds(rollout: Rollout, findings: Findings) -> bool:
    wanted = {metric.name for metric in rollout.plan.metrics if metric.kind is Kind.QUANTILE}
    known = wanted & findings.thresholds.keys()
    return 0 < rollout.weight < 1 and bool(known - rollout.epochs[-1].thresholds.keys())


def _act(rollout: Rollout, action: Action, now: float, new_salt: bytes) -> Transition:
    if not action.reason.strip():
        raise TransitionError(f"{action.kind.value} needs a reason for the audit log")
    match action.kind:
        case ActionKind.RESTART:
            return _restart(rollout, action, now, new_salt)
        case ActionKind.ROLLBACK:
            undo = rollout.phase is Phase.PROMOTED and rollout.drained_at is None
            _require(rollout, action, undo or not rollout.phase.ended, "it has ended; start or restart a rollout")
            return roll_back(rollout, now, action.actor, "manual", action.reason)
        case ActionKind.PROMOTE:
            _require(rollout, action, not rollout.phase.ended and rollout.stopped_at is None, "it has ended or stopped")
            _refuse_frozen(rollout, action, now)
            return promote(rollout, now, action.actor, action.reason)
        case ActionKind.ADVANCE:
            running = rollout.phase in (Phase.PROGRESSING, Phase.PAUSED) and rollout.stopped_at is None
            _require(rollout, action, running, "only a progressing or paused rollout has a next stage")
            _refuse_frozen(rollout, action, now)
            return _step(acknowledge(rollout), now, action.actor, action.reason, rollout.epochs[-1].thresholds)
        case ActionKind.PAUSE:
            _require(rollout, action, rollout.phase is Phase.PROGRESSING, "only a progressing rollout can be paused")
            return pause(rollout, now, action.actor, "manual", action.reason)
        case ActionKind.RESUME:
            held = rollout.phase is Phase.PAUSED or "invalid" in rollout.told
            _require(rollout, action, held, "it is not paused, nor held for invalid data")
            if rollout.weight < rollout.current_stage.weight:
                _refuse_frozen(rollout, action, now)
            return resume(rollout, now, action.actor, action.reason)
        case _:
            assert_never(action.kind)


def _require(rollout: Rollout, action: Action, allowed: bool, why: str) -> None:
    if not allowed:
        raise TransitionError(f"cannot {action.kind.value} rollout {rollout.id}, which is {rollout.phase.value}: {why}")


def _refuse_frozen(rollout: Rollout, action: Action, now: float) -> None:
    """A step forward inside a freeze window is refused, unless the operator says that it is meant."""
    freeze = None if action.during_freeze else frozen(rollout.plan.freeze, now)
    if freeze is not None:
        raise TransitionError(
            f"cannot {action.kind.value} rollout {rollout.id} now: {freeze.reason}. If it must be: --during-freeze"
        )


def _restart(rollout: Rollout, action: Action, now: float, new_salt: bytes) -> Transition:
    _require(rollout, action, rollout.phase.ended, "roll it back first")
    if not new_salt:
        raise ValueError("a restart needs a new salt")
    following = replace(
        new_rollout(
            rollout.agent, rollout.stable, rollout.canary, action.plan or rollout.plan, now=now, new_salt=new_salt
        ),
        attempt=rollout.attempt + 1,
    )
    audit = audit_entry(rollout, following, now, action.actor, "restart", action.reason)
    return Transition(rollout=following, verdict=Verdict.HOLD, reasons=(action.reason,), audit=audit)


def _step(rollout: Rollout, now: float, actor: str, reason: str, thresholds: Mapping[str, float]) -> Transition:
    if rollout.stage + 1 == len(rollout.plan.stages):
        return promote(rollout, now, actor, reason)
    return enter(rollout, rollout.stage + 1, now, actor, reason, thresholds)


def _drain(rollout: Rollout, live: int, now: float) -> Transition:
    if not rollout.phase.ended or rollout.drained_at is not None or rollout.ended_at is None:
        return hold(rollout, "nothing drains")
    overdue = now - rollout.ended_at >= rollout.plan.drain_after
    if live > 0 and not overdue:
        return hold(rollout, f"{live} live conversations of the version left behind")
    reason = "no live conversation is left" if live == 0 else f"{live} conversations outlasted drain_after"
    following = replace(rollout, drained_at=now, revision=rollout.revision + 1)
    return changed(rollout, following, now, Verdict.HOLD, CONTROLLER, "drained", reason, ())


def should_start(existing: Sequence[Rollout], *, stable: str, canary: str | None) -> bool:
    """True when the configured pair of versions is to be rolled out by itself.

    A pair that ever had a rollout is never started by itself again, least of all one that was rolled back. And the
    version that an earlier rollout left behind is drained first.
    """
    if canary is None or any((rollout.stable, rollout.canary) == (stable, canary) for rollout in existing):
        return False
    return all(rollout.phase.ended and rollout.drained_at is not None for rollout in existing)
