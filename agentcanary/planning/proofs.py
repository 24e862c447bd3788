"""What each stage and check can prove, by the formulas of one look at the end of the stage. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from agentcanary.plan import Advance, Stage
from agentcanary.planning.expectations import Expectations, Expected
from agentcanary_analysis.checks import Boundary, Check
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.power import Provable, can_prove, canary_units_needed, hours_to_decide
from agentcanary_analysis.proportion_intervals import clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion

POWER = 0.8
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What one check can prove by the end of its stage.

    A ratio is that of the metric's values, canary over stable, and stands for the line ``ratio × stable ± floor``.

    Attributes:
        check: The check.
        stable: Value of stable; None for a count.
        line: The check's boundary; None for a count.
        detectable_ratio: The canary nearest to stable that is shown to be worse, by more than the floor, with a chance
            of 80 %; None: not even the worst one is.
        certifiable_ratio: The tightest margin within which a canary like stable is shown to be, with the same chance;
            None: within none.
        needed: Canary conversations after which it is shown to be within this check; None: never.
        hours: Hours of the stage until then; None for never.
        decidable: The stage has as many conversations: the check can be proven in it.
        upper_limit: For a count: the share of conversations that no event at all still leaves possible, at level 95 %.
    """

    check: Check
    stable: float | None = None
    line: Boundary | None = None
    detectable_ratio: float | None = None
    certifiable_ratio: float | None = None
    needed: float | None = None
    hours: float | None = None
    decidable: bool = True
    upper_limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProof:
    """What one stage can prove.

    Attributes:
        stage: The stage.
        hours: How long it lasts, at least: its duration, or until its minimum of conversations is counted.
        conversations: Canary conversations counted by then.
        waits: It lasts longer than its duration, because it waits for its minimum of conversations.
        checks: One entry a check.
    """

    stage: Stage
    hours: float
    conversations: int
    waits: bool
    checks: tuple[Proof, ...]

    @property
    def asks_for_proof(self) -> bool:
        """The step is not taken before every check is proven."""
        return self.stage.advance is Advance.PROVEN


def stage_proofs(expectations: Expectations) -> tuple[StageProof, ...]:
    """What every stage can prove.

    Raises:
        ValueError: If ``alpha`` of the plan is 0.5 or more, which proves nothing.

    >>> from agentcanary.plan import Plan
    >>> from agentcanary.planning.expectations import expect
    >>> from agentcanary.presets import PRESETS
    >>> plan = Plan(stages=PRESETS["standard"].stages)
    >>> first = stage_proofs(expect(plan, conversations_per_hour=200, stable={}))[0]
    >>> first.conversations, round(first.hours, 1), round(first.checks[0].certifiable_ratio, 2)
    (50, 5.5, 3.4)
    """
    return tuple(_stage_proof(stage, expectations) for stage in expectations.plan.stages)


def _stage_proof(stage: Stage, expectations: Expectations) -> StageProof:
    plan, rate = expectations.plan, expectations.conversations_per_hour
    horizon = max((plan.metric(name).horizon for name in expectations.metrics), default=0.0) / 3600
    lasts = (max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration) / 3600
    begun = int(rate * stage.weight * max(lasts - horizon, 0.0))
    waits = stage.weight > 0 and begun < stage.min_conversations
    units = max(begun, stage.min_conversations)
    if waits:
        lasts = hours_to_decide(units, stage.weight, rate, horizon=3600 * horizon)
    return StageProof(
        stage=stage,
        hours=lasts,
        conversations=units,
        waits=waits,
        checks=tuple(_proof(check, stage, units, expectations) for check in stage.checks),
    )


def _proof(check: Check, stage: Stage, units: int, expectations: Expectations) -> Proof:
    plan = expectations.plan
    metric = plan.metric(check.metric)
    if metric.kind is Kind.COUNT:
        limit = clopper_pearson_upper(Proportion(0, units)) if units else None
        return Proof(check=check, upper_limit=limit if isinstance(limit, float) else None)
    expected, line = expectations.metrics[metric.name], check.boundary(metric)
    if not 0 < stage.weight < 1:
        return Proof(check=check, stable=expected.stable, line=line, decidable=False)
    needed = _needed(metric, expected, line, stage.weight, plan.alpha)
    hours = None
    if needed is not None:
        hours = hours_to_decide(needed, stage.weight, expectations.conversations_per_hour, horizon=metric.horizon)
    found = Provable(detectable_ratio=None, certifiable_ratio=None)
    if units:
        found = _provable(metric, expected, units, stage.weight, plan.alpha)
    return Proof(
        check=check,
        stable=expected.stable,
        line=line,
        detectable_ratio=found.detectable_ratio,
        certifiable_ratio=found.certifiable_ratio,
        needed=needed,
        hours=hours,
        decidable=needed is not None and needed <= units,
    )


def _provable(metric: Metric, expected: Expected, units: int, weight: float, alpha: float) -> Provable:
    match metric.kind:
        case Kind.PROPORTION:
            up = metric.direction is Direction.UP_IS_WORSE
            if metric.floor >= (1 - expected.stable if up else expected.stable):
                # No canary can be beyond the floor.
                return Provable(detectable_ratio=None, certifiable_ratio=1.0)
            return can_prove(
                expected.stable,
                units,
                weight,
                alpha=alpha,
                power=POWER,
                floor=metric.floor,
                direction=metric.direction,
            )
        case Kind.QUANTILE:
            return _quantile(metric, expected, units, weight, alpha)
        case Kind.MEAN | Kind.RATIO:
            return _mean(metric, expected, units, weight, alpha)
        case _:
            raise ValueError(f"{metric.name} is a {metric.kind.value}: it is reported, and nothing is proven of it")


def _quantile(metric: Metric, expected: Expected, units: int, weight: float, alpha: float) -> Provable:
    """By exceedances of stable's quantile: lognormal values turn a ratio of those into one of quantiles."""
    share, up = _exceeding(metric), metric.direction is Direction.UP_IS_WORSE
    opposite = Direction.DOWN_IS_WORSE if up else Direction.UP_IS_WORSE

    def moved(direction: Direction) -> float | None:
        """The factor on the values at which the share beyond the quantile is shown to have moved this way."""
        found = can_prove(share, units, weight, alpha=alpha, power=POWER, direction=direction).detectable_ratio
        if found is None or not 0 < found * share < 1:
            return None
        return math.exp(expected.spread * float(ndtri(found * share) - ndtri(share)))

    worse, better = moved(metric.direction), moved(opposite)
    sign = 1 if up else -1
    floor = 1 + sign * metric.floor / expected.stable
    certified = None if better is None else 1 / better - sign * metric.floor / expected.stable
    if certified is not None:
        certified = max(certified, 1.0) if up else min(certified, 1.0)
    return Provable(
        detectable_ratio=None if worse is None or floor <= 0 else worse * floor, certifiable_ratio=certified
    )


def _mean(metric: Metric, expected: Expected, units: int, weight: float, alpha: float) -> Provable:
    """By the normal approximation, with the same spread in both arms."""
    value, spread = expected.stable, expected.spread
    others = units * (1 - weight) / weight
    reach = _quantiles(alpha) * spread
    sign = 1 if metric.direction is Direction.UP_IS_WORSE else -1
    detectable = 1 + sign * (reach * math.sqrt(1 / units + 1 / others) + metric.floor) / value

    def excess(ratio: float) -> float:
        distance = sign * (ratio - 1) * value + metric.floor
        return distance - reach * math.sqrt(1 / units + ratio**2 / others)

    certifiable = None
    farthest = _FARTHEST if sign > 0 else 0.0
    if excess(1.0) >= 0:
        certifiable = 1.0
    elif excess(farthest) > 0:
        certifiable = float(brentq(excess, 1.0, farthest))
    return Provable(detectable_ratio=detectable if detectable > 0 else None, certifiable_ratio=certifiable)


def _needed(metric: Metric, expected: Expected, line: Boundary, weight: float, alpha: float) -> float | None:
    """Canary conversations until a canary like stable is shown to be within the line."""
    value = expected.stable
    if metric.kind in (Kind.MEAN, Kind.RATIO):
        distance = abs(line.at(value) - value)
        if distance == 0:
            return None
        error = expected.spread**2 * (1 + line.ratio**2 * weight / (1 - weight))
        return max((_quantiles(alpha) / distance) ** 2 * error, 1.0)
    rate = value
    if metric.kind is Kind.QUANTILE:
        if line.at(value) <= 0:
            return 1.0  # no canary can be beyond the floor
        share = _exceeding(metric)
        away = math.log(line.at(value) / value) / expected.spread
        rate, value = float(ndtr(ndtri(share) - away)), share
        line = replace(line, ratio=1.0, floor=0.0)
        if not 0 < rate < 1:
            return None
    elif not 0 < line.at(value) < 1:
        return 1.0  # no canary can be beyond the line
    needed = canary_units_needed(rate, value, weight, line, claim=Claim.WITHIN, alpha=alpha, power=POWER)
    return None if needed is None else max(needed, 1.0)


def _exceeding(metric: Metric) -> float:
    if metric.quantile is None:
        raise ValueError(f"{metric.name} has no quantile")
    return 1 - metric.quantile


def _quantiles(alpha: float) -> float:
    return float(ndtri(1 - alpha) + ndtri(POWER))
