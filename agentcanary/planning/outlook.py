"""What becomes of canaries that are truly like this, by simulation of the plan. Pure: rng is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agentcanary.plan import HOUR, Plan
from agentcanary.planning.expectations import Expectations, Expected
from agentcanary.simulate import Effect, End, Truth, simulate
from agentcanary_analysis.metrics import Direction, Kind, Metric

RATIOS = (1.25, 1.5, 2.0, 3.0)
LEAST_CONVERSATIONS = 60_000
_LONGEST = 3.0  # of the plan's least duration
_LOOK_GROWTH = 0.08  # an end is found at most so much later than by looks all the time
_FIRST_LOOKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A canary that may come.

    Attributes:
        metric: Name of the metric in which it differs from stable; None for the harmless one.
        ratio: How many times as bad it is: R. For a share of which less is worse, of the failures.
        stable: Value of stable; None for the harmless one.
        canary: Value of the canary.
        tolerated: It is within the rollback boundary, so that it shall not be rolled back.
    """

    metric: str | None = None
    ratio: float = 1.0
    stable: float | None = None
    canary: float | None = None
    tolerated: bool = True


@dataclass(frozen=True, slots=True)
class Chance:
    """How many of the simulated rollouts.

    >>> Chance(5, 100).share, round(Chance(5, 100).error, 4)
    (0.05, 0.0227)
    """

    count: int
    runs: int

    @property
    def share(self) -> float:
        """Share of the rollouts."""
        return self.count / self.runs

    @property
    def error(self) -> float:
        """Standard error of the share; half a rollout is added to both sides, so that none of 100 is no certainty."""
        smoothed = (self.count + 0.5) / (self.runs + 1)
        return math.sqrt(smoothed * (1 - smoothed) / self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What becomes of one canary.

    Attributes:
        case: The canary.
        harmed: Rolled back because harm was proven.
        stopped: Rolled back because of safety violations.
        inconclusive: Rolled back because the plan's maximum duration passed.
        promoted: Promoted.
        undecided: Without an end when the simulation ended.
        conversations: Of both arms until the end of a tenth, half and nine tenths of the rollouts; None: later than the
            simulation's end.
    """

    case: Case
    harmed: Chance
    stopped: Chance
    inconclusive: Chance
    promoted: Chance
    undecided: Chance
    conversations: tuple[int | None, int | None, int | None]

    @property
    def rolled_back(self) -> Chance:
        """Rolled back, for whatever reason."""
        return Chance(self.harmed.count + self.stopped.count + self.inconclusive.count, self.harmed.runs)


def cases(expectations: Expectations) -> tuple[Case, ...]:
    """The harmless canary, and for each criterion canaries 1.25, 1.5, 2 and 3 times as bad, where that is possible.

    >>> from agentcanary.plan import DEFAULT_CRITERIA
    >>> from agentcanary.planning.expectations import expect
    >>> from agentcanary.presets import PRESETS
    >>> plan = Plan(stages=PRESETS["standard"].stages, criteria=DEFAULT_CRITERIA)
    >>> found = cases(expect(plan, conversations_per_hour=200, stable={"error_rate": 0.01}))
    >>> [(case.ratio, case.tolerated) for case in found if case.metric == "error_rate"]
    [(1.25, True), (1.5, True), (2.0, False), (3.0, False)]
    """
    found = [Case()]
    plan = expectations.plan
    for criterion in plan.criteria:
        metric, expected = plan.metric(criterion.metric), expectations.metrics[criterion.metric]
        boundary = plan.boundary(criterion).at(expected.stable)
        for ratio in RATIOS:
            canary = _worse(metric, expected, ratio)
            if canary is None:
                continue
            up = metric.direction is Direction.UP_IS_WORSE
            found.append(
                Case(
                    metric=metric.name,
                    ratio=ratio,
                    stable=expected.stable,
                    canary=canary,
                    tolerated=canary <= boundary if up else canary >= boundary,
                )
            )
    return tuple(found)


def _worse(metric: Metric, expected: Expected, ratio: float) -> float | None:
    """The value of a canary so many times as bad; None where there is no such value."""
    up = metric.direction is Direction.UP_IS_WORSE
    if metric.kind is Kind.PROPORTION:
        value = ratio * expected.stable if up else 1 - ratio * (1 - expected.stable)
        return value if 0 <= value <= 1 else None
    return expected.stable * ratio if up else expected.stable / ratio


def limit_of(expectations: Expectations) -> int:
    """Conversations of both arms after which a simulated rollout counts as undecided."""
    plan, rate = expectations.plan, expectations.conversations_per_hour
    if plan.max_duration is not None:
        # One more than the maximum duration, so that a look falls behind it; then at least the time at weight 1.
        return math.ceil(rate * (plan.max_duration + plan.bake) / HOUR) + 1
    return max(LEAST_CONVERSATIONS, math.ceil(_LONGEST * _least(plan) * rate / HOUR))


def outlook(expectations: Expectations, case: Case, *, runs: int, rng: np.random.Generator) -> Outlook:
    """What becomes of one canary under the plan.

    Args:
        expectations: The plan and what is taken for granted.
        case: The canary.
        runs: Rollouts to simulate.
        rng: Source of randomness.
    """
    plan, rate = expectations.plan, expectations.conversations_per_hour
    effects = {
        name: Effect(
            stable=expected.stable,
            canary=case.canary if case.canary is not None and name == case.metric else expected.stable,
            spread=expected.spread,
        )
        for name, expected in expectations.metrics.items()
    }
    limit = limit_of(expectations)
    found = simulate(
        plan,
        Truth(effects=effects, violations=expectations.violations),
        runs=runs,
        rng=rng,
        look_every=max(_FIRST_LOOKS, math.ceil(_least(plan) * rate / HOUR / _FIRST_LOOKS)),
        look_growth=_LOOK_GROWTH,
        max_conversations=limit,
        conversations_per_hour=rate,
    )
    pairs = list(zip(found.ends, found.causes, strict=True))

    def chance(end: End, cause: str = "") -> Chance:
        wanted = [one for one in pairs if one[0] is end and cause in ("", one[1])]
        return Chance(len(wanted), runs)

    ended = sorted(
        math.inf if end is End.HOLDING else size for end, size in zip(found.ends, found.conversations, strict=True)
    )
    reached = [ended[min(int(share * runs), runs - 1)] for share in (0.1, 0.5, 0.9)]
    early, median, late = (None if size == math.inf else int(size) for size in reached)
    return Outlook(
        case=case,
        harmed=chance(End.ROLLED_BACK, "harm"),
        stopped=chance(End.ROLLED_BACK, "safety"),
        inconclusive=chance(End.ROLLED_BACK, "inconclusive"),
        promoted=chance(End.PROMOTED),
        undecided=chance(End.HOLDING),
        conversations=(early, median, late),
    )


def _least(plan: Plan) -> float:
    """Least time from the start to the promotion, in seconds."""
    return sum(max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration for stage in plan.stages)
