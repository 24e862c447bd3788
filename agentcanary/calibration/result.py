"""What a calibration says: as values, a frame, a page, a chart, or a tuned canary.yaml. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentcanary.calibration.findings import (
    AlphaAdvice,
    Detection,
    MarginAdvice,
    MetricFindings,
    StageAdvice,
    detection_dict,
)
from agentcanary.calibration.rates import Rate
from agentcanary.plan import HOUR, Plan
from agentcanary_analysis.metrics import Kind

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """How a plan would have treated canaries in the past, and what it should say.

    Attributes:
        plan: The plan that was calibrated.
        conversations: Of the history.
        days: It covers.
        per_hour: Conversations an hour.
        blocks: Disjoint stretches of days that the replays lie in.
        block_days: Length of each.
        span: Longest duration of a replay, in seconds.
        looks: Looks at a replay that lasts so long.
        false_rollbacks: Harmless replays that were rolled back because harm was proven; safety stops left aside.
        safety_stops: Harmless replays that a violation of the history itself stopped, under the plan's own policy.
        inconclusive: Harmless replays rolled back because the maximum duration passed, under the plan's own policy.
        promoted: Harmless replays that were promoted; safety stops left aside.
        undecided: Those without an end when the replay ended.
        hours_to_promotion: Median hours of those that were promoted; None when none was.
        naive: Harmless replays in which a check, read as a plain comparison of rates at the end of a stage's minimum,
            was beyond its limit: what the same thresholds do without statistics.
        metrics: What is known of each metric.
        stages: How long each stage must last.
        alpha: The budget of false rollbacks.
        unknown: What the history is too short, or too poor, to tell: a sentence each.
        notes: What was left out, missing or taken for granted: a sentence each.
    """

    plan: Plan
    conversations: int
    days: float
    per_hour: float
    blocks: int
    block_days: float
    span: float
    looks: int
    false_rollbacks: Rate
    safety_stops: Rate
    inconclusive: Rate
    promoted: Rate
    undecided: Rate
    hours_to_promotion: float | None
    naive: Rate
    metrics: tuple[MetricFindings, ...]
    stages: tuple[StageAdvice, ...]
    alpha: AlphaAdvice
    unknown: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def replays(self) -> int:
        """Harmless rollouts that were replayed."""
        return self.false_rollbacks.replays

    @property
    def margins(self) -> tuple[MarginAdvice, ...]:
        """What margin to take for each metric that has a criterion."""
        return tuple(one.advice for one in self.metrics if one.advice is not None)

    @property
    def recommended(self) -> dict[str, Any]:
        """What the plan should say: ``margins`` by metric, ``durations`` by stage in seconds, ``alpha``."""
        return {
            "margins": {one.metric: one.recommended for one in self.margins},
            "durations": {one.name: one.recommended for one in self.stages},
            "alpha": self.alpha.recommended,
        }

    @property
    def detection(self) -> tuple[Detection, ...]:
        """The harmless replays, then every injected harm."""
        return (
            Detection(
                metric=None,
                ratio=1.0,
                tolerated=True,
                rolled_back=self.false_rollbacks,
                promoted=self.promoted,
                hours=None,
            ),
            *(found for one in self.metrics for found in one.detection),
        )

    def metric(self, name: str) -> MetricFindings:
        """What is known of one metric.

        Raises:
            KeyError: If it has no values in the history.
        """
        for one in self.metrics:
            if one.metric.name == name:
                return one
        raise KeyError(f"nothing is known of {name!r}, only of {', '.join(one.metric.name for one in self.metrics)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. Shares are shares; times are hours where the name says so."""
        return {
            "history": {
                "conversations": self.conversations,
                "days": self.days,
                "conversations_per_hour": self.per_hour,
            },
            "replays": {
                "number": self.replays,
                "longest_hours": self.span / HOUR,
                "blocks": self.blocks,
                "block_days": self.block_days,
                "looks": self.looks,
            },
            "false_rollbacks": self.false_rollbacks.to_dict(),
            "safety_stops": self.safety_stops.to_dict(),
            "inconclusive": self.inconclusive.to_dict(),
            "promoted": self.promoted.to_dict(),
            "undecided": self.undecided.to_dict(),
            "median_hours_to_promotion": self.hours_to_promotion,
            "plain_comparison": self.naive.to_dict(),
            "detection": [detection_dict(one) for one in self.detection],
            "metrics": [one.to_dict() for one in self.metrics],
            "recommended": {
                "margins": [
                    {
                        "metric": one.metric,
                        "own": one.own,
                        "smallest": one.smallest,
                        "confirmed": one.confirmed,
                        "recommended": one.recommended,
                        "reason": one.reason,
                    }
                    for one in self.margins
                ],
                "stages": [
                    {
                        "name": one.name,
                        "own_hours": one.own / HOUR,
                        "recommended_hours": one.recommended / HOUR,
                        "replayed_hours": one.hours,
                        "reason": one.reason,
                    }
                    for one in self.stages
                ],
                "alpha": {
                    "own": self.alpha.own,
                    "recommended": self.alpha.recommended,
                    "split": self.alpha.shares,
                    "caught": self.alpha.caught,
                    "caught_with_equal_shares": self.alpha.caught_equal,
                    "reason": self.alpha.reason,
                },
            },
            "unknown": list(self.unknown),
            "notes": list(self.notes),
        }

    def to_frame(self, view: str = "detection") -> pd.DataFrame:
        """One view of it, a row each.

        Args:
            view: ``detection`` (injected harms, the harmless first), ``margins``, ``metrics``, ``stages`` or
                ``rhythm`` (each metric by hour of the day and day of the week).

        Raises:
            ValueError: If there is no such view.
        """
        import pandas as pd

        from agentcanary.calibration.views import VIEWS

        if view not in VIEWS:
            raise ValueError(f"there is no view {view!r}; views are {', '.join(VIEWS)}")
        return pd.DataFrame(VIEWS[view](self))

    def to_yaml(self, text: str = "") -> str:
        """The plan as recommended, with the reasons as comments.

        Args:
            text: The canary.yaml to start from: its other keys and its comments are kept. Without one, only what is
                recommended is written.
        """
        from agentcanary.calibration.tuning import tuned_yaml

        return tuned_yaml(self, text)

    def plot(self, view: str = "detection", *, metric: str | None = None, theme: str = "light") -> alt.LayerChart:
        """A chart; needs the extra ``charts``.

        Args:
            view: ``detection`` (how often harm is found), ``hours`` or ``weekdays`` (a metric's rhythm).
            metric: Which one; else the first.
            theme: ``light`` or ``dark``.

        Raises:
            ValueError: If there is no such view.
        """
        from agentcanary.calibration.pictures import picture

        return picture(self, view, metric=metric, theme=theme)

    def sentences(self) -> tuple[str, ...]:
        """The outcome in words, the most important first."""
        false, naive = self.false_rollbacks, self.naive
        rolled_back = (
            f"Of {self.replays} harmless rollouts replayed from {self.days:.1f} days of history, {false.share:.1%} "
            f"were rolled back ({false.low:.1%} to {false.high:.1%}; promised: at most {self.plan.alpha:.0%})."
        )
        promoted = f"{self.promoted.share:.0%} were promoted"
        if self.hours_to_promotion is not None:
            promoted += f", half of them within {self.hours_to_promotion:.0f} h"
        found = [
            rolled_back,
            f"The same checks read as plain comparisons would have rolled back {naive.share:.0%} of them.",
            f"{promoted}; {self.undecided.share:.0%} were undecided after {self.span / HOUR:.0f} h.",
        ]
        if self.safety_stops.count:
            found.append(
                f"{self.safety_stops.share:.0%} would have been stopped by a safety violation, though the version was "
                f"stable itself."
            )
        return tuple(found)

    def _repr_html_(self) -> str:
        from agentcanary.calibration.page import page

        return page(self)


def meaning(found: MetricFindings) -> str:
    """What the values of a metric's rhythm are: for a quantile, the share that lies beyond it."""
    if found.metric.kind is not Kind.QUANTILE:
        return found.metric.name
    return f"beyond the whole history's {found.metric.name}"
