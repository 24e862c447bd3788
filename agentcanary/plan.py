"""What a rollout is going to do: its stages, its criteria and its policies. Pure.

The plan of a running rollout is the stored one. ``to_dict`` and ``plan_from_dict`` are its stored form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from agentcanary.freeze import FreezeWindow, freeze_window_from_dict
from agentcanary_analysis.checks import Boundary, Check, relative_boundary
from agentcanary_analysis.metrics import (
    BUILT_IN,
    ERROR_RATE,
    P95_LATENCY,
    TASK_COMPLETION_RATE,
    Direction,
    Kind,
    Metric,
)

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


class Advance(StrEnum):
    """What a stage asks of its checks before the next step."""

    QUIET = "quiet"
    PROVEN = "proven"


class OnInconclusive(StrEnum):
    """What happens when the maximum duration passes without a decision."""

    HOLD = "hold"
    ROLLBACK = "rollback"
    PAUSE = "pause"


class OnFail(StrEnum):
    """What proven harm of one metric leads to."""

    ROLLBACK = "rollback"
    PAUSE = "pause"
    WARN = "warn"


class Pinned(StrEnum):
    """What happens to conversations on a version that is taken back."""

    SWITCH = "switch"
    FINISH = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """The rollback boundary of a metric, fixed for the life of a rollout.

    Attributes:
        metric: Name of the metric.
        margin: How much worse than stable is tolerated, relative: 0.10 is 10 %.
    """

    metric: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the plan.

    Attributes:
        name: Unique within the plan.
        weight: Share of new conversations for the canary, in [0, 1].
        duration: Seconds that it lasts at least.
        min_conversations: Counted canary conversations, begun in the stage, that it needs at least.
        checks: Its thresholds.
        auto_rollback: False turns a rollback for harm into a pause. It never disarms a safety stop.
        advance: Whether its checks must be proven, or only not suspect.
    """

    name: str
    weight: float
    duration: float
    min_conversations: int = 0
    checks: tuple[Check, ...] = ()
    auto_rollback: bool = True
    advance: Advance = Advance.QUIET

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight of stage {self.name!r} must be between 0 and 1, got {self.weight}")
        if not self.duration >= 0 or self.min_conversations < 0:
            raise ValueError(
                f"stage {self.name!r} needs a duration and min_conversations of 0 or more, "
                f"got {self.duration} s and {self.min_conversations}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Stages, criteria and policies of a rollout. All durations are seconds.

    Attributes:
        stages: Weights rise from stage to stage; the last one has weight 1.
        criteria: The rollback boundaries.
        promotion: Tighter margins that must be proven before the step to weight 1; a metric that is not named here is
            proven against its criterion.
        dry_run: Criteria of metrics that only warn: they are judged, told and shown, and decide nothing.
        metrics: Every metric that a criterion or a check may name.
        on_fail: Per metric what proven harm leads to; a metric that is not named rolls back. The checks of one that
            only warns hold nothing.
        alpha: Budget for ever rolling back, on evidence, a canary that is within every boundary.
        alpha_promote: Budget for ever promoting one that is beyond some boundary.
        max_safety_violations: Confirmed violations on the canary that are tolerated; one more stops it.
        max_violation_rate: Share of conversations with a violation that must be ruled out before the step to weight 1;
            None: by policy alone.
        max_duration: After this long without a decision ``on_inconclusive`` applies; None for never.
        on_inconclusive: See ``OnInconclusive``.
        bake: Least time at weight 1 before the promotion.
        freeze: Windows in which no step forward is taken.
        drain_after: Longest time that a version left behind serves its live conversations.
        idle_after: A conversation without a turn for this long has ended.
        pinned: Per cause (``safety``, ``harm``, ``manual``) what becomes of pinned conversations.
        sticky: False when every request is its own unit.
        sticky_by: ``conversation`` or ``user``: whose hash decides.
    """

    stages: tuple[Stage, ...]
    criteria: tuple[Criterion, ...] = ()
    promotion: tuple[Criterion, ...] = ()
    dry_run: tuple[Criterion, ...] = ()
    metrics: tuple[Metric, ...] = BUILT_IN
    on_fail: Mapping[str, OnFail] = field(default_factory=dict)
    alpha: float = 0.05
    alpha_promote: float = 0.05
    max_safety_violations: int = 0
    max_violation_rate: float | None = None
    max_duration: float | None = None
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    bake: float = 30 * MINUTE
    freeze: tuple[FreezeWindow, ...] = ()
    drain_after: float = DAY
    idle_after: float = 30 * MINUTE
    pinned: Mapping[str, Pinned] = field(
        default_factory=lambda: {"safety": Pinned.SWITCH, "harm": Pinned.SWITCH, "manual": Pinned.FINISH}
    )
    sticky: bool = True
    sticky_by: str = "conversation"

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        weights = [stage.weight for stage in self.stages]
        if weights != sorted(weights):
            raise ValueError(f"weights must not fall from stage to stage, got {weights}")
        if weights[-1] != 1:
            raise ValueError(f"the last stage must have weight 1, got {weights[-1]}")
        if not (0 < self.alpha < 0.5 and 0 < self.alpha_promote < 0.5):
            raise ValueError(
                f"alpha must be between 0 and 0.5, got {self.alpha} and {self.alpha_promote} (write 0.05 for 5 %)"
            )
        if self.max_violation_rate is not None and not 0 < self.max_violation_rate < 1:
            raise ValueError(f"max_violation_rate must be between 0 and 1, got {self.max_violation_rate}")
        known = {metric.name for metric in self.metrics}
        named = [*(c.metric for c in (*self.criteria, *self.promotion, *self.dry_run)), *self.on_fail]
        for name in named + [c.metric for s in self.stages for c in s.checks]:
            if name not in known:
                raise ValueError(f"the plan names the metric {name!r}, which it does not define")
        deciding = {criterion.metric for criterion in self.criteria}
        for name in known:
            if self.only_warns(name) and (name in deciding or self.metric(name).kind is Kind.COUNT):
                raise ValueError(f"{name} only warns: its criterion belongs into dry_run, and a count cannot only warn")
        for criterion in self.dry_run:
            if not self.only_warns(criterion.metric):
                raise ValueError(f"the criterion of {criterion.metric} in dry_run needs on_fail: warn")
        margins = {criterion.metric: criterion.margin for criterion in self.criteria}
        for tighter in self.promotion:
            if tighter.metric not in margins or tighter.margin > margins[tighter.metric]:
                raise ValueError(
                    f"the promotion margin of {tighter.metric} must be within its criterion, got {tighter.margin} "
                    f"against {margins.get(tighter.metric)}"
                )

    def metric(self, name: str) -> Metric:
        """The metric of that name."""
        return next(metric for metric in self.metrics if metric.name == name)

    def only_warns(self, metric: str) -> bool:
        """True when a metric of that name decides nothing."""
        return self.on_fail.get(metric) is OnFail.WARN

    def boundary(self, criterion: Criterion) -> Boundary:
        """The line that a criterion draws, its metric's floor included."""
        return relative_boundary(self.metric(criterion.metric), criterion.margin)

    def to_prove(self, criterion: Criterion) -> Criterion:
        """What must be proven of a metric before the step to weight 1: the tighter margin, where there is one."""
        return next((tighter for tighter in self.promotion if tighter.metric == criterion.metric), criterion)

    @property
    def proof_weight(self) -> float:
        """The largest weight below 1: ``safe`` is asked on epochs of this weight. 0 when every stage is at 1."""
        return max((stage.weight for stage in self.stages if stage.weight < 1), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


DEFAULT_CRITERIA = (
    Criterion(metric=ERROR_RATE.name, margin=0.10),
    Criterion(metric=TASK_COMPLETION_RATE.name, margin=0.05),
    Criterion(metric=P95_LATENCY.name, margin=0.50),
)
DEFAULT_PROMOTION = (Criterion(metric=TASK_COMPLETION_RATE.name, margin=0.02),)


def plan_from_dict(stored: Mapping[str, Any]) -> Plan:
    """The plan that ``Plan.to_dict`` stored."""
    stages = tuple(
        Stage(
            **{
                **stage,
                "checks": tuple(Check(**check) for check in stage["checks"]),
                "advance": Advance(stage["advance"]),
            }
        )
        for stage in stored["stages"]
    )
    metrics = tuple(
        Metric(**{**metric, "kind": Kind(metric["kind"]), "direction": Direction(metric["direction"])})
        for metric in stored["metrics"]
    )
    return Plan(
        **{
            **stored,
            "stages": stages,
            "metrics": metrics,
            "criteria": tuple(Criterion(**criterion) for criterion in stored["criteria"]),
            "promotion": tuple(Criterion(**criterion) for criterion in stored["promotion"]),
            # Plans that were stored before these keys were known are without them.
            "dry_run": tuple(Criterion(**criterion) for criterion in stored.get("dry_run", ())),
            "on_fail": {name: OnFail(policy) for name, policy in stored.get("on_fail", {}).items()},
            "freeze": tuple(freeze_window_from_dict(window) for window in stored.get("freeze", ())),
            "on_inconclusive": OnInconclusive(stored["on_inconclusive"]),
            "pinned": {cause: Pinned(policy) for cause, policy in stored["pinned"].items()},
        }
    )
