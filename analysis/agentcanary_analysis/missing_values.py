"""May values be missing? As in a rollout: only if even the worst case is safe, or the arms answer alike. Pure."""

from __future__ import annotations

import numpy as np

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.cluster_variance import clustered_p_values, levels
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.counted_checks import compared_epochs, responses
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.one_look import Claim, Unknown
from agentcanary_analysis.proportions import Proportion, boundary_test
from agentcanary_analysis.questions import MAX_RESPONSE_DIFFERENCE


def why_unanswered(counted: Counted, metric: Metric, boundary: Boundary, *, alpha: float, upto: int | None) -> str:
    """Why missing values forbid to call the canary safe; empty where they do not, or where there are none.

    Args:
        counted: The data.
        metric: No count.
        boundary: The line.
        alpha: Level at which they are proven to be harmless.
        upto: Only the slices before this number.
    """
    epochs = compared_epochs(counted)
    units, observed = counted.units(upto)[epochs], counted.observed(metric.name, upto)[epochs]
    if (units == observed).all():
        return ""
    if metric.kind is Kind.PROPORTION and _worst_case(counted, metric, boundary, upto) <= alpha:
        return ""
    sides = (
        Boundary(ratio=1.0, floor=MAX_RESPONSE_DIFFERENCE, direction=direction)
        for direction in (Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE)
    )
    if all(_within(counted, metric, side, upto) <= alpha for side in sides):
        return ""
    shares = 1 - observed.sum(axis=0) / np.maximum(units.sum(axis=0), 1)
    return (
        f"values are missing for {shares[1]:.1%} of the canary's and {shares[0]:.1%} of stable's conversations: "
        "neither is the worst case safe, nor are the arms proven to answer equally often (within 2 points)"
    )


def _worst_case(counted: Counted, metric: Metric, boundary: Boundary, upto: int | None) -> float:
    """P-value of "within" if every missing value spoke against the canary; without clusters."""
    up = boundary.direction is Direction.UP_IS_WORSE
    arms: tuple[list[Tally], list[Tally]] = ([], [])
    tallies = counted.tallies(metric.name, upto)
    for index in compared_epochs(counted):
        for number, (arm, tally) in enumerate(zip(arms, tallies[index], strict=True)):
            # Missing of the canary is the bad event, missing of stable the good one.
            bad = (number == 1) == up
            events = tally.total + (tally.units - tally.observed if bad else 0)
            arm.append(Tally(tally.units, tally.units, events, events))
    pairs = [(s, c) for s, c in zip(*arms, strict=True) if s.units and c.units]
    if not pairs or counted.clustered:
        return 1.0
    stable, canary = ([Proportion(round(pair[arm].total), pair[arm].units) for pair in pairs] for arm in (0, 1))
    return boundary_test(canary, stable, boundary, claim=Claim.WITHIN).p_value


def _within(counted: Counted, metric: Metric, side: Boundary, upto: int | None) -> float:
    """P-value of "the arms answer within 2 points of each other", on one side."""
    if counted.clustered:
        found = levels(responses(counted, metric, upto))
        return 1.0 if isinstance(found, Unknown) else clustered_p_values(found, side)[1]
    epochs = compared_epochs(counted)
    units, observed = counted.units(upto)[epochs], counted.observed(metric.name, upto)[epochs]
    both = (units > 0).all(axis=1)
    if not both.any():
        return 1.0
    canary, stable = (
        [Proportion(round(k), round(n)) for k, n in zip(observed[both, arm], units[both, arm], strict=True)]
        for arm in (1, 0)
    )
    return boundary_test(canary, stable, side, claim=Claim.WITHIN).p_value
