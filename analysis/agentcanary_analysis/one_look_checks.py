"""One check at one look at what was counted: p-values on both sides of its boundary, by cluster if there are any. Pure.

Missing values are accounted for as in a rollout: a check is only within its boundary if the worst case is, or if the
arms are proven to answer within 2 points of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.cluster_variance import clustered_p_values, levels
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.counted_checks import (
    Bins,
    clustered_values,
    compared_epochs,
    compared_histograms,
    exceedances,
    kind_of_group,
    rarest_event,
)
from agentcanary_analysis.means import mean_test
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.missing_values import why_unanswered
from agentcanary_analysis.one_look import Claim, Unknown
from agentcanary_analysis.proportions import RARE, Proportion, boundary_test
from agentcanary_analysis.quantile_checks import (
    QuantileTest,
    clustered_quantile_test,
    clustered_quantiles,
    quantile_test,
)
from agentcanary_analysis.quantile_ratios import standardised_quantiles


class Sides(NamedTuple):
    """P-values of one test.

    Attributes:
        name: The method.
        beyond: For "beyond the boundary".
        within: For "within the boundary".
    """

    name: str
    beyond: float
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look says of one check.

    Attributes:
        sides: The test that decides, or why there is none.
        naive: The same as if every conversation were its own cluster; None without clusters.
        missing: Why values that are missing forbid a proof of safety, or empty.
        effective: Conversations of the canary that the information is worth.
    """

    sides: Sides | Unknown
    naive: Sides | Unknown | None
    missing: str
    effective: float


def look(counted: Counted, metric: Metric, boundary: Boundary, *, alpha: float, upto: int | None = None) -> Look:
    """What the data say of one check.

    Args:
        counted: The data.
        metric: No count.
        boundary: The line.
        alpha: Level at which missing values are proven to be harmless.
        upto: Only the slices before this number.
    """
    plain = _plain(counted, metric, boundary, upto)
    naive = plain if counted.clustered else None
    sides = _by_cluster(counted, metric, boundary, upto) if counted.clustered else plain
    missing = "" if isinstance(sides, Unknown) else why_unanswered(counted, metric, boundary, alpha=alpha, upto=upto)
    units = counted.observed(metric.name, upto)[compared_epochs(counted)]
    both = units[(units > 0).all(axis=1)]
    effective = float((1 / (1 / both[:, 1] + boundary.ratio**2 / both[:, 0])).sum()) if both.size else 0.0
    return Look(sides=sides, naive=naive, missing=missing, effective=effective)


def _plain(counted: Counted, metric: Metric, boundary: Boundary, upto: int | None) -> Sides | Unknown:
    epochs = compared_epochs(counted)
    if metric.quantile is not None:
        stable, canary = compared_histograms(counted, metric, upto)
        ratio = _ratio(stable, canary, metric, boundary)
        if isinstance(ratio, Unknown):
            return ratio
        return _named(quantile_test(canary, stable, metric.quantile, ratio, boundary.direction), "order statistics")
    tallies = counted.tallies(metric.name, upto)
    pairs = [tallies[index] for index in epochs if all(tally.observed for tally in tallies[index])]
    if not pairs:
        return Unknown.EMPTY_ARM
    stable_tallies, canary_tallies = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if metric.kind is Kind.PROPORTION:
        return proportion_sides(canary_tallies, stable_tallies, boundary)
    tests = [mean_test(canary_tallies, stable_tallies, boundary, claim=claim) for claim in (Claim.BEYOND, Claim.WITHIN)]
    beyond, within = tests
    if isinstance(beyond, Unknown) or isinstance(within, Unknown):
        return beyond if isinstance(beyond, Unknown) else Unknown.TOO_FEW
    return Sides(beyond.method, beyond.p_value, within.p_value)


def proportion_sides(canary: list[Tally], stable: list[Tally], boundary: Boundary) -> Sides:
    """Both sides of the test of a proportion, from one tally an epoch."""
    in_canary, in_stable = (
        [Proportion(round(tally.total), tally.observed) for tally in arm] for arm in (canary, stable)
    )
    beyond, within = (
        boundary_test(in_canary, in_stable, boundary, claim=claim) for claim in (Claim.BEYOND, Claim.WITHIN)
    )
    return Sides(beyond.method, beyond.p_value, within.p_value)


def _named(found: QuantileTest | Unknown, name: str) -> Sides | Unknown:
    return found if isinstance(found, Unknown) else Sides(f"ratio of quantiles, {name}", found.beyond, found.within)


def _ratio(stable: list[Bins], canary: list[Bins], metric: Metric, boundary: Boundary) -> float | Unknown:
    """The boundary as a multiple of stable's quantile; a floor depends on where that is."""
    if metric.quantile is None:
        raise ValueError(f"{metric.name} is no quantile metric")
    if boundary.floor == 0:
        return boundary.ratio
    both = standardised_quantiles(canary, stable, metric.quantile)
    if isinstance(both, Unknown):
        return both
    at = both[1]
    return Unknown.UNBOUNDED if math.isinf(at) else boundary.at(at) / at if boundary.at(at) > 0 else Unknown.UNBOUNDED


def _by_cluster(counted: Counted, metric: Metric, boundary: Boundary, upto: int | None) -> Sides | Unknown:
    if metric.quantile is not None:
        stable, canary = compared_histograms(counted, metric, upto)
        ratio = _ratio(stable, canary, metric, boundary)
        if isinstance(ratio, Unknown):
            return ratio
        found = clustered_quantiles(
            canary, stable, metric.quantile, lambda at_s, at_c: exceedances(counted, metric, at_s, at_c, upto)
        )
        if isinstance(found, Unknown):
            return found
        tested = clustered_quantile_test(found, ratio, boundary.direction)
        return _named(tested, f"Woodruff's interval with the variance of {kind_of_group(counted)}")
    values = clustered_values(counted, metric, upto)
    found_levels = levels(values)
    if isinstance(found_levels, Unknown):
        return found_levels
    if metric.kind is Kind.PROPORTION and rarest_event(values) < RARE / 2:
        return Unknown.TOO_FEW_EVENTS
    beyond, within = clustered_p_values(found_levels, boundary)
    return Sides(f"t test with the linearised variance of {kind_of_group(counted)}", beyond, within)
