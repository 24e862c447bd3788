"""The rollout state machine: one state and one event → the next state. Pure.

The order in which a look is answered is fixed: safety, harm, validity, the stage's minimums and checks, the step,
and last the maximum duration. Nothing later can hide anything earlier, and every verdict latches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from agentcanary.errors import TransitionError
from agentcanary.plan import Advance, OnInconclusive, Plan
from agentcanary.rollout import (
    Asked,
    Audit,
    Effect,
    EffectKind,
    Phase,
    Rollout,
    Transition,
    Verdict,
    rollout_id,
)
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.verdict import Findings

CONTROLLER = "agentcanary"
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
    """The controller looked at the evidence."""

    findings: Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An operator acts.

    Attributes:
        kind: What is done.
        actor: Who does it.
        reason: Why, for the audit log.
        plan: For a restart: the plan of the new rollout; None keeps the old one.
    """

    kind: ActionKind
    actor: str
    reason: str
    plan: Plan | None = None


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
            return _look(rollout, event.findings, now)
        case Action():
            return _act(rollout, event, now, new_salt)
        case Drain():
            return _drain(rollout, event.live, now)
        case _:
            assert_never(event)


def _look(rollout: Rollout, findings: Findings, now: float) -> Transition:
    if rollout.phase.ended:
        return _hold(rollout, f"the rollout is {rollout.phase.value}")
    if rollout.phase is Phase.PENDING:
        return _enter(rollout, 0, now, CONTROLLER, "started", findings.thresholds)
    if rollout.stopped_at is not None:
        return _roll_back(rollout, now, CONTROLLER, "safety", rollout.stop_reason)
    if findings.unsafe:
        return _roll_back(rollout, now, CONTROLLER, "safety", findings.unsafe)
    if findings.harmed and "harm" not in rollout.acknowledged and rollout.paused_for != "harm":
        reason = f"harm is proven: {', '.join(findings.harmed)}"
        if rollout.current_stage.auto_rollback:
            return _roll_back(rollout, now, CONTROLLER, "harm", reason)
        return _pause(rollout, now, CONTROLLER, "harm", f"{reason}; auto_rollback is off in this stage")
    if rollout.phase is Phase.PAUSED:
        return _hold(rollout, f"paused ({rollout.paused_for}): {rollout.reason}")
    rollout, holds = _holds(rollout, findings, now)
    if not holds:
        return _step(rollout, now, CONTROLLER, "every condition of the stage is met", findings.thresholds)
    return _wait(rollout, findings, holds, now)


def _holds(rollout: Rollout, findings: Findings, now: float) -> tuple[Rollout, tuple[str, ...]]:
    """The rollout with what was asked of it, and why it may not take the next step; empty when it may."""
    stage, plan = rollout.current_stage, rollout.plan
    if findings.invalid and "invalid" not in rollout.acknowledged:
        return rollout, (f"the data cannot be trusted: {findings.invalid}",)
    holds = []
    duration = max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration
    remaining = rollout.stage_started_at + duration - now
    if remaining > 0:
        holds.append(f"stage {stage.name} lasts {remaining:.0f} s more")
    missing = stage.min_conversations - findings.stage_conversations
    if stage.weight < 1 and missing > 0:
        holds.append(f"stage {stage.name} needs {missing} more counted canary conversations")
    if holds:
        return rollout, tuple(holds)
    asked = rollout.asked
    if asked is None or findings.stage_conversations >= _ASK_AGAIN * asked.conversations:
        suspect = tuple(found.check.text for found in findings.checks if found.status is Status.SUSPECT)
        asked = Asked(conversations=findings.stage_conversations, suspect=suspect)
        rollout = replace(rollout, asked=asked, revision=rollout.revision + 1)
    holds += [f"{text}: suspect" for text in asked.suspect]
    for found in findings.checks:
        if found.status is Status.NO_DATA:
            holds.append(f"{found.check.text}: no data; {found.reason}")
        elif stage.advance is Advance.PROVEN and found.status is not Status.SAFE:
            holds.append(f"{found.check.text}: not proven yet; {found.reason}")
    if rollout.stage + 1 < len(plan.stages) and stage.weight < 1 == plan.stages[rollout.stage + 1].weight:
        for evidence in findings.evidence:
            if evidence.status is not Status.SAFE:
                needs = f", about {evidence.needs} more conversations" if evidence.needs is not None else ""
                holds.append(f"{evidence.metric}: {evidence.status.value}, not proven safe{needs}")
    return rollout, tuple(holds)


def _wait(rollout: Rollout, findings: Findings, holds: tuple[str, ...], now: float) -> Transition:
    """Hold; but apply the maximum duration, tell once what people must know, and fix thresholds when they are known."""
    plan = rollout.plan
    late = plan.max_duration is not None and now - rollout.created_at >= plan.max_duration
    if late and rollout.current_stage.weight < 1 and "inconclusive" not in rollout.acknowledged:
        reason = f"undecided after the maximum duration: {'; '.join(holds)}"
        match plan.on_inconclusive:
            case OnInconclusive.ROLLBACK:
                return _roll_back(rollout, now, CONTROLLER, "inconclusive", reason)
            case OnInconclusive.PAUSE:
                return _pause(rollout, now, CONTROLLER, "inconclusive", reason)
            case OnInconclusive.HOLD:
                if "undecided" not in rollout.told:
                    return _tell(rollout, now, "undecided", reason, holds)
            case _:
                assert_never(plan.on_inconclusive)
    if findings.invalid and not {"invalid"} & {*rollout.told, *rollout.acknowledged}:
        return _tell(rollout, now, "invalid", holds[0], holds)
    if _lacks_thresholds(rollout, findings):
        epochs = (*rollout.epochs, _next_epoch(rollout, rollout.weight, rollout.stage, findings.thresholds))
        fixed = ", ".join(f"{name} at {value:.3g}" for name, value in sorted(findings.thresholds.items()))
        following = replace(rollout, epochs=epochs, revision=rollout.revision + 1)
        audit = _audit(rollout, following, now, CONTROLLER, "epoch", f"thresholds are known now: {fixed}")
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
            return _roll_back(rollout, now, action.actor, "manual", action.reason)
        case ActionKind.PROMOTE:
            _require(rollout, action, not rollout.phase.ended and rollout.stopped_at is None, "it has ended or stopped")
            return _promote(rollout, now, action.actor, action.reason)
        case ActionKind.ADVANCE:
            running = rollout.phase in (Phase.PROGRESSING, Phase.PAUSED) and rollout.stopped_at is None
            _require(rollout, action, running, "only a progressing or paused rollout has a next stage")
            return _step(_acknowledge(rollout), now, action.actor, action.reason, rollout.epochs[-1].thresholds)
        case ActionKind.PAUSE:
            _require(rollout, action, rollout.phase is Phase.PROGRESSING, "only a progressing rollout can be paused")
            return _pause(rollout, now, action.actor, "manual", action.reason)
        case ActionKind.RESUME:
            held = rollout.phase is Phase.PAUSED or "invalid" in rollout.told
            _require(rollout, action, held, "it is not paused, nor held for invalid data")
            return _resume(rollout, now, action)
        case _:
            assert_never(action.kind)


def _require(rollout: Rollout, action: Action, allowed: bool, why: str) -> None:
    if not allowed:
        raise TransitionError(f"cannot {action.kind.value} rollout {rollout.id}, which is {rollout.phase.value}: {why}")


def _acknowledge(rollout: Rollout) -> Rollout:
    """The rollout after an operator decided to go on in spite of what holds it."""
    causes = {rollout.paused_for} - {"", "manual"} | ({"invalid"} & set(rollout.told))
    return replace(rollout, acknowledged=tuple(sorted({*rollout.acknowledged, *causes})))


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
    audit = _audit(rollout, following, now, action.actor, "restart", action.reason)
    return Transition(rollout=following, verdict=Verdict.HOLD, reasons=(action.reason,), audit=audit)


def _step(rollout: Rollout, now: float, actor: str, reason: str, thresholds: Mapping[str, float]) -> Transition:
    if rollout.stage + 1 == len(rollout.plan.stages):
        return _promote(rollout, now, actor, reason)
    return _enter(rollout, rollout.stage + 1, now, actor, reason, thresholds)


def _enter(
    rollout: Rollout, stage: int, now: float, actor: str, reason: str, thresholds: Mapping[str, float]
) -> Transition:
    entered = rollout.plan.stages[stage]
    following = replace(
        rollout,
        phase=Phase.PROGRESSING,
        stage=stage,
        stage_started_at=now,
        weight_changed_at=now,
        epochs=(*rollout.epochs, _next_epoch(rollout, entered.weight, stage, thresholds)),
        asked=None,
        paused_for="",
        reason=reason,
        revision=rollout.revision + 1,
    )
    message = f"{rollout.agent}: {rollout.canary} enters stage {entered.name} (weight {entered.weight:g})"
    effects = [_weight(following), _notify("stage_entered", message)]
    action = "advance"
    if rollout.phase is Phase.PENDING:
        action = "start"
        effects.insert(1, _notify("started", f"{rollout.agent}: rollout of {rollout.canary} against {rollout.stable}"))
    return _changed(rollout, following, now, Verdict.ADVANCE, actor, action, reason, tuple(effects))


def _promote(rollout: Rollout, now: float, actor: str, reason: str) -> Transition:
    epochs = rollout.epochs
    if rollout.weight != 1:
        epochs = (*epochs, _next_epoch(rollout, 1.0, len(rollout.plan.stages) - 1, {}))
    following = replace(
        rollout,
        phase=Phase.PROMOTED,
        stage=len(rollout.plan.stages) - 1,
        epochs=epochs,
        weight_changed_at=now if epochs != rollout.epochs else rollout.weight_changed_at,
        ended_at=now,
        paused_for="",
        reason=reason,
        revision=rollout.revision + 1,
    )
    message = f"{rollout.agent}: {rollout.canary} is promoted: {reason}"
    effects = (_weight(following), _notify("promoted", message))
    return _changed(rollout, following, now, Verdict.ADVANCE, actor, "promote", reason, effects)


def _roll_back(rollout: Rollout, now: float, actor: str, cause: str, reason: str) -> Transition:
    following = replace(
        rollout,
        phase=Phase.ROLLED_BACK,
        epochs=(*rollout.epochs, _next_epoch(rollout, 0.0, rollout.stage, {})),
        weight_changed_at=now,
        ended_at=now,
        cause=cause,
        reason=reason,
        paused_for="",
        drained_at=None,
        revision=rollout.revision + 1,
    )
    event = "safety_stop" if cause == "safety" else "rolled_back"
    message = f"{rollout.agent}: {rollout.canary} is rolled back to {rollout.stable} ({cause}): {reason}"
    effects = (_weight(following), _notify(event, message, "critical" if cause == "safety" else "warning"))
    return _changed(rollout, following, now, Verdict.ROLLBACK, actor, "rollback", reason, effects)


def _pause(rollout: Rollout, now: float, actor: str, cause: str, reason: str) -> Transition:
    """Stop the ladder. New conversations go on being split, unless the canary is proven harmful."""
    following = replace(rollout, phase=Phase.PAUSED, paused_for=cause, reason=reason, revision=rollout.revision + 1)
    effects = [_notify("paused", f"{rollout.agent}: {rollout.canary} is paused ({cause}): {reason}", "warning")]
    if cause == "harm":
        epoch = _next_epoch(rollout, 0.0, rollout.stage, {})
        following = replace(following, epochs=(*rollout.epochs, epoch), weight_changed_at=now)
        effects.insert(0, _weight(following))
    return _changed(rollout, following, now, Verdict.HOLD, actor, "pause", reason, tuple(effects))


def _resume(rollout: Rollout, now: float, action: Action) -> Transition:
    following = replace(
        _acknowledge(rollout),
        phase=Phase.PROGRESSING,
        paused_for="",
        reason=action.reason,
        revision=rollout.revision + 1,
    )
    effects = [_notify("resumed", f"{rollout.agent}: {rollout.canary} is resumed: {action.reason}")]
    weight = rollout.current_stage.weight
    if rollout.weight != weight:
        epoch = _next_epoch(rollout, weight, rollout.stage, rollout.epochs[-2].thresholds)
        following = replace(following, epochs=(*rollout.epochs, epoch), weight_changed_at=now)
        effects.insert(0, _weight(following))
    return _changed(rollout, following, now, Verdict.HOLD, action.actor, "resume", action.reason, tuple(effects))


def _drain(rollout: Rollout, live: int, now: float) -> Transition:
    if not rollout.phase.ended or rollout.drained_at is not None or rollout.ended_at is None:
        return _hold(rollout, "nothing drains")
    overdue = now - rollout.ended_at >= rollout.plan.drain_after
    if live > 0 and not overdue:
        return _hold(rollout, f"{live} live conversations of the version left behind")
    reason = "no live conversation is left" if live == 0 else f"{live} conversations outlasted drain_after"
    following = replace(rollout, drained_at=now, revision=rollout.revision + 1)
    return _changed(rollout, following, now, Verdict.HOLD, CONTROLLER, "drained", reason, ())


def _tell(rollout: Rollout, now: float, event: str, reason: str, holds: tuple[str, ...]) -> Transition:
    following = replace(rollout, told=(*rollout.told, event), reason=reason, revision=rollout.revision + 1)
    effects = (_notify(event, f"{rollout.agent}: {rollout.canary} is held: {reason}", "warning"),)
    audit = _audit(rollout, following, now, CONTROLLER, event, reason)
    return Transition(rollout=following, verdict=Verdict.HOLD, reasons=holds, audit=audit, effects=effects)


def _hold(rollout: Rollout, reason: str) -> Transition:
    return Transition(rollout=rollout, verdict=Verdict.HOLD, reasons=(reason,))


def _changed(
    before: Rollout,
    after: Rollout,
    now: float,
    verdict: Verdict,
    actor: str,
    action: str,
    reason: str,
    effects: tuple[Effect, ...],
) -> Transition:
    audit = _audit(before, after, now, actor, action, reason)
    return Transition(rollout=after, verdict=verdict, reasons=(reason,), audit=audit, effects=effects)


def _audit(before: Rollout, after: Rollout, now: float, actor: str, action: str, reason: str) -> Audit:
    return Audit(at=now, actor=actor, action=action, reason=reason, before=_state(before), after=_state(after))


def _state(rollout: Rollout) -> str:
    return f"{rollout.phase.value}, stage {rollout.current_stage.name}, weight {rollout.weight:g}"


def _next_epoch(rollout: Rollout, weight: float, stage: int, thresholds: Mapping[str, float]) -> Epoch:
    return Epoch(number=len(rollout.epochs), weight=weight, stage=stage, thresholds=dict(thresholds))


def _weight(rollout: Rollout) -> Effect:
    message = f"{rollout.agent}: weight {rollout.weight:g}"
    return Effect(kind=EffectKind.WEIGHT, event="weight", message=message, weight=rollout.weight)


def _notify(event: str, message: str, severity: str = "info") -> Effect:
    return Effect(kind=EffectKind.NOTIFY, event=event, message=message, severity=severity)
