from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.anytime_intervals import anytime_mean_ratio_interval, anytime_ratio_interval
from agentcanary_analysis.checks import relative_boundary
from agentcanary_analysis.evalues import Question, conditional_binomial, mixture
from agentcanary_analysis.evidence import Interval, assess
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of, edge
from agentcanary_analysis.metrics import (
    ERROR_RATE,
    P95_LATENCY,
    TASK_COMPLETION_RATE,
    USER_SATISFACTION,
    Direction,
    Kind,
    Metric,
)
from agentcanary_analysis.one_look import Limits, Unknown


def rejects(question: Question, ratio: float, canary: list[int], stable: list[int], weights: list[float]) -> bool:
    """By the public process, at half of 5 % on this side."""
    growth = conditional_binomial([canary], [stable], [weights], ratio=ratio, question=question)
    return float(mixture(growth)[0]) >= math.log(40)


events = st.lists(st.integers(0, 5000), min_size=3, max_size=3)


@settings(max_examples=60)
@given(events, events)
def test_the_ratios_inside_are_those_that_neither_side_rejects(canary: list[int], stable: list[int]) -> None:
    weights = [0.05, 0.3, 1.0]
    low, high = anytime_ratio_interval(canary, stable, weights)
    # Ends lie on the side of the rejected, to 0.3 %; between 1/64 and 64 they are looked for.
    if low > 0:
        assert rejects(Question.HARM, low, canary, stable, weights)
        assert low > 63 or not rejects(Question.HARM, low * 1.003, canary, stable, weights)
    if high < math.inf:
        assert rejects(Question.SAFE, high, canary, stable, weights)
        assert high < 1 / 63 or not rejects(Question.SAFE, high / 1.003, canary, stable, weights)


def test_without_an_event_every_ratio_is_possible() -> None:
    assert anytime_ratio_interval([0], [0], [0.5]) == Limits(0.0, math.inf)
    assert anytime_ratio_interval([10], [900], [1.0]) == Limits(0.0, math.inf)


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_the_true_ratio_is_inside_at_all_looks_of_95_percent_of_rollouts_whatever_the_base_rate_does(
    ratio: float,
) -> None:
    rng = np.random.default_rng(5)
    runs, missed = 150, 0
    weights = [0.05, 0.2, 0.5]
    for _ in range(runs):
        canary, stable = np.zeros(3), np.zeros(3)
        inside = True
        for look in range(18):
            epoch, size = look // 6, 500
            rate = (0.03, 0.06, 0.10)[epoch]
            units = rng.binomial(size, weights[epoch])
            canary[epoch] += rng.binomial(units, ratio * rate)
            stable[epoch] += rng.binomial(size - units, rate)
            low, high = anytime_ratio_interval(canary, stable, weights)
            inside &= low <= ratio <= high
        missed += not inside
    # One-sided binomial bound at 1e-4.
    assert missed / runs <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / runs)


def test_an_interval_of_means_covers_at_all_looks_and_narrows() -> None:
    rng = np.random.default_rng(6)
    runs, missed, widths = 150, 0, np.zeros(12)
    for _ in range(runs):
        tallies, inside = [Tally(), Tally()], True
        for look in range(12):
            for arm, (units, mean) in enumerate(((60, 3.8), (240, 4.0))):
                values = rng.normal(mean, 1.0, units)
                tallies[arm] += Tally(units, units, float(values.sum()), float((values**2).sum()))
            found = anytime_mean_ratio_interval([tallies[0]], [tallies[1]], variance=1.0)
            assert isinstance(found, Limits)
            inside &= found.low <= 0.95 <= found.high
            widths[look] += found.high - found.low
        missed += not inside
    assert missed / runs <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / runs)
    assert (np.diff(widths) < 0).all()


def test_few_or_negative_values_have_no_interval_of_a_ratio_of_means() -> None:
    few, many = [Tally(29, 29, 29.0, 30.0)], [Tally(500, 500, 500.0, 700.0)]
    assert anytime_mean_ratio_interval(few, many, variance=1.0) is Unknown.TOO_FEW
    below = [Tally(500, 500, -500.0, 700.0)]
    assert anytime_mean_ratio_interval(many, below, variance=1.0) is Unknown.NOT_POSITIVE


def rollout(metric: Metric, weight: float, canary: Tally, stable: Tally) -> Aggregates:
    return Aggregates(
        epochs=(Epoch(number=0, weight=weight, stage=0),),
        tallies={Cell(metric.name, 0, arm): {0: tally} for arm, tally in ((Arm.CANARY, canary), (Arm.STABLE, stable))},
    )


def both(found: Aggregates, metric: Metric) -> tuple[Interval, Interval]:
    """The interval of one look and that of all looks."""
    evidence = assess(found, metric, relative_boundary(metric, 0.1), weight=0.2)
    assert evidence.interval is not None
    assert evidence.anytime is not None
    return evidence.interval, evidence.anytime


@pytest.mark.parametrize(
    ("metric", "method"),
    [
        (ERROR_RATE, "confidence sequence by the conditional binomial"),
        (TASK_COMPLETION_RATE, "confidence sequence on the contrast (asymptotic)"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_evidence_shows_an_interval_for_all_looks_beside_that_of_one_look(metric: Metric, method: str) -> None:
    rate = 0.05 if metric is ERROR_RATE else 0.85
    canary, stable = (Tally(n, n, rate * n, rate * n) for n in (2000, 8000))
    fixed, anytime = both(rollout(metric, 0.2, canary, stable), metric)
    assert (anytime.level, anytime.method) == (0.95, method)
    assert anytime.low < fixed.low < 0 < fixed.high < anytime.high
    assert anytime.high - anytime.low < 3 * (fixed.high - fixed.low)


def test_ratings_have_an_interval_for_all_looks() -> None:
    canary, stable = (Tally(n, n, 4.0 * n, 17.0 * n) for n in (2000, 8000))
    fixed, anytime = both(rollout(USER_SATISFACTION, 0.2, canary, stable), USER_SATISFACTION)
    assert anytime.low < fixed.low < 0 < fixed.high < anytime.high


def test_with_values_missing_the_interval_holds_at_the_design_and_at_the_realised_share() -> None:
    metric = Metric(name="refusals", kind=Kind.PROPORTION, direction=Direction.UP_IS_WORSE, outcome="refusal")
    complete = both(rollout(metric, 0.2, Tally(2000, 2000, 100.0, 100.0), Tally(8000, 8000, 400.0, 400.0)), metric)[1]
    # Half of the canary's answers are missing: twice as many of its users might be silent about the same thing.
    gap = both(rollout(metric, 0.2, Tally(2000, 1000, 50.0, 50.0), Tally(8000, 8000, 400.0, 400.0)), metric)[1]
    assert gap.low < complete.low
    assert gap.low < 0 < gap.high


def test_latencies_have_an_interval_for_all_looks_by_exceedances_at_every_ratio() -> None:
    rng = np.random.default_rng(7)

    def bins(size: int, factor: float) -> dict[int, int]:
        numbers = [bin_of(float(value)) for value in rng.lognormal(math.log(factor), 0.5, size)]
        return {number: numbers.count(number) for number in set(numbers)}

    limit = edge(bin_of(math.exp(0.5 * 1.645)))
    found = Aggregates(
        epochs=(Epoch(number=0, weight=0.2, stage=0, thresholds={"p95_latency": limit}),),
        histograms={
            Cell("p95_latency", 0, Arm.CANARY): bins(2000, 1.5),
            Cell("p95_latency", 0, Arm.STABLE): bins(8000, 1.0),
        },
    )
    fixed, anytime = both(found, P95_LATENCY)
    assert 0 < anytime.low < 0.5 < anytime.high < 1.2
    assert anytime.low < fixed.low
    assert anytime.high > fixed.high


def test_nothing_bounds_the_latency_of_a_canary_that_hangs_more_often_than_stable_is_slow() -> None:
    found = Aggregates(
        epochs=(Epoch(number=0, weight=0.2, stage=0, thresholds={"p95_latency": edge(10)}),),
        histograms={
            Cell("p95_latency", 0, Arm.CANARY): {0: 1600, INFINITE_BIN: 400},
            Cell("p95_latency", 0, Arm.STABLE): {0: 7600, 30: 400},
        },
    )
    evidence = assess(found, P95_LATENCY, relative_boundary(P95_LATENCY, 0.5), weight=0.2)
    assert evidence.anytime is not None
    assert evidence.anytime.high == math.inf


def test_without_values_in_both_arms_there_is_no_interval() -> None:
    metric = ERROR_RATE
    evidence = assess(
        rollout(metric, 0.2, Tally(), Tally(800, 800, 40.0, 40.0)), metric, relative_boundary(metric, 0.1), weight=0.2
    )
    assert evidence.anytime is None
