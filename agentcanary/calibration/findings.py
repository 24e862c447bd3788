"""What a calibration finds, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentcanary.calibration.rates import Rate
from agentcanary_analysis.metrics import Metric
from agentcanary_analysis.variance import Dispersion, Rhythm


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What became of replays with an injected harm.

    Attributes:
        metric: In which metric; None for none at all.
        ratio: How many times as bad: of the failures, or of the values of what is no proportion.
        tolerated: It is within the rollback boundary, so that it shall not be rolled back.
        rolled_back: Rolled back because harm was proven.
        promoted: Promoted.
        hours: Median hours until those that were rolled back were; None when none was.
    """

    metric: str | None
    ratio: float
    tolerated: bool
    rolled_back: Rate
    promoted: Rate
    hours: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginPower:
    """How often a harmless canary is proven to be within a margin.

    Attributes:
        margin: Relative to stable, with the metric's floor.
        proven: In all replays.
        chosen_on: In the replays of every second block, on which the recommendation is chosen; None without any.
        held_out: In the others, which confirm it; None without any.
    """

    margin: float
    proven: Rate
    chosen_on: Rate | None
    held_out: Rate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginAdvice:
    """What margin of a metric a rollout can prove.

    Attributes:
        metric: Its name.
        own: The plan's: what the step to weight 1 asks to be proven.
        criterion: The plan's rollback margin, at least ``own``.
        smallest: The smallest that is proven of a harmless canary in 80 % of the replays (lower limit on one half of
            the blocks); None where none is.
        confirmed: 80 % of the replays of the held-out blocks prove it too; None where nothing was held out.
        recommended: ``own`` where that is no smaller than ``smallest``, else ``smallest``; ``own`` where nothing is
            known or confirmed.
        reason: Why, in words.
    """

    metric: str
    own: float
    criterion: float
    smallest: float | None
    confirmed: bool | None
    recommended: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageAdvice:
    """How long a stage must last at least.

    Attributes:
        name: Of the stage.
        weight: Of the canary.
        own: The plan's duration in seconds.
        recommended: In seconds, never shorter.
        hours: Median hours that harmless replays spent in it, of those that left it; None when none did.
        reason: Why, in words.
    """

    name: str
    weight: float
    own: float
    recommended: float
    hours: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaAdvice:
    """What budget of false rollbacks keeps its promise on this history, and how the metrics would best share it.

    Attributes:
        own: The plan's.
        recommended: The same, or less where the history shows more false rollbacks than promised.
        shares: Per metric its share of the budget at which a canary twice as bad in any one metric is caught most
            surely; empty where nothing is known.
        caught: Share of the replays that catch the hardest of them with those shares.
        caught_equal: The same with equal shares, which is what the engine spends.
        reason: Why, in words.
    """

    own: float
    recommended: float
    shares: dict[str, float]
    caught: float | None
    caught_equal: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricFindings:
    """What history says of one metric.

    Attributes:
        metric: The metric.
        value: Rate, mean or quantile over all of the history.
        observed: Conversations with a value.
        limit: The rollback boundary at that value; None without a criterion.
        false_rollbacks: Harmless replays that were rolled back with this metric as the strongest evidence.
        by_day: Variance between days over what chance explains; None where it cannot be known.
        by_hour: The same between hours.
        split: Variance of the z statistics of splits by hash; 1 when the split is as random as assumed.
        design_effect: How many conversations count as one if users are drawn; None without users.
        hours: By hour of the day.
        weekdays: By day of the week; None with less than two weeks.
        representative_hours: How long a stage must last for a mix of hours and days like the whole week's, to half of
            the distance to the boundary; None where the rhythm is not known.
        detection: Injected harms, by ratio.
        margins: Margins to be proven, the smallest first.
        advice: What margin to take; None without a criterion.
    """

    metric: Metric
    value: float
    observed: int
    limit: float | None
    false_rollbacks: int
    by_day: Dispersion | None
    by_hour: Dispersion | None
    split: Dispersion | None
    design_effect: float | None
    hours: Rhythm | None
    weekdays: Rhythm | None
    representative_hours: int | None
    detection: tuple[Detection, ...]
    margins: tuple[MarginPower, ...]
    advice: MarginAdvice | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "metric": self.metric.name,
            "kind": self.metric.kind.value,
            "value": self.value,
            "observed": self.observed,
            "limit": self.limit,
            "false_rollbacks": self.false_rollbacks,
            "over_dispersion": {"day": _dispersion(self.by_day), "hour": _dispersion(self.by_hour)},
            "split_z_variance": _dispersion(self.split),
            "design_effect": self.design_effect,
            "hour_of_day": _rhythm(self.hours),
            "day_of_week": _rhythm(self.weekdays),
            "representative_hours": self.representative_hours,
            "detection": [detection_dict(one) for one in self.detection],
            "margins": [
                {
                    "margin": one.margin,
                    "proven": one.proven.to_dict(),
                    "held_out": None if one.held_out is None else one.held_out.to_dict(),
                }
                for one in self.margins
            ],
        }


def detection_dict(found: Detection) -> dict[str, Any]:
    """Plain values, for JSON."""
    return {
        "metric": found.metric,
        "ratio": found.ratio,
        "tolerated": found.tolerated,
        "rolled_back": found.rolled_back.to_dict(),
        "promoted": found.promoted.to_dict(),
        "median_hours_to_rollback": found.hours,
    }


def _dispersion(found: Dispersion | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()


def _rhythm(found: Rhythm | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "values": [None if value != value else value for value in found.values.tolist()],  # NaN
        "conversations": [int(units) for units in found.units],
        "spread": found.spread,
        "p_value": found.p_value,
    }
