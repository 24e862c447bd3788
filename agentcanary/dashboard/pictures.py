"""Which charts a page has, as plain values that another process can draw. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from agentcanary.dashboard.source import Seen
from agentcanary.status.evidence_data import number
from agentcanary.status.history import TOGETHER, EvidenceHistory
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.metrics import Kind, Metric

CHECKS, CRITERIA, LATENCY, SPLIT = "checks", "criteria", "latency", "split"
EVIDENCE = "evidence-"
ALL_TOGETHER = f"{EVIDENCE}all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One chart of a page.

    Attributes:
        slot: Where it stands, such as ``evidence-error_rate``.
        data: What it shows, for ``drawing.draw``.
        key: Differs whenever the data do.
        alternative: In words, for those who do not see it.
    """

    slot: str
    data: Mapping[str, Any]
    key: str
    alternative: str


def pictures(data: Mapping[str, Any], seen: Seen) -> dict[str, Picture]:
    """The charts of a rollout's page, by slot.

    Args:
        data: What ``status_data`` says of it.
        seen: What the page is made from.
    """
    found = [
        *_forests(data),
        *_evidence(data, seen.history),
        *_latency(seen.situation.aggregates, seen.situation.rollout.plan.metrics),
        *_split(data),
    ]
    return {picture.slot: picture for picture in found}


def _forests(data: Mapping[str, Any]) -> list[Picture]:
    found = []
    for slot, lines in ((CHECKS, data["checks"]), (CRITERIA, data["criteria"])):
        shown = [line for line in lines if line["evidence"] is not None]
        if shown:
            kept = ("check", "label", "metric", "kind", "unit", "status", "reason", "boundary", "stable", "canary")
            rows = [
                {name: line[name] for name in (*kept, "relative_change", "interval") if name in line} for line in shown
            ]
            words = f"Forest plot of {len(rows)} relative changes and their boundaries; the table has the same numbers."
            found.append(_picture(slot, {"kind": "forest", "lines": rows}, words))
    return found


def _evidence(data: Mapping[str, Any], history: EvidenceHistory) -> list[Picture]:
    if not history.looks:
        return []
    found = [_line_of(ALL_TOGETHER, "all criteria together", history, TOGETHER, data["harm"]["log_needed"], None)]
    for line in data["criteria"]:
        name = line["metric"]
        if any(name in look.strengths for look in history.looks):
            needed = {side: line["evidence"][side]["log_needed"] for side in ("harm", "safe")}
            found.append(_line_of(f"{EVIDENCE}{name}", line["label"], history, name, needed["harm"], needed["safe"]))
    return found


def _line_of(
    slot: str, name: str, history: EvidenceHistory, metric: str, harm_needed: float, safe_needed: float | None
) -> Picture:
    points = [
        {
            "at": look.at,
            "conversations": look.conversations,
            "harm": number(look.strengths[metric].harm),
            "safe": number(look.strengths[metric].safe),
        }
        for look in history.looks
        if metric in look.strengths
    ]
    data = {
        "kind": "evidence",
        "name": name,
        "points": points,
        "harm_needed": harm_needed,
        # Not drawn where there is no evidence of safety.
        "safe_needed": harm_needed if safe_needed is None else safe_needed,
    }
    return _picture(slot, data, f"Evidence of {name} over {len(points)} looks; the table has the newest numbers.")


def _latency(aggregates: Aggregates, metrics: Sequence[Metric]) -> list[Picture]:
    """Both arms where the weight was the same: at another hour, another weight, both arms differ."""
    for metric in metrics:
        if metric.kind is not Kind.QUANTILE or metric.outcome != "turn.latency":
            continue
        by_weight: dict[float, dict[Arm, dict[int, int]]] = {}
        for epoch in aggregates.epochs:
            if epoch.number < 0 or not 0 < epoch.weight < 1:
                continue
            arms = by_weight.setdefault(epoch.weight, {arm: {} for arm in Arm})
            for arm in Arm:
                for bin_number, n in aggregates.histogram(metric.name, epoch.number, arm).items():
                    arms[arm][bin_number] = arms[arm].get(bin_number, 0) + n
        counted = [weight for weight, arms in by_weight.items() if any(sum(bins.values()) for bins in arms.values())]
        if counted:
            weight = max(counted)
            bins = {arm.value: sorted(by_weight[weight][arm].items()) for arm in Arm}
            words = f"Distributions of the latency in both arms, of conversations assigned at weight {weight:g}."
            shown = {"kind": "latency", "arms": bins, "quantile": metric.quantile, "weight": weight}
            return [_picture(LATENCY, shown, words)]
    return []


def _split(data: Mapping[str, Any]) -> list[Picture]:
    splits = [one for one in data["sample_ratio"]["split"] if one["stable"] + one["canary"]]
    if not splits:
        return []
    words = "The canary's share of the conversations against the share asked for, one row a weight."
    return [_picture(SPLIT, {"kind": "split", "splits": splits}, words)]


def _picture(slot: str, data: Mapping[str, Any], words: str) -> Picture:
    text = json.dumps(data, sort_keys=True, default=_refuse)
    return Picture(slot=slot, data=data, key=blake2b(text.encode(), digest_size=8).hexdigest(), alternative=words)


def _refuse(value: object) -> object:
    raise TypeError(f"a picture's data are plain values, got {type(value).__qualname__}")
