"""Everything that is known of a rollout, as plain values for JSON. Pure.

The terminal, the API and the pages show the same values, so that they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentcanary.freeze import frozen
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Audit, Rollout
from agentcanary.state_machine import Look, advance
from agentcanary.status.advice import next_steps
from agentcanary.status.conclusion import conclusion
from agentcanary.status.evidence_data import check_data, e_data, evidence_data, number
from agentcanary.status.judges import reported_data
from agentcanary.status.situation import Situation, conversations_per_hour, degraded, warnings
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.evidence import Evidence
from agentcanary_analysis.sample_ratio import ALARM
from agentcanary_analysis.verdict import SampleRatio
from agentcanary_analysis.weighing import budget

AUDIT_SHOWN = 5


def status_data(seen: Situation) -> dict[str, Any]:
    """The answer of ``agentcanary status --json``. All times are Unix seconds, all spans seconds."""
    rollout, plan = seen.rollout, seen.rollout.plan
    transition = advance(rollout, Look(findings=seen.findings), now=seen.now)
    ended = rollout.phase.ended
    return {
        "agent": rollout.agent,
        "verdict": conclusion(rollout),
        "reasons": [rollout.reason] if ended else list(transition.reasons),
        "at": seen.now,
        "rollout": _rollout(rollout, seen),
        "stage": _current_stage(rollout, seen),
        "stages": [_stage(rollout, index) for index in range(len(plan.stages))],
        "frozen": _frozen(rollout, seen.now),
        "next_look": None if ended else {"verdict": transition.verdict.value, "reasons": list(transition.reasons)},
        **_evidence(seen),
        "sample_ratio": _sample_ratio(seen.findings.sample_ratio, seen.aggregates),
        "safety": {
            "canary": seen.aggregates.safety.canary,
            "stable": seen.aggregates.safety.stable,
            "reports": seen.aggregates.safety.reports,
            "tolerated": plan.max_safety_violations,
        },
        "conversations": {
            "assigned": _assigned(seen.aggregates),
            "per_hour": conversations_per_hour(seen),
            "excluded": dict(sorted(seen.aggregates.excluded.items())),
        },
        "not_measured": list(seen.findings.not_measured),
        "segments": [dict(group) for group in seen.segments],
        "judges": reported_data(seen.reported),
        "warnings": warnings(seen),
        "workers": {
            "alive": len(seen.workers),
            "configurations": len({worker.config_hash for worker in seen.workers}),
            "degraded": degraded(seen.workers),
        },
        "audit": [_entry(entry) for entry in seen.audit[-AUDIT_SHOWN:]],
        "next": list(next_steps(rollout, transition, seen.findings, live=seen.live, workers=len(seen.workers))),
    }


def stage_duration(stage: Stage, plan: Plan) -> float:
    """Seconds that a stage lasts at least; at weight 1 the rollout bakes."""
    return max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration


def _rollout(rollout: Rollout, seen: Situation) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "stable": rollout.stable,
        "canary": rollout.canary,
        "attempt": rollout.attempt,
        "revision": rollout.revision,
        "phase": rollout.phase.value,
        "weight": rollout.weight,
        "created_at": rollout.created_at,
        "ended_at": rollout.ended_at,
        "stopped_at": rollout.stopped_at,
        "stop_reason": rollout.stop_reason,
        "cause": rollout.cause,
        "reason": rollout.reason,
        "paused_for": rollout.paused_for,
        "acknowledged": list(rollout.acknowledged),
        "drained_at": rollout.drained_at,
        "live_on_version_left_behind": seen.live,
    }


def _current_stage(rollout: Rollout, seen: Situation) -> dict[str, Any]:
    stage, plan = rollout.current_stage, rollout.plan
    started = rollout.stage_started_at if rollout.epochs else None
    end = seen.now if rollout.ended_at is None else rollout.ended_at
    lasts = stage_duration(stage, plan)
    elapsed = None if started is None else max(end - started, 0.0)
    return {
        "name": stage.name,
        "number": rollout.stage + 1,
        "of": len(plan.stages),
        "started_at": started,
        "duration": lasts,
        "elapsed": elapsed,
        "remaining": None if elapsed is None or rollout.phase.ended else max(lasts - elapsed, 0.0),
        "conversations": seen.findings.stage_conversations,
        # At weight 1 there is no stable arm to compare with, so nothing waits for conversations.
        "min_conversations": stage.min_conversations if stage.weight < 1 else 0,
        "auto_rollback": stage.auto_rollback,
        "advance": stage.advance.value,
    }


def _stage(rollout: Rollout, index: int) -> dict[str, Any]:
    stage = rollout.plan.stages[index]
    begun = any(epoch.stage == index and epoch.weight > 0 for epoch in rollout.epochs)
    here = index == rollout.stage and not rollout.phase.ended and bool(rollout.epochs)
    return {
        "name": stage.name,
        "weight": stage.weight,
        "duration": stage_duration(stage, rollout.plan),
        "min_conversations": stage.min_conversations if stage.weight < 1 else 0,
        "checks": [check.text for check in stage.checks],
        "state": "current" if here else "begun" if begun else "ahead",
    }


def _frozen(rollout: Rollout, now: float) -> dict[str, Any] | None:
    """The freeze window that holds steps back at present."""
    found = None if rollout.phase.ended else frozen(rollout.plan.freeze, now)
    return (
        None if found is None else {"until": number(found.until), "window": found.window.text, "reason": found.reason}
    )


def _evidence(seen: Situation) -> dict[str, Any]:
    plan, findings = seen.rollout.plan, seen.findings
    alone = findings.log_e_harm_boundary
    safe = -math.log(budget(plan.alpha_promote, seen.rollout.attempt))
    together = alone + math.log(max(len(plan.criteria), 1))
    over, per_hour = seen.rollout.phase.ended, conversations_per_hour(seen)

    def evidence(listed: Sequence[Evidence], needed: float) -> list[dict[str, Any]]:
        return [
            evidence_data(
                found,
                plan.metric(found.metric),
                log_harm_needed=needed,
                log_safe_needed=safe,
                per_hour=per_hour,
                over=over,
            )
            for found in listed
        ]

    return {
        "checks": [
            check_data(
                found,
                plan.metric(found.check.metric),
                log_harm_needed=alone,
                log_safe_needed=safe,
                per_hour=per_hour,
                over=over,
            )
            for found in findings.checks
        ],
        "criteria": evidence(findings.evidence, together),
        "margins": evidence(findings.margins, alone),
        "dry_run": evidence(findings.dry_run, alone),
        "harm": e_data(findings.log_e_harm, alone),
    }


def _sample_ratio(found: SampleRatio, aggregates: Aggregates) -> dict[str, Any]:
    weights = sorted({epoch.weight for epoch in aggregates.epochs if 0 < epoch.weight < 1})
    split = []
    for weight in weights:
        numbers = [epoch.number for epoch in aggregates.epochs if epoch.weight == weight]
        units = {arm: sum(aggregates.assigned.get((one, arm), 0) for one in numbers) for arm in Arm}
        split.append({"weight": weight, "stable": units[Arm.STABLE], "canary": units[Arm.CANARY]})
    return {
        "alarm": found.alarm,
        "reason": found.reason,
        "assigned": e_data(found.log_e_assigned, math.log(ALARM)),
        "counted": e_data(found.log_e_counted, math.log(ALARM)),
        "split": split,
    }


def _assigned(aggregates: Aggregates) -> dict[str, int]:
    return {arm.value: sum(n for (_, of), n in aggregates.assigned.items() if of is arm) for arm in Arm}


def _entry(entry: Audit) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
    }
