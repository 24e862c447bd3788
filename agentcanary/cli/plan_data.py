"""What ``agentcanary plan`` found, as plain values for JSON and for the lines that people read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcanary.config.values import Config
from agentcanary.config.words import label
from agentcanary.planning import Case, Chance, Expectations, Outlook, Proof, StageProof, limit_of
from agentcanary.planning.proofs import POWER
from agentcanary_analysis.metrics import Direction, Kind, Metric


def plan_data(
    config: Config,
    expectations: Expectations,
    proofs: Sequence[StageProof],
    outlooks: Sequence[Outlook],
    warnings: Sequence[str],
    *,
    runs: int,
    seed: int,
) -> dict[str, Any]:
    """Everything as plain values, for JSON. Shares are shares, times are hours."""
    plan, rate = expectations.plan, expectations.conversations_per_hour
    metrics = {metric.name: metric for metric in plan.metrics}
    limit = limit_of(expectations)
    return {
        "agent": config.agent,
        "stable": config.stable,
        "canary": config.canary,
        "traffic": {"conversations_per_hour": rate, "stated": expectations.rate_stated},
        "metrics": [
            {
                "metric": name,
                "label": label(metrics[name]),
                "kind": metrics[name].kind.value,
                "unit": _unit(metrics[name]),
                "stable": expected.stable,
                "spread": expected.spread,
                "floor": metrics[name].floor,
                "stated": expected.stated,
            }
            for name, expected in expectations.metrics.items()
        ],
        "safety_violations": expectations.violations,
        "left_out": [{"metric": metric.name, "label": label(metric)} for metric in expectations.left_out],
        "pausing": list(expectations.pausing),
        "alpha": plan.alpha,
        "power": POWER,
        "horizon_hours": max((metrics[name].horizon for name in expectations.metrics), default=0.0) / 3600,
        "stages": [_stage_data(found, metrics) for found in proofs],
        "simulation": {
            "runs": runs,
            "seed": seed,
            "most_conversations": limit,
            "most_hours": limit / rate,
            "canaries": [_outlook_data(found, metrics, rate) for found in outlooks],
        },
        "warnings": list(warnings),
    }


def _stage_data(found: StageProof, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {
        "name": found.stage.name,
        "weight": found.stage.weight,
        "duration_hours": found.stage.duration / 3600,
        "hours": found.hours,
        "canary_conversations": found.conversations,
        "waits_for_conversations": found.waits,
        "asks_for_proof": found.asks_for_proof,
        "checks": [_proof_data(proof, metrics[proof.check.metric]) for proof in found.checks],
    }


def _proof_data(proof: Proof, metric: Metric) -> dict[str, Any]:
    line, stable = proof.line, proof.stable

    def at(ratio: float | None) -> dict[str, float] | None:
        if ratio is None or stable is None or line is None:
            return None
        return {"ratio": ratio, "value": ratio * stable + line.shift}

    return {
        "check": proof.check.text,
        "metric": metric.name,
        "kind": metric.kind.value,
        "unit": _unit(metric),
        "stable": stable,
        "boundary": at(None if line is None else line.ratio),
        # Shown to be worse by more than the floor: its own value, not that of a line.
        "detectable": None
        if proof.detectable_ratio is None or stable is None
        else {"ratio": proof.detectable_ratio, "value": proof.detectable_ratio * stable},
        "certifiable": at(proof.certifiable_ratio),
        "needed_canary_conversations": None if proof.needed is None else round(proof.needed),
        "needed_hours": proof.hours,
        "decidable": proof.decidable,
        "upper_limit": proof.upper_limit,
        "worse": "up" if metric.direction is Direction.UP_IS_WORSE else "down",
    }


def _outlook_data(found: Outlook, metrics: Mapping[str, Metric], rate: float) -> dict[str, Any]:
    case = found.case
    metric = None if case.metric is None else metrics[case.metric]

    def chance(one: Chance) -> dict[str, float]:
        return {"count": one.count, "share": one.share, "standard_error": one.error}

    return {
        "metric": case.metric,
        "ratio": case.ratio,
        "stable": case.stable,
        "canary": case.canary,
        "tolerated": case.tolerated,
        "label": None if metric is None else label(metric),
        "change": "like stable" if metric is None else _change(case, metric),
        "kind": None if metric is None else metric.kind.value,
        "unit": "" if metric is None else _unit(metric),
        "rolled_back": chance(found.rolled_back),
        "rolled_back_for_harm": chance(found.harmed),
        "stopped_for_safety": chance(found.stopped),
        "rolled_back_undecided": chance(found.inconclusive),
        "promoted": chance(found.promoted),
        "undecided": chance(found.undecided),
        "conversations": dict(zip(("p10", "median", "p90"), found.conversations, strict=True)),
        "hours": {
            name: None if size is None else size / rate
            for name, size in zip(("p10", "median", "p90"), found.conversations, strict=True)
        },
    }


def _change(case: Case, metric: Metric) -> str:
    """How the canary differs, in short."""
    if metric.direction is Direction.UP_IS_WORSE:
        return f"× {case.ratio:g}"
    return f"failures × {case.ratio:g}" if metric.kind is Kind.PROPORTION else f"÷ {case.ratio:g}"


def _unit(metric: Metric) -> str:
    return "s" if metric.outcome in ("turn.latency", "turn.time_to_first_byte") else ""
