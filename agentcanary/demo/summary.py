"""Everything that the demo knows in the end, and its form as JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from agentcanary.demo.results import Result
from agentcanary.demo.stickiness import Stickiness
from agentcanary.demo.timing import Timing
from agentcanary.demo.turns import SeenTurn
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything that is known in the end.

    Attributes:
        results: One for each rollout.
        turns: What users saw.
        timing: How the two clocks belong together.
        began_at: Unix time on the accelerated clock at which the first rollout began.
        seconds: Real seconds that the demo took.
        folder: Where everything is kept.
        degraded: Failures of agentcanary itself, by kind.
    """

    results: Sequence[Result]
    turns: Sequence[SeenTurn]
    timing: Timing
    began_at: float
    seconds: float
    folder: str
    degraded: Mapping[str, int]

    def real_seconds(self, at: float) -> float:
        """Real seconds from the first rollout's beginning to a time on the accelerated clock."""
        return (at - self.began_at) / self.timing.speed

    @property
    def stickiness(self) -> Stickiness:
        """Of all conversations."""
        return reduce(add, (result.stickiness for result in self.results), Stickiness())

    @property
    def why_not(self) -> list[str]:
        """What is not as promised, a sentence each."""
        found = [f"{result.scenario.name}: {sentence}" for result in self.results for sentence in result.why_not]
        if self.unanswered > 0.01 * self.requests:
            found.append(
                f"{self.unanswered:,} of {self.requests:,} requests got no answer in time: a machine "
                "that is busy with other things cannot keep up; load.log and server.log say more"
            )
        return found

    @property
    def passed(self) -> bool:
        """True when everything came out as promised."""
        return not self.why_not

    @property
    def requests(self) -> int:
        """Requests sent."""
        return len(self.turns)

    @property
    def streamed(self) -> int:
        """Those answered by server-sent events."""
        return sum(turn.streams for turn in self.turns)

    @property
    def failed(self) -> int:
        """Those that the stand-in failed: status 500, or a stream that broke off."""
        return sum(turn.failed and turn.version != "" for turn in self.turns)

    @property
    def unanswered(self) -> int:
        """Those without a response, or with one that does not come from the stand-in."""
        return sum(turn.version == "" for turn in self.turns)

    @property
    def violated(self) -> str:
        """The conversation with the safety violation; empty when there was none."""
        return next((turn.conversation for turn in self.turns if turn.violation_at is not None), "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. Times are hours on the accelerated clock, or real seconds, since the beginning."""
        return {
            "passed": self.passed,
            "why_not": self.why_not,
            "seconds": round(self.seconds, 1),
            "speed": self.timing.speed,
            "folder": self.folder,
            "rollouts": [self._result(result) for result in self.results],
            "stickiness": _stickiness(self.stickiness),
            "requests": {
                "sent": self.requests,
                "streamed": self.streamed,
                "failed": self.failed,
                "unanswered": self.unanswered,
            },
            "degraded": dict(self.degraded),
        }

    def _result(self, result: Result) -> dict[str, Any]:
        rollout, stop, rule = result.rollout, result.stop, result.rule
        ended_at = None if rollout is None else rollout.ended_at
        return {
            "agent": result.scenario.name,
            "promised": result.scenario.promise.value,
            "as_promised": not result.why_not,
            "why_not": list(result.why_not),
            "rollout": None if rollout is None else rollout.id,
            "phase": None if rollout is None else rollout.phase.value,
            "stage": None if rollout is None else rollout.current_stage.name,
            "cause": None if rollout is None else rollout.cause,
            "reason": None if rollout is None else rollout.reason,
            "ended_after_hours": None if ended_at is None else (ended_at - self.began_at) / 3600,
            "ended_after_seconds": None if ended_at is None else self.real_seconds(ended_at),
            "conversations": {arm.value: result.counted[arm] for arm in Arm},
            "criteria": [_evidence(found) for found in result.findings.evidence],
            "harm": {
                "log_e": _number(result.findings.log_e_harm),
                "log_needed": result.findings.log_e_harm_boundary,
            },
            "stickiness": _stickiness(result.stickiness),
            "violation_to_last_canary_turn_ms": None if stop is None else stop.seconds * 1000,
            "canary_turns_after_violation": None if stop is None else stop.after,
            "rule_of_thumb": {
                "looks": rule.looks,
                "would_roll_back_at": rule.beyond,
                "first_after_hours": None if rule.first_at is None else (rule.first_at - self.began_at) / 3600,
            },
        }


def _stickiness(found: Stickiness) -> dict[str, Any]:
    return {
        "conversations": found.conversations,
        "kept": found.kept,
        "across_a_weight_change": found.across_a_change,
        "moved_by_a_rollback": found.moved,
        "broken": list(found.broken),
        "in_both_workers": found.both_workers,
        "share_kept": found.share,
    }


def _evidence(found: Evidence) -> dict[str, Any]:
    interval = found.interval
    return {
        "metric": found.metric,
        "status": found.status.value,
        "stable": None if found.stable is None else _number(found.stable.value),
        "canary": None if found.canary is None else _number(found.canary.value),
        "relative_change": _number(found.relative_change),
        "interval": None if interval is None else [_number(interval.low), _number(interval.high)],
        "log_e_harm": _number(found.log_e_harm),
        "log_e_safe": _number(found.log_e_safe),
        "needs": found.needs,
    }


def _number(value: float | None) -> float | str | None:
    """A number as JSON can hold it."""
    return value if value is None or math.isfinite(value) else str(value)
