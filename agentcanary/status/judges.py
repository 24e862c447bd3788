"""What judges did with each arm: how much they looked at, how often they failed, how late they were. Pure.

A judge that looks at one arm less, or fails on it more, leaves values out that may not be missing by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from agentcanary.status.figures import span
from agentcanary.store import ReportedArm
from agentcanary_analysis.aggregates import Arm

# Differences that are worth a word: two points, and beyond what chance gives once in some hundred looks.
_POINTS = 0.02
_DEVIATIONS = 3.0
_LATE = 0.10
_ENOUGH = 20


def reported_data(reported: Sequence[ReportedArm]) -> list[dict[str, Any]]:
    """Each kind of outcome with both arms, as plain values."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in reported:
        line = found.setdefault((one.name, one.kind.value), {"outcome": one.name, "judge": one.kind.value})
        line[one.arm.value] = {
            "conversations": one.conversations,
            "judged": one.judged,
            "sampling_rate": _share(one.judged, one.conversations),
            "outcomes": one.outcomes,
            "failed": one.failed,
            "failure_rate": _share(one.failed, one.outcomes),
            "late": one.late,
        }
    return list(found.values())


def judge_warnings(reported: Sequence[ReportedArm], horizons: dict[str, float]) -> Iterator[str]:
    """Where a judge treats the arms differently, or comes too late, a sentence each.

    Args:
        reported: What was reported of each arm.
        horizons: Seconds after which a conversation is counted, by the outcome's name; others are in no metric.
    """
    arms = {(one.name, one.kind, one.arm): one for one in reported}
    for name, kind in dict.fromkeys((one.name, one.kind) for one in reported):
        if name not in horizons:
            continue
        stable, canary = arms[name, kind, Arm.STABLE], arms[name, kind, Arm.CANARY]
        whose = f"{name} ({kind.value})"
        if _differs(stable.judged, stable.conversations, canary.judged, canary.conversations):
            yield (
                f"{whose} judged {_percent(canary.judged, canary.conversations)} of the canary's conversations and "
                f"{_percent(stable.judged, stable.conversations)} of stable's: what is missing may not be by chance"
            )
        if _differs(stable.failed, stable.outcomes, canary.failed, canary.outcomes):
            yield (
                f"{whose} gave no value for {_percent(canary.failed, canary.outcomes)} of what it judged on the canary "
                f"and {_percent(stable.failed, stable.outcomes)} on stable: a judge that fails is no passed test"
            )
        late, outcomes = stable.late + canary.late, stable.outcomes + canary.outcomes
        if outcomes >= _ENOUGH and late > _LATE * outcomes:
            yield (
                f"{_percent(late, outcomes)} of {whose} came later than {span(horizons[name])} after its conversation "
                f"began, when that is counted; state the metric's maturity"
            )


def _differs(one: int, of_one: int, other: int, of_other: int) -> bool:
    """True for shares that are further apart than two points and than chance."""
    if min(of_one, of_other) < _ENOUGH:
        return False
    apart = abs(one / of_one - other / of_other)
    pooled = (one + other) / (of_one + of_other)
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_one + 1 / of_other))
    return apart > _POINTS and apart > _DEVIATIONS * error


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
