"""How each change of a rollout looks: the next state, its audit entry and its effects. Pure.

Which change is made is decided in ``state_machine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agentcanary.rollout import Audit, Effect, EffectKind, Phase, Rollout, Transition, Verdict
from agentcanary_analysis.aggregates import Epoch

CONTROLLER = "agentcanary"


def acknowledge(rollout: Rollout) -> Rollout:
    """The rollout after an operator decided to go on in spite of what holds it."""
    causes = {rollout.paused_for} - {"", "manual"} | ({"invalid"} & set(rollout.told))
    if rollout.paused_metrics:
        # Only what it was paused for: another metric's harm still counts.
        causes = causes - {"harm"} | {f"harm:{metric}" for metric in rollout.paused_metrics}
    return replace(rollout, acknowledged=tuple(sorted({*rollout.acknowledged, *causes})))


def enter(
    rollout: Rollout, stage: int, now: float, actor: str, reason: str, thresholds: Mapping[str, float]
) -> Transition:
    """Into a stage: its weight, a new epoch, its timers."""
    entered = rollout.plan.stages[stage]
    following = replace(
        rollout,
        phase=Phase.PROGRESSING,
        stage=stage,
        stage_started_at=now,
        weight_changed_at=now,
        epochs=(*rollout.epochs, next_epoch(rollout, entered.weight, stage, thresholds)),
        asked=None,
        paused_for="",
        paused_metrics=(),
        reason=reason,
        revision=rollout.revision + 1,
    )
    message = f"{rollout.agent}: {rollout.canary} enters stage {entered.name} (weight {entered.weight:g})"
    effects = [_weight(following), _notify("stage_entered", message)]
    action = "advance"
    if rollout.phase is Phase.PENDING:
        action = "start"
        effects.insert(1, _notify("started", f"{rollout.agent}: rollout of {rollout.canary} against {rollout.stable}"))
    return changed(rollout, following, now, Verdict.ADVANCE, actor, action, reason, tuple(effects))


def promote(rollout: Rollout, now: float, actor: str, reason: str) -> Transition:
    """To the end of the ladder: the canary has all new conversations."""
    epochs = rollout.epochs
    if rollout.weight != 1:
        epochs = (*epochs, next_epoch(rollout, 1.0, len(rollout.plan.stages) - 1, {}))
    following = replace(
        rollout,
        phase=Phase.PROMOTED,
        stage=len(rollout.plan.stages) - 1,
        epochs=epochs,
        weight_changed_at=now if epochs != rollout.epochs else rollout.weight_changed_at,
        ended_at=now,
        paused_for="",
        paused_metrics=(),
        reason=reason,
        revision=rollout.revision + 1,
    )
    message = f"{rollout.agent}: {rollout.canary} is promoted: {reason}"
    effects = (_weight(following), _notify("promoted", message))
    return changed(rollout, following, now, Verdict.ADVANCE, actor, "promote", reason, effects)


def roll_back(rollout: Rollout, now: float, actor: str, cause: str, reason: str) -> Transition:
    """Back to stable: weight 0 before anybody is told."""
    following = replace(
        rollout,
        phase=Phase.ROLLED_BACK,
        epochs=(*rollout.epochs, next_epoch(rollout, 0.0, rollout.stage, {})),
        weight_changed_at=now,
        ended_at=now,
        cause=cause,
        reason=reason,
        paused_for="",
        paused_metrics=(),
        drained_at=None,
        revision=rollout.revision + 1,
    )
    event = "safety_stop" if cause == "safety" else "rolled_back"
    message = f"{rollout.agent}: {rollout.canary} is rolled back to {rollout.stable} ({cause}): {reason}"
    effects = (_weight(following), _notify(event, message, "critical" if cause == "safety" else "warning"))
    return changed(rollout, following, now, Verdict.ROLLBACK, actor, "rollback", reason, effects)


def pause(
    rollout: Rollout, now: float, actor: str, cause: str, reason: str, metrics: tuple[str, ...] = ()
) -> Transition:
    """Stop the ladder. New conversations go on being split, unless the canary is proven harmful.

    Args:
        rollout: As it is stored.
        now: Unix time in seconds.
        actor: Who pauses it.
        cause: ``manual``, ``harm`` or ``inconclusive``.
        reason: In words.
        metrics: Whose harm it is paused for; empty where it is paused for all harm.
    """
    following = replace(
        rollout,
        phase=Phase.PAUSED,
        paused_for=cause,
        paused_metrics=metrics,
        reason=reason,
        revision=rollout.revision + 1,
    )
    effects = [_notify("paused", f"{rollout.agent}: {rollout.canary} is paused ({cause}): {reason}", "warning")]
    if cause == "harm" and rollout.weight > 0:
        epoch = next_epoch(rollout, 0.0, rollout.stage, {})
        following = replace(following, epochs=(*rollout.epochs, epoch), weight_changed_at=now)
        effects.insert(0, _weight(following))
    return changed(rollout, following, now, Verdict.HOLD, actor, "pause", reason, tuple(effects))


def resume(rollout: Rollout, now: float, actor: str, reason: str) -> Transition:
    """On with the ladder, in spite of what held it."""
    following = replace(
        acknowledge(rollout),
        phase=Phase.PROGRESSING,
        paused_for="",
        paused_metrics=(),
        reason=reason,
        revision=rollout.revision + 1,
    )
    effects = [_notify("resumed", f"{rollout.agent}: {rollout.canary} is resumed: {reason}")]
    weight = rollout.current_stage.weight
    if rollout.weight != weight:
        epoch = next_epoch(rollout, weight, rollout.stage, rollout.epochs[-2].thresholds)
        following = replace(following, epochs=(*rollout.epochs, epoch), weight_changed_at=now)
        effects.insert(0, _weight(following))
    return changed(rollout, following, now, Verdict.HOLD, actor, "resume", reason, tuple(effects))


def tell(
    rollout: Rollout, now: float, event: str, reason: str, holds: tuple[str, ...], *, about: str = ""
) -> Transition:
    """Hold, and tell people once why; once for each thing that it is about."""
    said = f"{rollout.canary} is held: {reason}"
    return _mention(replace(rollout, reason=reason), now, event, reason, said, holds, about)


def mention(
    rollout: Rollout, now: float, event: str, reason: str, holds: tuple[str, ...], *, about: str = ""
) -> Transition:
    """Hold, and tell people once something that holds nothing by itself; once for each thing that it is about."""
    return _mention(rollout, now, event, reason, reason, holds, about)


def _mention(
    rollout: Rollout, now: float, event: str, reason: str, said: str, holds: tuple[str, ...], about: str
) -> Transition:
    told = (*rollout.told, told_mark(event, about))
    following = replace(rollout, told=told, revision=rollout.revision + 1)
    audit = audit_entry(rollout, following, now, CONTROLLER, event, reason)
    effects = (_notify(event, f"{rollout.agent}: {said}", "warning"),)
    return Transition(rollout=following, verdict=Verdict.HOLD, reasons=holds, audit=audit, effects=effects)


def told_mark(event: str, about: str = "") -> str:
    """How ``Rollout.told`` remembers that people were told."""
    return f"{event}:{about}" if about else event


def hold(rollout: Rollout, reason: str) -> Transition:
    """Nothing changes."""
    return Transition(rollout=rollout, verdict=Verdict.HOLD, reasons=(reason,))


def changed(
    before: Rollout,
    after: Rollout,
    now: float,
    verdict: Verdict,
    actor: str,
    action: str,
    reason: str,
    effects: tuple[Effect, ...],
) -> Transition:
    """A change with its audit entry and effects."""
    audit = audit_entry(before, after, now, actor, action, reason)
    return Transition(rollout=after, verdict=verdict, reasons=(reason,), audit=audit, effects=effects)


def audit_entry(before: Rollout, after: Rollout, now: float, actor: str, action: str, reason: str) -> Audit:
    """Who changed what, and why."""
    return Audit(at=now, actor=actor, action=action, reason=reason, before=_state(before), after=_state(after))


def _state(rollout: Rollout) -> str:
    return f"{rollout.phase.value}, stage {rollout.current_stage.name}, weight {rollout.weight:g}"


def next_epoch(rollout: Rollout, weight: float, stage: int, thresholds: Mapping[str, float]) -> Epoch:
    """The epoch that follows the rollout's last one."""
    return Epoch(number=len(rollout.epochs), weight=weight, stage=stage, thresholds=dict(thresholds))


def _weight(rollout: Rollout) -> Effect:
    message = f"{rollout.agent}: weight {rollout.weight:g}"
    return Effect(kind=EffectKind.WEIGHT, event="weight", message=message, weight=rollout.weight)


def _notify(event: str, message: str, severity: str = "info") -> Effect:
    return Effect(kind=EffectKind.NOTIFY, event=event, message=message, severity=severity)
