"""From what replays show to what a plan should say: margins, durations, the budget of false rollbacks. Pure.

Advice never tightens a tolerance that a person chose and never shortens a stage: it says what history can prove.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agentcanary.calibration.design import ENOUGH_BLOCKS, Design
from agentcanary.calibration.findings import AlphaAdvice, MarginAdvice, MarginPower, StageAdvice
from agentcanary.calibration.history import FloatArray, IntArray
from agentcanary.calibration.rates import Rate, rate_of
from agentcanary.calibration.runs import Runs
from agentcanary.durations import format_duration
from agentcanary.plan import HOUR, Plan
from agentcanary_analysis.cells import BoolArray
from agentcanary_analysis.metrics import Metric

POWER = 0.8


def margin_powers(margins: Sequence[float], runs: Sequence[Runs], criterion: int) -> tuple[MarginPower, ...]:
    """How often each margin of one criterion was proven, the smallest margin first.

    Args:
        margins: One for each of ``runs``.
        runs: Harmless replays that are to prove them.
        criterion: Index of the criterion.
    """
    found = {}
    for margin, run in zip(margins, runs, strict=True):
        proven, even = ~np.isnan(run.safe[:, criterion]), run.block % 2 == 0
        halves = [_rate(proven[half], run.block[half]) for half in (even, ~even)]
        found[margin] = MarginPower(
            margin=margin, proven=rate_of(proven, run.block), chosen_on=halves[0], held_out=halves[1]
        )
    return tuple(found[margin] for margin in sorted(found))


def margin_advice(
    metric: Metric, own: float, criterion: float, powers: Sequence[MarginPower], span: float
) -> MarginAdvice:
    """The margin to take for one metric.

    Args:
        metric: The metric.
        own: The plan's margin to be proven.
        criterion: The plan's rollback margin.
        powers: Of every margin that was tried, the smallest first.
        span: Longest duration of a replay, in seconds.
    """
    chosen = next((one for one in powers if one.chosen_on is not None and one.chosen_on.at_least >= POWER), None)
    name, within = metric.name, f"within {span / HOUR:.0f} h"
    if chosen is None:
        best = powers[-1]
        return MarginAdvice(
            metric=name,
            own=own,
            criterion=criterion,
            smallest=None,
            confirmed=None,
            recommended=own,
            reason=f"kept: even a margin of {best.margin:g} is proven in only {best.proven.share:.0%} "
            f"of the harmless replays {within}, so none can be recommended; a rollout needs more conversations",
        )
    held = chosen.held_out
    confirmed = None if held is None else held.share >= POWER
    shown = f"{chosen.margin:.3g} is proven in {chosen.proven.share:.0%} of the harmless replays {within}"
    if confirmed is False and held is not None:
        reason = f"kept: {shown}, but in only {held.share:.0%} on the days held out, which does not confirm it"
        recommended = own
    elif own >= chosen.margin:
        reason = f"kept: it can be proven, and so could {chosen.margin:.3g}"
        recommended = own
    else:
        mine = next((one for one in powers if one.margin == own), None)
        seldom = "" if mine is None else f"; {own:.3g} in {mine.proven.share:.0%}"
        where = "nothing was held out to confirm it" if held is None else f"{held.share:.0%} on the days held out"
        reason = f"{shown} ({where}){seldom}"
        recommended = chosen.margin
    return MarginAdvice(
        metric=name,
        own=own,
        criterion=max(criterion, recommended),
        smallest=chosen.margin,
        confirmed=confirmed,
        recommended=recommended,
        reason=reason,
    )


def needed_durations(plan: Plan, representative: Mapping[str, int], horizon: float) -> dict[str, tuple[float, str]]:
    """Seconds that a stage must last for a mix of hours and days like the whole week's, and the metric that needs it.

    Only of the stages whose evidence the step to weight 1 rests on: the others guard, and may be short.

    Args:
        plan: The plan.
        representative: Per metric the hours that see such a mix.
        horizon: Longest horizon of what is judged, in seconds: conversations of a stage's end are not counted in it.
    """
    if not representative:
        return {}
    slowest = max(representative, key=lambda name: representative[name])
    needed = float(np.ceil((representative[slowest] * HOUR + horizon) / HOUR) * HOUR)
    return {
        stage.name: (needed, slowest) for stage in plan.stages if stage.weight < 1 and stage.weight == plan.proof_weight
    }


def stage_advice(plan: Plan, harmless: Runs, needed: Mapping[str, tuple[float, str]]) -> tuple[StageAdvice, ...]:
    """How long each stage must last at least.

    Args:
        plan: The plan.
        harmless: Replays without harm, judged by evidence alone.
        needed: From ``needed_durations``.
    """
    found = []
    for number, stage in enumerate(plan.stages):
        hours = None
        if number + 1 < len(plan.stages):
            spent = harmless.entered[:, number + 1] - harmless.entered[:, number]
            hours = float(np.nanmedian(spent)) if np.isfinite(spent).any() else None
        seconds, metric = needed.get(stage.name, (0.0, ""))
        if seconds > stage.duration:
            reason = (
                f"the step to all traffic rests on this stage, and {metric} has a rhythm: {seconds / HOUR:g} h see a "
                f"mix of hours like the whole week's, the horizon included"
            )
        elif metric:
            reason = f"kept: it sees a mix of hours like the whole week's, which needs {seconds / HOUR:g} h"
        elif hours is not None:
            reason = f"kept: harmless replays spent {hours:.1f} h in it"
        else:
            reason = "kept"
        found.append(
            StageAdvice(
                name=stage.name,
                weight=stage.weight,
                own=stage.duration,
                recommended=max(stage.duration, seconds),
                hours=hours,
                reason=reason,
            )
        )
    return tuple(found)


def alpha_advice(plan: Plan, harmless: Runs, rate: Rate, twice_as_bad: Mapping[str, FloatArray]) -> AlphaAdvice:
    """The budget of false rollbacks, and how the metrics would best share it.

    Args:
        plan: The plan.
        harmless: Replays without harm, judged by evidence alone.
        rate: The share of them that was rolled back.
        twice_as_bad: Per metric the largest log e-value of its own in replays twice as bad in it, shape (replays,).
    """
    recommended, reason = plan.alpha, (
        f"kept: {rate.share:.1%} of the harmless replays were rolled back ({rate.low:.1%} to {rate.high:.1%}), "
        f"within the budget of {plan.alpha:.0%}"
    )  # fmt: skip
    if rate.low > plan.alpha:
        reached = float(np.quantile(harmless.log_e, 1 - plan.alpha, method="higher"))
        # Rounded down: with a larger budget the replay with this very e-value would be rolled back too.
        recommended = _rounded_down(min(plan.alpha, float(np.exp(-reached))) * (1 - 1e-9))
        reason = (
            f"{rate.share:.1%} of the harmless replays were rolled back ({rate.low:.1%} to {rate.high:.1%}), more than "
            f"the budget of {plan.alpha:.0%}: conversations are not independent draws here; with this one it is kept"
        )
    shares, caught = best_shares(twice_as_bad, plan.alpha)
    equal = {name: 1 / len(twice_as_bad) for name in twice_as_bad}
    return AlphaAdvice(
        own=plan.alpha,
        recommended=recommended,
        shares=shares,
        caught=caught if shares else None,
        caught_equal=caught_with(equal, twice_as_bad, plan.alpha) if shares else None,
        reason=reason,
    )


def best_shares(log_e: Mapping[str, FloatArray], alpha: float) -> tuple[dict[str, float], float]:
    """Shares of a budget at which the metric that is hardest to catch is caught most often, and how often.

    A metric alone proves harm when its e-value reaches ``1 / (alpha * share)``. The largest share of replays is sought
    that all metrics reach together with shares that sum to one.

    Args:
        log_e: Per metric the largest log e-value of each harmful replay, shape (replays,).
        alpha: The budget.

    >>> best_shares({"hard": np.array([4.0, 4.0]), "easy": np.array([9.0, 9.0])}, 0.05)
    ({'hard': 0.9933, 'easy': 0.0067}, 1.0)
    """
    if not log_e:
        return {}, 0.0
    descending = {name: np.sort(values)[::-1] for name, values in log_e.items()}
    fewest = min(len(values) for values in descending.values())
    for reached in range(fewest, 0, -1):
        # The e-value that so many of the replays reach decides which share is needed at least.
        needed = {
            name: float(np.exp(-values[-(-reached * len(values) // fewest) - 1])) / alpha
            for name, values in descending.items()
        }
        total = sum(needed.values())
        if total <= 1:
            return {name: round(value / total, 4) for name, value in needed.items()}, reached / fewest
    return {}, 0.0


def caught_with(shares: Mapping[str, float], log_e: Mapping[str, FloatArray], alpha: float) -> float:
    """Share of the replays in which the metric that is hardest to catch is caught."""
    return min(float((log_e[name] >= -np.log(alpha * share)).mean()) for name, share in shares.items())


def too_short(design: Design, days: float, per_hour: float) -> tuple[str, ...]:
    """What the history is too short to tell, a sentence each."""
    found = []
    span = format_duration(round(design.span / 60) * 60.0)
    if design.span < design.least:
        found.append(
            f"The history lasts {days * 24:.0f} h and the plan at least {design.least / HOUR:.0f} h: no replay can "
            f"reach its end, and nothing is known of promotions."
        )
    if design.blocks == 1:
        found.append(
            f"The history has one block of days as long as a replay ({span}): how much the figures differ from one "
            f"stretch of days to another is not known, and no recommendation is confirmed on days held out."
        )
    elif design.blocks < ENOUGH_BLOCKS:
        found.append(
            f"The history has {design.blocks} disjoint blocks of {design.block_days:.0f} days, fewer than ten: "
            f"the intervals over blocks are wide and rest on the blocks' being alike."
        )
    if not design.whole_days:
        found.append("The replays could not begin at every hour of the day: the figures are of the hours they had.")
    if days < 2:
        found.append("With less than two days the rhythm of the day is not known.")
    if days < 14:
        found.append("With less than two weeks the rhythm of the week is not known: all days are taken for alike.")
    if per_hour * design.span / HOUR < 1000:
        found.append(
            f"A replay has about {per_hour * design.span / HOUR:.0f} conversations: only very large differences show."
        )
    return tuple(found)


def _rounded_down(number: float) -> float:
    """One digit that counts, never more than the number."""
    digit = 10.0 ** np.floor(np.log10(number))
    return float(f"{np.floor(number / digit) * digit:.1g}")


def _rate(happened: BoolArray, block: IntArray) -> Rate | None:
    return rate_of(happened, block) if len(happened) else None
