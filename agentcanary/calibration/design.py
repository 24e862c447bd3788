"""Where in history the replays begin, how long they may last and when they are looked at. Pure: rng is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from agentcanary.calibration.history import DAY, FloatArray, History
from agentcanary.plan import HOUR, Plan
from agentcanary_analysis.metrics import Kind

ENOUGH_BLOCKS = 10
_LONGEST = 3.0  # times the plan's least duration, as in a forecast
_SHARE = 1 / 3  # of the history, so that there are blocks to compare
_FIRST_LOOKS = 120
_LOOK_GROWTH = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replayed rollout.

    Attributes:
        start: Unix seconds.
        block: Number of the block that it lies in, wholly.
        salt: Of the hash that splits its conversations.
    """

    start: float
    block: int
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """All replays of a calibration.

    Attributes:
        replays: In the order of their blocks.
        blocks: Disjoint stretches of whole days; no replay crosses from one to another.
        block_days: Length of each.
        span: Longest duration of a replay, in seconds.
        looks: When it is looked at, seconds since its start, ascending, the last one at ``span``.
        least: What the plan lasts at least, in seconds.
        whole_days: Every hour of the day can begin a replay.
    """

    replays: tuple[Replay, ...]
    blocks: int
    block_days: float
    span: float
    looks: FloatArray
    least: float
    whole_days: bool


def design_of(
    history: History,
    plan: Plan,
    *,
    replays: int,
    rng: np.random.Generator,
    longest: float | None = None,
    needed: float = 0.0,
) -> Design:
    """Replays at random times, equally many in each block.

    Args:
        history: What is replayed.
        plan: What is calibrated.
        replays: How many.
        rng: Source of the starts and salts.
        longest: Seconds after which a replay ends; None: the plan's maximum duration, or three times its least, but
            not more than a third of the history, if that is enough for the plan.
        needed: Least duration of the plan as it will be recommended, in seconds.
    """
    total = float(history.times[-1] - history.times[0])
    # A history of so many days begins and ends a moment after and before midnight.
    whole = total + HOUR
    least = least_duration(plan)
    if longest is None:
        if plan.max_duration is not None:
            wanted = plan.max_duration + plan.bake
        else:
            wanted = min(_LONGEST * max(least, needed), max(total * _SHARE, least + 2 * HOUR))
    else:
        wanted = longest
    span = min(wanted, total)
    # A day more than the rollout, so that each hour of the day can begin one.
    blocks = max(int(whole // (np.ceil((span + DAY) / DAY) * DAY)), 1)
    length = np.floor(whole / blocks / DAY) * DAY if blocks > 1 else total
    slack = max(length - span, 0.0)
    number = np.arange(replays) * blocks // replays
    salts = [rng.bytes(16) for _ in range(replays)]
    # Stratified within the block: the starts are spread over all of its days.
    within = np.arange(replays) - np.searchsorted(number, number)
    of_block = np.bincount(number, minlength=blocks)[number]
    offsets = (within + rng.random(replays)) / of_block * slack
    return Design(
        replays=tuple(
            Replay(start=float(history.times[0] + block * length + offset), block=int(block), salt=salt)
            for block, offset, salt in zip(number, offsets, salts, strict=True)
        ),
        blocks=blocks,
        block_days=float(length / DAY),
        span=span,
        looks=look_times(span, least),
        least=least,
        whole_days=bool(slack >= DAY - HOUR),
    )


def least_duration(plan: Plan) -> float:
    """Seconds from the start to the promotion, at least."""
    return sum(max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration for stage in plan.stages)


def look_times(span: float, least: float) -> FloatArray:
    """Looks at an even pace, which move apart to 5 % of the time so far: an end is found at most so much later."""
    pace = max(min(least, span) / _FIRST_LOOKS, 60.0)
    times, now = [0.0], 0.0
    while now < span:
        now = min(now + max(pace, _LOOK_GROWTH * now), span)
        times.append(now)
    return np.array(times)


def replayable(plan: Plan, history: History) -> tuple[Plan, tuple[str, ...]]:
    """The plan as it can be replayed, and what was taken out of it, a sentence each.

    What nobody recorded cannot be judged; and harm rolls back in every stage, so that every end has one name.
    """
    counts = {metric.name for metric in plan.metrics if metric.kind is Kind.COUNT}
    known = history.values.keys() | counts
    judged = {one.metric for one in plan.criteria} | {check.metric for stage in plan.stages for check in stage.checks}
    checked = {check.metric for stage in plan.stages for check in stage.checks}
    notes = [
        f"{name}: nothing in the history, so nothing is known of it"
        + ("; its checks would hold a rollout for ever" if name in checked else "")
        for name in sorted(judged - known)
    ]
    notes += [
        f"stage {stage.name} has auto_rollback off: harm pauses there, and counts as a rollback here"
        for stage in plan.stages
        if not stage.auto_rollback and stage.weight < 1
    ]
    if plan.freeze:
        notes.append("freeze windows are left out: a rollout would wait for their end before a step forward")
    return (
        replace(
            plan,
            freeze=(),
            criteria=tuple(one for one in plan.criteria if one.metric in known),
            promotion=tuple(one for one in plan.promotion if one.metric in known),
            stages=tuple(
                replace(
                    stage, auto_rollback=True, checks=tuple(check for check in stage.checks if check.metric in known)
                )
                for stage in plan.stages
            ),
        ),
        tuple(notes),
    )


def with_margins(plan: Plan, margins: Mapping[str, float]) -> Plan:
    """The plan with other margins to be proven: a promotion margin where it has one, else the criterion's.

    A criterion is loosened where the margin to be proven would be looser than it.
    """
    tighter = {one.metric for one in plan.promotion} & margins.keys()
    return replace(
        plan,
        criteria=tuple(
            replace(
                one,
                margin=max(one.margin, margins[one.metric])
                if one.metric in tighter
                else margins.get(one.metric, one.margin),
            )
            for one in plan.criteria
        ),
        promotion=tuple(
            replace(one, margin=margins[one.metric]) if one.metric in tighter else one for one in plan.promotion
        ),
    )
