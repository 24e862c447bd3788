from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.cells import Cells, FloatArray, cells_of, threshold
from agentcanary_analysis.checks import Boundary, relative_boundary
from agentcanary_analysis.evalues import Question, conditional_binomial, late_changes, mixtures
from agentcanary_analysis.evidence import Evidence, Status, assess
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
from agentcanary_analysis.one_look import Limits
from agentcanary_analysis.proportion_intervals import mantel_haenszel_ratio
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.quantile_ratios import quantile_ratio, quantile_ratio_interval
from agentcanary_analysis.questions import Line, Method, answer, growth, log_e_harm

ERRORS = relative_boundary(ERROR_RATE, 0.10)
COMPLETION = relative_boundary(TASK_COMPLETION_RATE, 0.05)
LATENCY = relative_boundary(P95_LATENCY, 0.50)
SATISFACTION = relative_boundary(USER_SATISFACTION, 0.05)

Counts = tuple[int, int]


def counted(metric: Metric, epochs: Sequence[tuple[float, Counts, Counts]], *, missing: float = 0.0) -> Aggregates:
    """A rollout with one epoch a stage: weight, (units, events) of the canary, (units, events) of stable."""
    tallies = {}
    for number, (_, *arms) in enumerate(epochs):
        for arm, (units, events) in zip((Arm.CANARY, Arm.STABLE), arms, strict=True):
            silent = round(units * missing / (1 - missing))
            tallies[Cell(metric.name, number, arm)] = {
                7: Tally(units + silent, units, float(events), float(events)),
            }
    return Aggregates(
        epochs=tuple(Epoch(number=number, weight=epoch[0], stage=number) for number, epoch in enumerate(epochs)),
        tallies=tallies,
    )


def of_errors(*epochs: tuple[float, Counts, Counts], weight: float = 0.5) -> Evidence:
    return assess(counted(ERROR_RATE, epochs), ERROR_RATE, ERRORS, weight=weight)


STATUSES = {
    "three times the errors": ((0.5, (800, 120), (800, 40)), Status.HARMED),
    "the same, proven": ((0.5, (12_000, 600), (12_000, 600)), Status.SAFE),
    "the same, early": ((0.5, (400, 20), (400, 20)), Status.UNDECIDED),
    "nothing yet": ((0.5, (0, 0), (0, 0)), Status.NO_DATA),
    "only stable": ((0.05, (0, 0), (500, 20)), Status.NO_DATA),
    "no errors anywhere": ((0.5, (5000, 0), (5000, 0)), Status.SAFE),
    "no error in stable, many in the canary": ((0.5, (500, 25), (500, 0)), Status.HARMED),
    "every unit, so that nothing could be worse": ((0.5, (500, 500), (500, 500)), Status.SAFE),
}


@pytest.mark.parametrize(("epoch", "status"), STATUSES.values(), ids=STATUSES)
def test_the_status_follows_from_the_counts(epoch: tuple[float, Counts, Counts], status: Status) -> None:
    evidence = of_errors(epoch)
    assert evidence.status is status
    assert bool(evidence.reason) is (status in (Status.UNDECIDED, Status.NO_DATA))


def test_a_metric_of_which_less_is_worse_is_read_the_other_way() -> None:
    def completion(canary: int) -> Evidence:
        epochs = [(0.5, (3000, canary), (3000, 2550))]
        return assess(counted(TASK_COMPLETION_RATE, epochs), TASK_COMPLETION_RATE, COMPLETION, weight=0.5)

    assert completion(2250).status is Status.HARMED
    assert completion(2550).status is Status.SAFE
    assert completion(2700).status is Status.SAFE


def test_a_metric_cannot_be_harmed_and_safe_at_once() -> None:
    for events in range(0, 3001, 60):
        evidence = of_errors((0.5, (3000, events), (3000, 150)))
        assert min(evidence.log_e_harm, evidence.log_e_safe) < math.log(20)


def test_safe_is_proven_on_the_last_stages_weight_alone() -> None:
    early = (0.15, (30_000, 1500), (170_000, 8500))
    assert of_errors(early).status is Status.UNDECIDED
    assert of_errors(early).log_e_safe == 0
    assert of_errors(early, weight=0.15).status is Status.SAFE


def test_harm_uses_all_epochs_and_epochs_without_a_choice_none() -> None:
    harmful = (0.05, (400, 80), (7600, 380))
    assert of_errors(harmful, (0.5, (10, 1), (10, 0))).status is Status.HARMED
    alone = of_errors((0.5, (50, 4), (50, 2)))
    beside = of_errors((0.5, (50, 4), (50, 2)), (1.0, (9000, 4000), (0, 0)), (0.0, (0, 0), (9000, 1)))
    assert beside.log_e_harm == pytest.approx(alone.log_e_harm)
    assert beside.canary == alone.canary


def test_a_base_rate_that_drifts_along_a_ramp_is_no_harm_and_no_change() -> None:
    # Pooled, the canary has 5.7 % errors and stable 4.1 %: Simpson's paradox.
    ramp = [(0.05, (500, 15), (9500, 285)), (0.25, (2500, 125), (7500, 375)), (0.5, (5000, 300), (5000, 300))]
    evidence = of_errors(*ramp)
    assert evidence.relative_change == pytest.approx(0, abs=1e-12)
    assert evidence.log_e_harm < 0
    assert evidence.test is not None
    assert evidence.test.p_value > 0.5


def test_harm_that_begins_with_a_late_stage_is_found() -> None:
    equal = [(0.05, (2000, 100), (38_000, 1900)), (0.15, (6000, 300), (34_000, 1700))]
    late = (0.5, (1600, 160), (1600, 80))
    assert of_errors(*equal, late).status is Status.HARMED
    # Without the mixture over stages, the quiet ones would speak against it.
    cells = cells_of(counted(ERROR_RATE, [*equal, late]), ERROR_RATE, ERRORS)
    whole = mixtures(growth(cells, Line(ERROR_RATE, ERRORS), Question.HARM), cells.testable[:, None])
    assert whole[0, 0] < 0


def test_what_people_read_is_the_mantel_haenszel_ratio_with_its_interval() -> None:
    epochs = [(0.05, (500, 35), (9500, 400)), (0.5, (1000, 80), (1000, 55))]
    evidence = of_errors(*epochs)
    ratio = mantel_haenszel_ratio(
        [Proportion(k, n) for _, (n, k), _ in epochs], [Proportion(k, n) for _, _, (n, k) in epochs]
    )
    assert evidence.relative_change is not None
    assert evidence.canary is not None
    assert evidence.stable is not None
    assert evidence.relative_change == pytest.approx(float(ratio) - 1)
    assert evidence.canary.events == 115
    assert evidence.canary.value == pytest.approx(float(ratio) * (evidence.stable.value or 0))
    assert evidence.interval is not None
    assert evidence.interval.low < evidence.relative_change < evidence.interval.high


def test_in_one_epoch_the_interval_is_that_of_the_log_ratio() -> None:
    # Katz et al. (1978), Biometrics 34:469-474: variance 1/k_c - 1/n_c + 1/k_s - 1/n_s of the log ratio.
    interval = of_errors((0.5, (1000, 80), (1200, 55))).interval
    half = 1.959963984540054 * math.sqrt(1 / 80 - 1 / 1000 + 1 / 55 - 1 / 1200)
    assert interval is not None
    assert interval.low == pytest.approx(80 / 1000 / (55 / 1200) * math.exp(-half) - 1)
    assert interval.high == pytest.approx(80 / 1000 / (55 / 1200) * math.exp(half) - 1)


def test_with_few_events_the_interval_is_the_scores() -> None:
    interval = of_errors((0.05, (50, 0), (950, 40))).interval
    assert interval is not None
    assert "score" in interval.method
    assert interval.low == -1
    assert interval.high > 0.5


@pytest.mark.parametrize(
    ("metric", "floor", "method"),
    [
        (ERROR_RATE, 0.005, Method.TWO_BY_TWO),
        (ERROR_RATE, 0.0, Method.CONDITIONAL),
        (TASK_COMPLETION_RATE, 0.0, Method.TWO_BY_TWO),
        (P95_LATENCY, 0.0, Method.EXCEEDANCE),
        (USER_SATISFACTION, 0.0, Method.CONTRAST),
        (Metric(name="x", kind=Kind.RATIO, direction=Direction.UP_IS_WORSE, outcome="x"), 0.0, Method.CONTRAST),
        (Metric(name="x", kind=Kind.COUNT, direction=Direction.UP_IS_WORSE, outcome="x"), 0.0, Method.REPORT_ONLY),
    ],
)
def test_the_method_follows_from_the_plan_alone(metric: Metric, floor: float, method: Method) -> None:
    assert Line(metric, Boundary(ratio=1.1, floor=floor, direction=metric.direction)).method is method


def completions(canary: Counts, stable: Counts, missing: float) -> Evidence:
    found = counted(TASK_COMPLETION_RATE, [(0.5, canary, stable)], missing=missing)
    return assess(found, TASK_COMPLETION_RATE, COMPLETION, weight=0.5)


def test_few_missing_values_do_no_harm_to_a_proof_because_the_worst_case_is_safe() -> None:
    def of(silent: int) -> Evidence:
        """Only the canary fails to answer, too often to be proven like stable."""
        tallies = {
            Cell(TASK_COMPLETION_RATE.name, 0, Arm.CANARY): {0: Tally(3000, 3000 - silent, 2650.0, 2650.0)},
            Cell(TASK_COMPLETION_RATE.name, 0, Arm.STABLE): {0: Tally(3000, 3000, 2700.0, 2700.0)},
        }
        found = Aggregates(epochs=(Epoch(number=0, weight=0.5, stage=0),), tallies=tallies)
        return assess(found, TASK_COMPLETION_RATE, COMPLETION, weight=0.5)

    assert of(50).status is Status.SAFE
    assert of(50).log_e_safe == pytest.approx(of(0).log_e_safe)
    assert of(50).notes == ("no value from 50 conversations of the canary and 0 of stable",)


def test_many_missing_values_forbid_a_proof_until_the_arms_are_proven_to_answer_equally_often() -> None:
    evidence = completions((2000, 1700), (2000, 1700), 0.5)
    assert evidence.status is Status.NO_DATA
    assert "values are missing for 50.0% of the canary's and 50.0% of stable's conversations" in evidence.reason
    assert evidence.needs is not None
    assert completions((12_000, 10_200), (12_000, 10_200), 0.5).status is Status.SAFE


def test_arms_that_answer_unequally_are_never_proven_however_many_answer() -> None:
    cells = {
        Cell(TASK_COMPLETION_RATE.name, 0, arm): {0: Tally(40_000, observed, 0.85 * observed, 0.85 * observed)}
        for arm, observed in ((Arm.CANARY, 20_000), (Arm.STABLE, 30_000))
    }
    found = Aggregates(epochs=(Epoch(number=0, weight=0.5, stage=0),), tallies=cells)
    evidence = assess(found, TASK_COMPLETION_RATE, COMPLETION, weight=0.5)
    assert evidence.status is Status.NO_DATA
    assert evidence.needs is None


def test_a_conversation_that_reports_no_error_had_none() -> None:
    cells = {Cell(ERROR_RATE.name, 0, arm): {0: Tally(900, 100, 45.0, 45.0)} for arm in Arm}
    evidence = assess(
        Aggregates(epochs=(Epoch(number=0, weight=0.5, stage=0),), tallies=cells), ERROR_RATE, ERRORS, weight=0.5
    )
    assert evidence.canary is not None
    assert (evidence.canary.observed, evidence.canary.value) == (900, 0.05)
    assert evidence.notes == ()


def latencies(
    *epochs: tuple[float, float | None, dict[int, int], dict[int, int]],
) -> Aggregates:
    """One epoch a stage: weight, threshold, bins of the canary, bins of stable."""
    return Aggregates(
        epochs=tuple(
            Epoch(number=number, weight=weight, stage=number, thresholds={} if tau is None else {"p95_latency": tau})
            for number, (weight, tau, _, _) in enumerate(epochs)
        ),
        histograms={
            Cell("p95_latency", number, arm): bins
            for number, (_, _, canary, stable) in enumerate(epochs)
            for arm, bins in ((Arm.CANARY, canary), (Arm.STABLE, stable))
        },
    )


def test_latencies_are_coded_as_exceedances_of_the_threshold_and_of_its_multiple_rounded_up_to_an_edge() -> None:
    tau = edge(100)
    above = bin_of(1.5 * tau)
    assert edge(above - 1) < 1.5 * tau <= edge(above)
    canary = {100: 50, above: 7, above + 1: 5, INFINITE_BIN: 2}
    stable = {100: 500, 101: 30, INFINITE_BIN: 4}
    found = cells_of(latencies((0.5, tau, canary, stable)), P95_LATENCY, LATENCY)
    assert (found.canary_n.item(), found.canary_k.item()) == (64, 7)
    assert (found.stable_n.item(), found.stable_k.item()) == (534, 34)


def test_scaled_exceedances_are_judged_by_the_conditional_process_at_ratio_one_epoch_by_epoch() -> None:
    tau = edge(50)
    slow = bin_of(1.5 * tau) + 1
    epochs = [(0.05, tau, {50: 90, slow: 10}, {50: 1900, 51: 100}), (0.5, tau, {50: 900, slow: 60}, {50: 950, 51: 50})]
    evidence = assess(latencies(*epochs), P95_LATENCY, LATENCY, weight=0.5)
    growth = conditional_binomial([[10, 60]], [[100, 50]], [[0.05, 0.5]], ratio=1.0, question=Question.HARM)
    by_stage = mixtures(growth, np.array([[[True, True], [False, True]]]))
    assert evidence.log_e_harm == pytest.approx(float(late_changes(by_stage)[0]))


def test_a_slower_canary_is_found_and_an_equal_one_is_proven_while_latency_drifts_along_the_ramp() -> None:
    rng = np.random.default_rng(11)

    def bins(size: int, factor: float) -> dict[int, int]:
        numbers = [bin_of(float(value)) for value in rng.lognormal(math.log(factor), 0.8, size)]
        return {number: numbers.count(number) for number in set(numbers)}

    tau = edge(bin_of(math.exp(0.8 * 1.645)))

    def ramp(effect: float) -> Aggregates:
        # The threshold is fixed on early data; both arms get slower by 42 % while the weight grows.
        return latencies(
            (0.05, tau, bins(500, effect), bins(9500, 1.0)), (0.5, tau, bins(5000, 1.42 * effect), bins(5000, 1.42))
        )

    equal = assess(ramp(1.0), P95_LATENCY, LATENCY, weight=0.5)
    assert equal.status is Status.SAFE
    assert equal.relative_change == pytest.approx(0, abs=0.1)
    assert assess(ramp(2.0), P95_LATENCY, LATENCY, weight=0.5).status is Status.HARMED


def test_an_epoch_that_began_without_a_threshold_gives_no_evidence() -> None:
    slow = ({0: 100, 300: 100}, {0: 1900, 1: 100})
    only = assess(latencies((0.05, None, *slow)), P95_LATENCY, LATENCY, weight=0.05)
    assert only.status is Status.NO_DATA
    assert "200 stable conversations" in only.reason
    assert [only.log_e_harm, only.log_e_safe] == pytest.approx([0, 0], abs=1e-12)
    beside = assess(
        latencies((0.05, None, *slow), (0.5, edge(0), {0: 95, 300: 5}, {0: 95, 1: 5})), P95_LATENCY, LATENCY, weight=0.5
    )
    assert beside.status is Status.UNDECIDED
    assert beside.notes == ("epochs that began without a threshold give no evidence",)


def test_a_latency_is_reported_as_by_the_one_look_functions() -> None:
    rng = np.random.default_rng(12)
    canary: dict[int, int] = {}
    stable: dict[int, int] = {}
    for target, size, factor in ((canary, 2000, 1.2), (stable, 9000, 1.0)):
        for value in rng.lognormal(math.log(factor), 0.6, size):
            target[bin_of(float(value))] = target.get(bin_of(float(value)), 0) + 1
    evidence = assess(latencies((0.2, edge(40), canary, stable)), P95_LATENCY, LATENCY, weight=0.2)
    expected = quantile_ratio_interval(canary, stable, 0.95)
    assert evidence.interval is not None
    assert isinstance(expected, Limits)
    assert (evidence.interval.low, evidence.interval.high) == pytest.approx((expected.low - 1, expected.high - 1))
    assert evidence.relative_change == pytest.approx(quantile_ratio([canary], [stable], 0.95) - 1)  # type: ignore[operator]  # a number here


def test_the_interval_of_a_latency_is_open_upwards_where_too_few_values_bound_it() -> None:
    few = {0: 40, 5: 20}
    evidence = assess(latencies((0.5, edge(3), few, {0: 950, 5: 50})), P95_LATENCY, LATENCY, weight=0.5)
    assert evidence.interval is not None
    assert evidence.interval.high == math.inf
    assert -1 < evidence.interval.low < 0.5


def test_a_quantile_among_values_that_never_came_is_infinite_and_has_no_interval() -> None:
    stuck = {0: 80, INFINITE_BIN: 20}
    evidence = assess(latencies((0.5, edge(3), stuck, {0: 950, 5: 50})), P95_LATENCY, LATENCY, weight=0.5)
    assert evidence.canary is not None
    assert evidence.canary.value == math.inf
    assert evidence.relative_change == math.inf
    assert evidence.interval is None


@given(
    st.dictionaries(st.integers(-200, 200) | st.just(INFINITE_BIN), st.integers(0, 300), min_size=1),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_the_threshold_is_the_edge_nearest_to_the_quantile(bins: dict[int, int], quantile: float) -> None:
    found, total = threshold(bins, quantile), sum(bins.values())
    finite = [number for number, units in bins.items() if units and number < INFINITE_BIN]
    if total < 200 or not finite:
        assert found is None
        return
    assert found is not None

    def off(number: int) -> float:
        return abs(sum(units for position, units in bins.items() if position <= number) / total - quantile)

    assert off(bin_of(found)) == pytest.approx(min(off(number) for number in finite), abs=1e-12)


def ratings(*epochs: tuple[float, tuple[int, float], tuple[int, float]], answered: float = 1.0) -> Aggregates:
    """Weight, (ratings, mean) of both arms; half of the ratings lie one above the mean and half one below."""
    tallies = {}
    for number, (_, *arms) in enumerate(epochs):
        for arm, (size, mean) in zip((Arm.CANARY, Arm.STABLE), arms, strict=True):
            tallies[Cell(USER_SATISFACTION.name, number, arm)] = {
                0: Tally(round(size / answered), size, size * mean, size * (mean**2 + 1))
            }
    epochs_of = tuple(Epoch(number=number, weight=epoch[0], stage=number) for number, epoch in enumerate(epochs))
    return Aggregates(epochs=epochs_of, tallies=tallies)


def of_satisfaction(*epochs: tuple[float, tuple[int, float], tuple[int, float]], answered: float = 1.0) -> Evidence:
    return assess(ratings(*epochs, answered=answered), USER_SATISFACTION, SATISFACTION, weight=0.5)


def test_satisfaction_is_judged_on_the_contrast() -> None:
    assert of_satisfaction((0.5, (2000, 4.0), (2000, 4.0))).status is Status.SAFE
    assert of_satisfaction((0.5, (2000, 3.4), (2000, 4.0))).status is Status.HARMED
    early = of_satisfaction((0.5, (40, 4.0), (40, 4.0)))
    assert early.status is Status.UNDECIDED
    assert early.relative_change == pytest.approx(0, abs=1e-12)
    assert early.interval is not None
    assert early.interval.low < 0 < early.interval.high


def test_ratings_have_no_worst_case_so_equal_response_must_be_proven() -> None:
    few = of_satisfaction((0.5, (900, 4.0), (900, 4.0)), answered=0.3)
    assert few.status is Status.NO_DATA
    assert few.needs is not None
    assert of_satisfaction((0.5, (15_000, 4.0), (15_000, 4.0)), answered=0.3).status is Status.SAFE


def test_a_metric_whose_stages_disagree_is_drifting_and_not_safe() -> None:
    better = (0.15, (3000, 60), (17_000, 850))
    now = (0.5, (12_000, 600), (12_000, 600))
    assert of_errors(now).status is Status.SAFE
    evidence = of_errors(better, now)
    assert evidence.drifting
    assert evidence.status is Status.UNDECIDED
    assert "drifting" in evidence.reason


def test_stages_that_agree_do_not_drift_whatever_their_base_rate() -> None:
    assert not of_errors((0.05, (1000, 30), (19_000, 570)), (0.5, (5000, 300), (5000, 300))).drifting


@pytest.mark.parametrize(
    ("canary", "stable", "status"),
    [((2000, 100), (2000, 100), Status.SAFE), ((300, 24), (300, 15), Status.HARMED)],
    ids=["safe", "harmed"],
)
def test_so_many_more_conversations_decide_as_were_said_to_be_needed(
    canary: Counts, stable: Counts, status: Status
) -> None:
    evidence = of_errors((0.5, canary, stable))
    assert evidence.status is Status.UNDECIDED
    assert evidence.needs is not None
    assert evidence.reason == f"about {evidence.needs} more conversations"

    def after(share: float) -> Status:
        more = evidence.needs * share / 2  # type: ignore[operator]  # asserted above
        grown = [(round(n + more), round(k + more * k / n)) for n, k in (canary, stable)]
        return of_errors((0.5, grown[0], grown[1])).status

    assert after(1.1) is status
    assert after(0.8) is Status.UNDECIDED


def test_nobody_can_say_how_many_more_it_takes_on_the_boundary() -> None:
    evidence = of_errors((0.5, (20_000, 1200), (20_000, 1000)))
    assert evidence.needs is None
    assert evidence.reason == "too close to the boundary to tell"


def test_proof_is_counted_in_conversations_at_the_last_stages_weight() -> None:
    # At 0.3 nothing counts towards the proof, which still has to be made at 0.5.
    early = of_errors((0.3, (1800, 90), (4200, 210)))
    late = of_errors((0.5, (3000, 150), (3000, 150)))
    assert early.needs is not None
    assert late.needs is not None
    assert late.needs < early.needs < late.needs + 7000


ERRORS_PER_TURN = Metric(name="errors_per_turn", kind=Kind.RATIO, direction=Direction.UP_IS_WORSE, outcome="turn.error")
PER_TURN = Boundary(ratio=1.1, floor=0.002, direction=Direction.UP_IS_WORSE)


def turns(size: int, rate: float, seed: int) -> tuple[Tally, FloatArray, FloatArray]:
    """Conversations of one to nine turns, some worse than others: sums, errors and turns of each."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 10, size).astype(np.float64)
    y = rng.binomial(n.astype(int), np.minimum(rate * rng.gamma(1.0, 1.0, size), 1.0)).astype(np.float64)
    sums = [float(column.sum()) for column in (y, y * y, n, n * n, y * n)]
    return Tally(size, size, *sums), y, n


def per_turn(canary: Tally, stable: Tally) -> Aggregates:
    both = {Arm.CANARY: {0: canary}, Arm.STABLE: {0: stable}}
    tallies = {Cell(ERRORS_PER_TURN.name, 0, arm): buckets for arm, buckets in both.items()}
    return Aggregates(epochs=(Epoch(number=0, weight=0.5, stage=0),), tallies=tallies)


def test_a_ratio_over_turns_is_judged_by_its_linearised_variance() -> None:
    (canary, y_c, n_c), (stable, y_s, n_s) = turns(3000, 0.06, 1), turns(3000, 0.05, 2)
    evidence = assess(per_turn(canary, stable), ERRORS_PER_TURN, PER_TURN, weight=0.5)
    # The textbook's: G / (G - 1) * sum of (y - r n)^2 / (sum of n)^2.
    ratios = [float(y.sum() / n.sum()) for y, n in ((y_c, n_c), (y_s, n_s))]
    errors = [
        3000 / 2999 * float(((y - r * n) ** 2).sum() / n.sum() ** 2)
        for r, (y, n) in zip(ratios, ((y_c, n_c), (y_s, n_s)), strict=True)
    ]
    z = (ratios[0] - 1.1 * ratios[1] - 0.002) / math.sqrt(errors[0] + 1.1**2 * errors[1])
    assert evidence.test is not None
    assert evidence.test.p_value == pytest.approx(float(norm.sf(z)), rel=1e-2)
    assert evidence.relative_change == pytest.approx(ratios[0] / ratios[1] - 1)
    assert "the versions' own doing" in evidence.notes[0]


def test_a_ratio_over_turns_is_harmed_safe_or_neither() -> None:
    for rate, expected in ((0.12, Status.HARMED), (0.05, Status.SAFE), (0.058, Status.UNDECIDED)):
        found = per_turn(turns(60_000, rate, 3)[0], turns(60_000, 0.05, 4)[0])
        assert assess(found, ERRORS_PER_TURN, PER_TURN, weight=0.5).status is expected


@pytest.mark.parametrize("name", ["alpha", "alpha_promote"])
def test_a_budget_outside_0_and_1_is_refused(name: str) -> None:
    found = counted(ERROR_RATE, [(0.5, (10, 1), (10, 1))])
    with pytest.raises(ValueError, match=rf"{name} must be between 0 and 0.5, got 5 \(write 0.05 for 5 %\)"):
        assess(found, ERROR_RATE, ERRORS, weight=0.5, **{name: 5})


def test_more_events_than_conversations_are_refused() -> None:
    cells = {Cell(ERROR_RATE.name, 0, Arm.CANARY): {0: Tally(10, 10, 12.0, 40.0)}}
    found = Aggregates(epochs=(Epoch(number=0, weight=0.5, stage=0),), tallies=cells)
    with pytest.raises(ValueError, match="error_rate of the canary in epoch 0 has 12 events among 10"):
        assess(found, ERROR_RATE, ERRORS, weight=0.5)


def test_the_process_that_serves_requests_needs_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys, agentcanary_analysis.evidence, agentcanary_analysis.verdict;"
        "print(sorted({'numpy', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arms_that_answer_unequally_but_alike_are_not_called_harmful_however_often_one_looks() -> None:
    # 60 % of the canary's conversations report and 90 % of stable's; of those that report 85 % are complete in both.
    rng = np.random.default_rng(13)
    line = Line(TASK_COMPLETION_RATE, COMPLETION)
    runs = 200
    sums = np.zeros((2, 3, runs, 1))
    ever = np.zeros(runs, dtype=bool)
    by_design = ever.copy()
    for _ in range(40):
        canary = rng.binomial(100, 0.5, (runs, 1))
        for arm, (units, answered) in enumerate(((canary, 0.6), (100 - canary, 0.9))):
            values = rng.binomial(units, answered)
            sums[arm] += np.stack([units, values, rng.binomial(values, 0.85)])
        zeros = np.zeros((runs, 1))
        cells = Cells(
            weight=np.full((runs, 1), 0.5),
            stage=zeros,
            canary_units=sums[0, 0],
            canary_n=sums[0, 1],
            canary_k=sums[0, 2],
            canary_squares=zeros,
            stable_units=sums[1, 0],
            stable_n=sums[1, 1],
            stable_k=sums[1, 2],
            stable_squares=zeros,
            variance=np.full(runs, np.nan),
        )
        ever |= answer(cells, line, weight=0.5, alpha=0.05, alpha_promote=0.05).log_e_harm >= math.log(20)
        by_design |= log_e_harm(cells, line, alpha=0.05) >= math.log(20)
    assert ever.mean() <= 0.05
    # The trap is real.
    assert by_design.mean() > 0.8
