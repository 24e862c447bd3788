"""Ready-made stages for agents of different risk. Pure.

Source: the article's advice: at least 4 to 6 hours at low traffic, ideally 24 hours at medium traffic, and a full week
for safety-critical agents; ``standard`` has its weights, minimum conversations and checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agentcanary.plan import DAY, HOUR, MINUTE, Stage
from agentcanary_analysis.checks import parse_check

DEFAULT_PRESET = "standard"
_SAFE = "safety_violations == 0"
_COMPLETION = "task_completion_regression < 0.02"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Stages and the time at weight 1.

    Attributes:
        summary: For whom, in one sentence.
        stages: As in a plan.
        bake: Seconds at weight 1 before the promotion, at least.
        alpha_promote: Budget for ever promoting a canary that is beyond some boundary.
    """

    summary: str
    stages: tuple[Stage, ...]
    bake: float
    alpha_promote: float = 0.05

    @property
    def hours(self) -> float:
        """Hours that the stages last at least, without the time at weight 1."""
        return sum(stage.duration for stage in self.stages) / HOUR


def _stage(name: str, weight: float, hours: float, min_conversations: int, *checks: str) -> Stage:
    return Stage(
        name=name,
        weight=weight,
        duration=hours * HOUR,
        min_conversations=min_conversations,
        checks=tuple(parse_check(check) for check in checks),
    )


def _errors(limit: str) -> str:
    return f"error_rate_increase < {limit}"


def _latency(limit: str) -> str:
    return f"p95_latency_increase < {limit}"


_FULL = Stage(name="full_rollout", weight=1.0, duration=0.0, auto_rollback=False)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # No stage names task completion: a check that names what nobody records holds the rollout for ever. It is
        # judged by its rollback and promotion margins as soon as it is recorded.
        "standard": Preset(
            summary="6 hours at low traffic and 24 hours at medium traffic",
            stages=(
                _stage("initial", 0.05, 2, 50, _errors("0.10"), _SAFE),
                _stage("low_traffic", 0.15, 4, 200, _errors("0.05"), _SAFE, _latency("0.30")),
                _stage("medium_traffic", 0.50, 24, 1000, _errors("0.03"), _SAFE, _latency("0.30")),
                _FULL,
            ),
            bake=30 * MINUTE,
        ),
        "conservative": Preset(
            summary="begins at 1 %, spends 24 hours at low and 48 hours at medium traffic, and needs task completion",
            stages=(
                _stage("trial", 0.01, 6, 50, _errors("0.10"), _SAFE),
                _stage("initial", 0.05, 6, 200, _errors("0.10"), _SAFE, _latency("0.30")),
                _stage("low_traffic", 0.15, 12, 500, _errors("0.05"), _SAFE, _latency("0.30"), _COMPLETION),
                _stage("quarter", 0.25, 24, 1000, _errors("0.03"), _SAFE, _latency("0.20"), _COMPLETION),
                _stage("medium_traffic", 0.50, 24, 2000, _errors("0.03"), _SAFE, _latency("0.20"), _COMPLETION),
                _FULL,
            ),
            bake=6 * HOUR,
        ),
        "safety_critical": Preset(
            summary="a full week below weight 1, two days of it at 1 and 5 %, and then a day at weight 1",
            stages=(
                _stage("trial", 0.01, 24, 100, _errors("0.10"), _SAFE),
                _stage("initial", 0.05, 24, 500, _errors("0.05"), _SAFE, _latency("0.30"), _COMPLETION),
                _stage("low_traffic", 0.15, 24, 1000, _errors("0.05"), _SAFE, _latency("0.20"), _COMPLETION),
                _stage("quarter", 0.25, 48, 2000, _errors("0.03"), _SAFE, _latency("0.20"), _COMPLETION),
                _stage("medium_traffic", 0.50, 48, 5000, _errors("0.03"), _SAFE, _latency("0.20"), _COMPLETION),
                _FULL,
            ),
            bake=DAY,
            alpha_promote=0.01,
        ),
    }
)
