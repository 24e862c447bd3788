"""Everything known of one conversation, as plain values: its arm and why, its turns, where it counts. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentcanary.assignment import Assignment, Reason, bucket
from agentcanary.outcomes import Outcome
from agentcanary.rollout import Rollout
from agentcanary.status.evidence_data import number, unit_of
from agentcanary.store import Known, Part, turn_log
from agentcanary.store.values import Conversation, Reported, value_of
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.metrics import Kind

_OUTCOMES = {turn_log.OK: "ok", turn_log.ERROR: "error", turn_log.ABORTED: "aborted"}
_EXCLUDED = {
    Reason.FORCED: "a tester's header put it there",
    Reason.BEGAN_BEFORE: "it was live before this rollout began, and keeps its version",
    Reason.HANDOVER: "it began in the moment in which the workers learned of the rollout",
    Reason.STALE_SNAPSHOT: "its worker could not read the store at that time, so it went to stable",
    Reason.FALLBACK: "something of ours failed at its first turn, so it went to stable",
    Reason.NO_ROLLOUT: "no rollout was open: it is part of the history",
}


def explanation(
    known: Known, rollouts: Mapping[str, Rollout], *, now: float, next_turn: Assignment | None
) -> dict[str, Any]:
    """The answer of ``agentcanary explain --json``. All times are Unix seconds.

    Args:
        known: What the store knows.
        rollouts: By id, those in which it had a turn.
        now: Unix time in seconds.
        next_turn: What a turn now would be given; None when that cannot be told.
    """
    return {
        "agent": known.agent,
        "conversation": known.unit,
        "at": now,
        "parts": [_part(known, part, rollouts.get(part.rollout), now) for part in known.parts],
        "outcomes": [_outcome(outcome) for outcome in known.outcomes],
        "next_turn": None
        if next_turn is None
        else {
            "arm": next_turn.arm.value,
            "version": next_turn.version,
            "reason": next_turn.reason.value,
            "excluded": next_turn.excluded,
        },
    }


def turns_of(log: Sequence[turn_log.Entry]) -> Iterator[dict[str, Any]]:
    """Each turn once, in the order of their starts: a turn that was stored at its start and at its end is one."""
    ended_later = Counter(entry.started_at for entry in log if entry.code > turn_log.LATER)
    for entry in sorted(log, key=lambda one: one.started_at):
        if entry.code == turn_log.STARTED:
            if ended_later[entry.started_at]:
                ended_later[entry.started_at] -= 1
                continue
            yield {"started_at": entry.started_at, "outcome": "open", "latency": None, "time_to_first_byte": None}
            continue
        first_byte = None if math.isnan(entry.time_to_first_byte) else entry.time_to_first_byte
        yield {
            "started_at": entry.started_at,
            "outcome": _OUTCOMES[entry.outcome],
            "latency": entry.latency,
            "time_to_first_byte": first_byte,
        }


def _part(known: Known, part: Part, rollout: Rollout | None, now: float) -> dict[str, Any]:
    epoch = None if rollout is None else next((e for e in rollout.epochs if e.number == part.epoch), None)
    by_conversation = rollout is not None and rollout.plan.sticky_by == "conversation"
    placed = bucket(rollout.salt, known.unit).assignment if rollout is not None and by_conversation else None
    return {
        "rollout": part.rollout or None,
        "phase": None if rollout is None else rollout.phase.value,
        "arm": part.arm.value,
        "version": part.version,
        "why": why(part, rollout, placed),
        "excluded": part.excluded,
        "epoch": None if epoch is None else epoch.number,
        "weight": None if epoch is None else epoch.weight,
        "stage": None if epoch is None or rollout is None else rollout.plan.stages[epoch.stage].name,
        "bucket": placed,
        "resampling_bucket": part.bucket,
        "pin": "recorded" if part.pin is None else "stored",
        "canary_served": part.on_canary,
        "started_at": part.started_at,
        "last_turn_at": part.last_turn_at,
        "turns": part.turns,
        "open": part.open,
        "errors": part.errors,
        "aborted": part.aborted,
        "turn_log": list(turns_of(part.log)),
        "counts": [] if rollout is None or part.excluded else list(_counts(known, part, rollout, now)),
    }


def why(part: Part, rollout: Rollout | None, placed: float | None) -> str:
    """Why the conversation is on its arm, in words.

    Args:
        part: Of the conversation.
        rollout: Its rollout, None outside one.
        placed: Its bucket, None where the bucket is the user's.
    """
    if part.excluded is not None:
        reason = _EXCLUDED.get(Reason(part.excluded)) if part.excluded in set(Reason) else None
        return reason or part.excluded
    if rollout is None:
        return "it is part of the history outside any rollout"
    epoch = next((epoch for epoch in rollout.epochs if epoch.number == part.epoch), None)
    whose = "its user's bucket" if placed is None else f"its bucket {placed:.4f}"
    side = "lies below" if part.arm is Arm.CANARY else "does not lie below"
    weight = "the weight" if epoch is None else f"the weight {epoch.weight:g} of epoch {epoch.number}"
    said = f"{whose} {side} {weight}, in which it began"
    if part.arm is Arm.CANARY and not part.on_canary:
        said += "; stable served it, because its pin could not be read or stored, or the canary was taken back"
    return said


def _counts(known: Known, part: Part, rollout: Rollout, now: float) -> Iterator[dict[str, Any]]:
    """Its value for each metric: fixed at the metric's horizon, whatever comes later."""
    reported = [Reported(o.name, o.value, o.at, o.confirmed) for o in known.outcomes]
    log = turn_log.to_text(b"".join(turn_log.pack(*entry) for entry in part.log))
    conversation = Conversation(part.started_at, log, part.errors, part.aborted, part.open, reported)
    for metric in rollout.plan.metrics:
        if metric.kind is Kind.COUNT:
            continue
        at = part.started_at + metric.horizon
        of_age = now >= at
        value = value_of(metric, conversation) if of_age else None
        yield {
            "metric": metric.name,
            "kind": metric.kind.value,
            "unit": unit_of(metric),
            "counted_at": at,
            "of_age": of_age,
            "value": None if value is None else number(value.number / value.size if value.size else value.number),
        }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "name": outcome.name,
        "value": outcome.value,
        "label": outcome.label,
        "kind": outcome.kind.value,
        "explanation": outcome.explanation,
        "turn_id": outcome.turn_id,
        "confirmed": outcome.confirmed,
        "at": outcome.at,
    }
