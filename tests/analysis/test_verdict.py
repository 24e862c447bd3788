from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Safety, Tally
from agentcanary_analysis.batch import STATUSES, check_statuses, decide, margin_statuses
from agentcanary_analysis.cells import cells_of, stacked
from agentcanary_analysis.checks import Boundary, parse_check, relative_boundary
from agentcanary_analysis.evalues import Question, conditional_binomial, late_changes, mixture
from agentcanary_analysis.evidence import Status, assess
from agentcanary_analysis.histogram import bin_of, edge
from agentcanary_analysis.metrics import (
    BUILT_IN,
    ERROR_RATE,
    P95_LATENCY,
    SAFETY_VIOLATIONS,
    TASK_COMPLETION_RATE,
    USER_SATISFACTION,
    Metric,
    early_ages,
)
from agentcanary_analysis.questions import Answers, Line, with_early_ages
from agentcanary_analysis.verdict import Findings, judge
from agentcanary_analysis.violation_rate import log_e_below
from agentcanary_analysis.weighing import Split, budget

CRITERIA = {
    ERROR_RATE.name: relative_boundary(ERROR_RATE, 0.10),
    TASK_COMPLETION_RATE.name: relative_boundary(TASK_COMPLETION_RATE, 0.05),
}
CHECKS = tuple(
    parse_check(text)
    for text in ("error_rate_increase < 0.03", "task_completion_regression < 0.02", "safety_violations == 0")
)
# Per metric: (units, sum) of the canary and of stable.
Sums = Mapping[str, tuple[tuple[int, float], tuple[int, float]]]
EQUAL: Sums = {
    "error_rate": ((12_000, 600), (12_000, 600)),
    "task_completion_rate": ((12_000, 10_200), (12_000, 10_200)),
}


def rollout(*epochs: tuple[float, Sums], safety: Safety | None = None) -> Aggregates:
    """One epoch a stage; what is counted is what was assigned."""
    tallies = {
        Cell(name, number, arm): {3: Tally(units, units, float(total), float(total))}
        for number, (_, sums) in enumerate(epochs)
        for name, both in sums.items()
        for arm, (units, total) in zip((Arm.CANARY, Arm.STABLE), both, strict=True)
    }
    return Aggregates(
        epochs=tuple(Epoch(number=number, weight=weight, stage=number) for number, (weight, _) in enumerate(epochs)),
        tallies=tallies,
        assigned={(cell.epoch, cell.arm): tally[3].units for cell, tally in tallies.items()},
        safety=safety or Safety(reports=5),
    )


def look(found: Aggregates, **changes: object) -> Findings:
    settings: dict[str, object] = {
        "metrics": BUILT_IN,
        "criteria": CRITERIA,
        "checks": CHECKS,
        "proof_weight": 0.5,
        **changes,
    }
    return judge(found, **settings)  # type: ignore[arg-type]  # a test's shorthand


def statuses(findings: Findings) -> dict[str, Status]:
    return {evidence.metric: evidence.status for evidence in findings.evidence}


def test_two_equal_versions_are_proven_and_no_check_is_suspect() -> None:
    findings = look(rollout((0.5, EQUAL)))
    assert statuses(findings) == {"error_rate": Status.SAFE, "task_completion_rate": Status.SAFE}
    assert [found.status for found in findings.checks] == [Status.UNDECIDED, Status.SAFE, Status.SAFE]
    assert (findings.unsafe, findings.harmed, findings.invalid, findings.warnings) == ("", (), "", ())
    assert findings.stage_conversations == 12_000


def test_a_decision_without_the_intervals_that_people_read_is_the_same_decision() -> None:
    found = rollout((0.5, EQUAL))
    shown, decided = look(found), look(found, anytime=False)
    assert all(evidence.anytime is not None for evidence in shown.evidence)
    assert decided == replace(shown, evidence=tuple(replace(one, anytime=None) for one in shown.evidence))


def test_three_times_the_errors_are_harm_and_name_their_metric() -> None:
    findings = look(rollout((0.05, {"error_rate": ((300, 45), (5700, 285))})))
    assert findings.harmed == ("error_rate",)
    assert statuses(findings)["error_rate"] is Status.HARMED
    assert findings.log_e_harm >= findings.log_e_harm_boundary == pytest.approx(math.log(20))
    assert findings.checks[0].status is Status.SUSPECT
    assert "worse than the check allows, p = " in findings.checks[0].reason


def test_two_metrics_prove_harm_together_that_neither_proves_alone() -> None:
    bad = {"error_rate": ((1000, 100), (1000, 50)), "task_completion_rate": ((1000, 745), (1000, 850))}
    findings = look(rollout((0.5, bad)))
    each = [evidence.log_e_harm for evidence in findings.evidence]
    assert max(each) < math.log(2 * 20)
    assert findings.log_e_harm == pytest.approx(math.log((math.exp(each[0]) + math.exp(each[1])) / 2))
    assert findings.log_e_harm >= math.log(20)
    assert set(findings.harmed) == {"error_rate", "task_completion_rate"}
    assert set(statuses(findings).values()) == {Status.HARMED}


EARLY = replace(ERROR_RATE, early=True)


def test_harm_is_asked_at_earlier_ages_too_by_the_mean_of_their_e_values() -> None:
    first, second = early_ages(EARLY)
    sums: Sums = {
        first.name: ((400, 60), (7600, 300)),
        second.name: ((300, 48), (5700, 270)),
        EARLY.name: ((200, 30), (3800, 190)),
    }
    metrics = [EARLY if metric.name == EARLY.name else metric for metric in BUILT_IN]
    criteria = {EARLY.name: CRITERIA[EARLY.name]}
    found = rollout((0.05, sums))
    findings = look(found, metrics=metrics, criteria=criteria)
    alone = [
        assess(found, replace(age, early=False), CRITERIA[EARLY.name], weight=0.5)
        for age in (EARLY, *early_ages(EARLY))
    ]
    expected = math.log(sum(math.exp(one.log_e_harm) for one in alone) / 3)
    assert findings.evidence[0].log_e_harm == pytest.approx(expected)
    assert assess(found, EARLY, CRITERIA[EARLY.name], weight=0.5).log_e_harm == pytest.approx(expected)
    assert findings.evidence[0].log_e_safe == pytest.approx(alone[0].log_e_safe)
    # Stages, minimums and the split speak of conversations of the full age.
    assert findings.stage_conversations == 200


def test_harm_is_proven_before_anybody_has_reached_the_horizon() -> None:
    first, second = early_ages(EARLY)
    found = rollout((0.05, {first.name: ((400, 200), (7600, 300)), second.name: ((0, 0), (0, 0))}))
    metrics = [EARLY if metric.name == EARLY.name else metric for metric in BUILT_IN]
    findings = look(found, metrics=metrics, criteria={EARLY.name: CRITERIA[EARLY.name]}, checks=())
    assert findings.harmed == ("error_rate",)
    assert statuses(findings) == {"error_rate": Status.HARMED}
    assert findings.stage_conversations == 0


def test_an_equal_canary_is_called_harmful_at_earlier_ages_in_at_most_5_percent_of_rollouts() -> None:
    rng = np.random.default_rng(9)
    runs, looks, size, weight = 1500, 40, 300, 0.3
    # An event comes at some age: one in three before a twentieth of the horizon, one in three before a quarter.
    events = rng.multinomial(size, [0.02, 0.02, 0.02, 0.94], (runs, looks))[:, :, :3]
    of_canary = rng.binomial(events, weight)
    alarms = np.zeros(runs, dtype=bool)
    for look_at in range(1, looks + 1):
        ages = []
        # What was begun since the last look has reached the first age; two looks later it has reached the horizon.
        for age, lag in ((1, 0), (2, 1), (3, 2)):
            upto = slice(0, max(look_at - lag, 0))
            canary, both = (one[:, upto, :age].sum(axis=(1, 2))[:, None] for one in (of_canary, events))
            growth = conditional_binomial(canary, both - canary, weight, ratio=1.0, question=Question.HARM)
            ages.append(late_changes(mixture(growth)[:, None]))
        found = [Answers(log_e, np.zeros(runs), alarms, alarms) for log_e in ages]
        alarms = alarms | (with_early_ages(found[-1], found[:-1]).log_e_harm >= math.log(20))
    # One-sided binomial bound at 1e-4.
    assert 0 < alarms.mean() <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / runs)


def test_a_declared_rate_of_violations_must_be_ruled_out_by_conversations_without_one() -> None:
    for units, seen, tolerated, expected in (
        (2995, 0, 0, "0 violations in 2995 conversations of the canary do not rule out a rate of 0.001; 2996 without"),
        (2996, 0, 0, ""),
        (2996, 1, 1, "1 violations in 2996 conversations of the canary do not rule out a rate of 0.001"),
        (9000, 1, 1, ""),
    ):
        found = rollout((0.5, {"error_rate": ((units, 10), (3000, 10))}), safety=Safety(canary=seen, reports=9))
        unproven = look(found, max_violation_rate=0.001, max_safety_violations=tolerated).unproven
        assert bool(unproven) is bool(expected)
        assert expected in "".join(unproven)
    assert look(found).unproven == ()


def test_a_rate_of_violations_that_is_true_is_ruled_out_in_at_most_5_percent_of_rollouts() -> None:
    rng = np.random.default_rng(8)
    rate, needed = 0.01, -math.log(0.05)
    for tolerated in (0, 3):
        wrong = 0
        for _ in range(1500):
            seen = np.cumsum(rng.random(3000) < rate)[9::10]
            wrong += any(
                log_e_below(int(k), 10 * (look + 1), rate, tolerated=tolerated) >= needed
                for look, k in enumerate(seen[: np.searchsorted(seen, tolerated, side="right")])
            )
        # One-sided binomial bound at 1e-4; it is reached where nothing is tolerated.
        assert 0 < wrong / 1500 <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / 1500)


def test_a_metric_without_any_evidence_of_harm_is_not_named_with_the_one_that_has_it() -> None:
    findings = look(rollout((0.5, {**EQUAL, "error_rate": ((12_000, 1800), (12_000, 600))})))
    assert findings.harmed == ("error_rate",)
    assert statuses(findings)["task_completion_rate"] is Status.SAFE


@pytest.mark.parametrize(("tolerated", "unsafe"), [(0, True), (1, True), (2, False)])
def test_one_violation_more_than_tolerated_stops_the_canary(tolerated: int, unsafe: bool) -> None:
    findings = look(rollout((0.5, EQUAL), safety=Safety(canary=2, reports=9)), max_safety_violations=tolerated)
    assert bool(findings.unsafe) is unsafe
    if unsafe:
        assert f"2 confirmed safety violations of the canary, {tolerated} tolerated" in findings.unsafe


def test_violations_of_stable_stop_nothing() -> None:
    assert look(rollout((0.5, EQUAL), safety=Safety(stable=50, reports=50))).unsafe == ""


def test_a_safety_check_is_met_by_policy_with_its_limit_printed() -> None:
    met = look(rollout((0.05, {"error_rate": ((50, 2), (950, 40))}))).checks[2]
    # Clopper-Pearson, 0 of 50, one-sided 95 %: R 4.2.2 stats::binom.test.
    assert (met.status, met.reason) == (
        Status.SAFE,
        "0 in 50 conversations of the canary: at most 5.82% of them, with 95 % confidence",
    )
    failed = look(rollout((0.5, EQUAL), safety=Safety(canary=1, reports=9)), max_safety_violations=3).checks[2]
    assert (failed.status, failed.reason) == (Status.SUSPECT, "1 where 0 are allowed")
    assert look(rollout((0.05, {"error_rate": ((0, 0), (9, 0))}))).checks[2].status is Status.NO_DATA


def test_that_nobody_ever_reported_on_safety_is_a_warning() -> None:
    silent = rollout((0.5, EQUAL), safety=Safety())
    assert look(silent).warnings == ("no safety report was ever received: nobody may be watching",)
    assert look(silent, checks=()).warnings == ()


def test_a_wrong_split_makes_the_data_invalid_and_says_so_with_numbers() -> None:
    skewed = rollout((0.05, {"error_rate": ((900, 45), (9100, 455))}))
    findings = look(skewed)
    assert findings.sample_ratio.alarm
    assert findings.invalid == findings.sample_ratio.reason
    assert findings.invalid == (
        "sample ratio: of the conversations assigned the canary has 900 of 10000 where 5.0% was asked for"
    )


def test_a_split_that_is_lost_while_counting_alarms_too() -> None:
    lost = replace(
        rollout((0.5, {"error_rate": ((4000, 200), (5000, 250))})),
        assigned={(0, Arm.CANARY): 5000, (0, Arm.STABLE): 5000},
    )
    findings = look(lost)
    assert findings.sample_ratio.log_e_assigned < 0 < findings.sample_ratio.log_e_counted
    assert "of the conversations counted the canary has 4000 of 9000 where 50.0% was asked for" in findings.invalid


def test_harm_that_only_a_wrong_split_shows_is_no_harm() -> None:
    # Three times the units with the same error rate: by the design three times the errors.
    findings = look(rollout((0.05, {"error_rate": ((2400, 120), (16_200, 810))})))
    assert findings.log_e_harm > findings.log_e_harm_boundary
    assert findings.harmed == ()
    assert statuses(findings)["error_rate"] is Status.UNDECIDED


def test_a_wrong_split_does_not_hide_harm() -> None:
    findings = look(rollout((0.05, {"error_rate": ((2400, 480), (16_200, 810))})))
    assert findings.harmed == ("error_rate",)
    assert findings.invalid


def test_restarts_get_a_smaller_and_smaller_share_that_adds_up_to_alpha() -> None:
    assert sum(budget(0.05, attempt) for attempt in range(2, 20_000)) == pytest.approx(0.05, rel=1e-3)
    harmful = rollout((0.5, {"error_rate": ((1000, 110), (1000, 50))}))
    first, third = (look(harmful, attempt=attempt) for attempt in (1, 4))
    assert third.log_e_harm_boundary == pytest.approx(math.log(20 * 12))
    assert first.harmed
    assert not third.harmed
    assert look(rollout((0.5, EQUAL)), attempt=40).evidence[0].status is not Status.SAFE


@pytest.mark.parametrize(("alpha", "attempt"), [(0.0, 1), (1.0, 1), (5.0, 1), (0.05, 0)])
def test_an_impossible_budget_is_refused(alpha: float, attempt: int) -> None:
    with pytest.raises(ValueError, match=r"alpha must be between 0 and 0.5|attempts are counted from 1"):
        budget(alpha, attempt)


def test_a_criterion_that_nobody_records_or_checks_is_not_measured_and_one_that_is_checked_has_no_data() -> None:
    only_errors = rollout((0.5, {"error_rate": EQUAL["error_rate"]}))
    unchecked = look(only_errors, checks=CHECKS[:1])
    assert unchecked.not_measured == ("task_completion_rate",)
    assert statuses(unchecked) == {"error_rate": Status.SAFE}
    assert (
        "task_completion_rate is not measured: no check names it and nothing of it is counted yet" in unchecked.warnings
    )
    checked = look(only_errors)
    assert checked.not_measured == ()
    assert statuses(checked)["task_completion_rate"] is Status.NO_DATA
    assert checked.checks[1].status is Status.NO_DATA
    later = look(only_errors, checks=CHECKS[:1], checked={"task_completion_rate"})
    assert statuses(later)["task_completion_rate"] is Status.NO_DATA


def test_errors_and_latency_are_always_measured() -> None:
    criteria = {ERROR_RATE.name: CRITERIA[ERROR_RATE.name], P95_LATENCY.name: relative_boundary(P95_LATENCY, 0.5)}
    findings = look(rollout((0.5, {})), criteria=criteria, checks=())
    assert statuses(findings) == {"error_rate": Status.NO_DATA, "p95_latency": Status.NO_DATA}


def test_a_margin_of_the_promotion_is_proven_apart_from_its_criterion() -> None:
    tight = {"error_rate": relative_boundary(ERROR_RATE, 0.0)}
    findings = look(rollout((0.5, EQUAL)), margins=tight)
    assert findings.evidence[0].status is Status.SAFE
    assert findings.margins[0].status is Status.UNDECIDED
    worse = look(rollout((0.5, {**EQUAL, "error_rate": ((12_000, 800), (12_000, 600))})), margins=tight)
    assert worse.harmed == ()
    assert worse.margins[0].status is Status.SUSPECT


def test_a_stage_is_judged_by_its_own_epochs_for_its_minimum_and_by_all_for_its_checks() -> None:
    first: Sums = {"error_rate": ((100, 5), (1900, 95))}
    second: Sums = {"error_rate": ((40, 2), (240, 12))}
    findings = look(rollout((0.05, first), (0.15, second)), stage=1)
    assert findings.stage_conversations == 40
    evidence = findings.checks[0].evidence
    assert evidence is not None
    assert evidence.canary is not None
    assert evidence.canary.units == 140


def test_a_check_is_proven_at_the_weight_of_its_stage() -> None:
    checks = (parse_check("error_rate_increase < 0.50"),)
    findings = look(rollout((0.05, {"error_rate": ((3000, 150), (57_000, 2850))})), checks=checks)
    assert findings.checks[0].status is Status.SAFE
    assert statuses(findings)["error_rate"] is Status.UNDECIDED


def test_the_threshold_for_a_new_epoch_is_stables_quantile_with_the_history_before_the_rollout() -> None:
    slow = bin_of(8.0)
    history = Cell(P95_LATENCY.name, -1, Arm.STABLE)
    running = Cell(P95_LATENCY.name, 0, Arm.STABLE)
    found = Aggregates(
        epochs=(Epoch(number=0, weight=0.5, stage=0),),
        histograms={history: {0: 150}, running: {0: 40, slow: 10}, Cell(P95_LATENCY.name, 0, Arm.CANARY): {500: 900}},
    )
    assert look(found, checks=()).thresholds == {"p95_latency": edge(0)}
    short = replace(found, histograms={history: {0: 149}, running: {0: 40, slow: 10}})
    assert look(short, checks=()).thresholds == {}


def test_an_empty_rollout_is_without_data_and_neither_good_nor_bad() -> None:
    findings = look(Aggregates(safety=Safety(reports=1)))
    assert set(statuses(findings).values()) == {Status.NO_DATA}
    assert {found.status for found in findings.checks} == {Status.NO_DATA}
    assert (findings.harmed, findings.invalid, findings.stage_conversations) == ((), "", 0)
    assert findings.log_e_harm == pytest.approx(0, abs=1e-12)


def test_no_stable_errors_do_not_hide_a_canary_that_fails() -> None:
    # The article's relative change is 0 whenever stable has none.
    assert look(rollout((0.5, {**EQUAL, "error_rate": ((500, 25), (500, 0))}))).harmed == ("error_rate",)


def test_an_unknown_metric_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="metric 'task_completion_rate' is unknown; the metrics are error_rate"):
        look(rollout((0.5, EQUAL)), metrics=[ERROR_RATE], checks=CHECKS[:1])


def test_a_count_is_no_criterion() -> None:
    line = Boundary(ratio=1.0, floor=0.0, direction=SAFETY_VIOLATIONS.direction)
    with pytest.raises(ValueError, match="safety_violations is a count: its limit is a policy"):
        look(rollout((0.5, EQUAL)), criteria={"safety_violations": line})


def random_rollout(rng: np.random.Generator) -> Aggregates:
    """Three stages with effects, losses and missing values of every kind."""
    epochs, tallies, histograms = [], {}, {}
    tau = edge(bin_of(4.0))
    assigned = {}
    skew = rng.choice([1.0, 1.0, 1.0, 1.4])
    effects = {name: rng.choice([1.0, 1.0, 1.3, 2.0]) for name in ("error_rate", "latency")}
    quality = rng.choice([1.0, 0.97, 0.85])
    answered = rng.choice([1.0, 1.0, 0.97, 0.6])
    for number, weight in enumerate((0.05, 0.15, 0.5)[: rng.integers(1, 4)]):
        epochs.append(Epoch(number=number, weight=weight, stage=number, thresholds={"p95_latency": tau}))
        size = int(rng.integers(200, 9000))
        canary = rng.binomial(size, min(weight * skew, 1.0))
        for arm, units in ((Arm.CANARY, int(canary)), (Arm.STABLE, int(size - canary))):
            on_canary = arm is Arm.CANARY
            assigned[number, arm] = units
            errors = float(rng.binomial(units, 0.05 * (effects["error_rate"] if on_canary else 1)))
            tallies[Cell("error_rate", number, arm)] = {1: Tally(units, units, errors, errors)}
            told = int(rng.binomial(units, answered))
            done = float(rng.binomial(told, 0.85 * (quality if on_canary else 1)))
            tallies[Cell("task_completion_rate", number, arm)] = {1: Tally(units, told, done, done)}
            rated = int(rng.binomial(units, 0.9))
            marks = rng.normal(4 * (quality if on_canary else 1), 1, rated)
            squares = float((marks**2).sum())
            tallies[Cell("user_satisfaction", number, arm)] = {1: Tally(units, rated, float(marks.sum()), squares)}
            times = rng.lognormal(math.log(effects["latency"] if on_canary else 1), 0.85, units)
            numbers, counts = np.unique([bin_of(float(value)) for value in times], return_counts=True)
            histograms[Cell("p95_latency", number, arm)] = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return Aggregates(epochs=tuple(epochs), tallies=tallies, histograms=histograms, assigned=assigned)


def test_a_batch_of_rollouts_is_decided_as_each_of_them() -> None:
    rng = np.random.default_rng(21)
    found = [random_rollout(rng) for _ in range(60)]
    criteria = {
        **CRITERIA,
        P95_LATENCY.name: relative_boundary(P95_LATENCY, 0.5),
        USER_SATISFACTION.name: relative_boundary(USER_SATISFACTION, 0.05),
    }
    metrics: dict[str, Metric] = {metric.name: metric for metric in BUILT_IN}
    checks = [
        parse_check(text)
        for text in ("error_rate_increase < 0.05", "p95_latency_increase < 0.30", "satisfaction_regression < 0.02")
    ]
    margins = {ERROR_RATE.name: relative_boundary(ERROR_RATE, 0.05)}
    lines = [Line(metrics[name], boundary) for name, boundary in criteria.items()]
    seen: set[object] = set()
    for stages in (1, 2, 3):
        # Rollouts of equal length stand side by side.
        group = [one for one in found if len(one.epochs) == stages]
        cells = {line: stacked([cells_of(one, line.metric, line.boundary) for one in group]) for line in lines}
        split = Split(
            np.array([[epoch.weight for epoch in one.epochs] for one in group]),
            *2
            * [
                np.array([[float(one.assigned[epoch.number, arm]) for epoch in one.epochs] for one in group])
                for arm in (Arm.CANARY, Arm.STABLE)
            ],
        )
        budgets = {"alpha": 0.05, "alpha_promote": 0.05}
        decisions = decide(cells, lines, split, weight=0.5, **budgets)
        tight = Line(ERROR_RATE, margins[ERROR_RATE.name])
        tight_cells = stacked([cells_of(one, ERROR_RATE, tight.boundary) for one in group])
        proofs = margin_statuses(tight_cells, tight, weight=0.5, **budgets)
        check_codes = []
        for check in checks:
            line = Line(metrics[check.metric], check.boundary(metrics[check.metric]))
            of_check = stacked([cells_of(one, line.metric, line.boundary) for one in group])
            weight = group[0].epochs[-1].weight
            check_codes.append(check_statuses(of_check, line, weight=weight, prove=True, **budgets))
        for row, one in enumerate(group):
            findings = look(one, criteria=criteria, margins=margins, checks=checks, stage=stages - 1)
            assert bool(findings.harmed) is bool(decisions.harmed[row])
            assert findings.sample_ratio.alarm is bool(decisions.alarm[row])
            assert findings.log_e_harm == pytest.approx(decisions.log_e_harm[row])
            expected = [STATUSES[code] for code in decisions.criteria[row]]
            for evidence, status in zip(findings.evidence, expected, strict=True):
                assert evidence.status in (status, Status.HARMED)
            assert findings.margins[0].status is STATUSES[proofs[row]]
            assert [check.status for check in findings.checks] == [STATUSES[codes[row]] for codes in check_codes]
            seen |= {*expected, *(check.status for check in findings.checks), bool(findings.harmed)}
            seen |= {"alarm"} if findings.sample_ratio.alarm else set()
    # The comparison would be worth little if nothing ever happened.
    assert {Status.SAFE, Status.UNDECIDED, Status.SUSPECT, Status.NO_DATA, True, False, "alarm"} <= seen


def test_a_look_at_many_lines_says_of_each_what_a_look_at_it_alone_says() -> None:
    rng = np.random.default_rng(23)
    criteria = {
        **CRITERIA,
        P95_LATENCY.name: relative_boundary(P95_LATENCY, 0.5),
        USER_SATISFACTION.name: relative_boundary(USER_SATISFACTION, 0.05),
    }
    metrics = {metric.name: metric for metric in BUILT_IN}
    checks = [
        parse_check(text)
        for text in (
            "error_rate_increase < 0.10",
            "error_rate_increase < 0.03",
            "task_completion_regression < 0.02",
            "p95_latency_increase < 0.50",
            "p95_latency_increase < 0.20",
            "satisfaction_regression < 0.02",
        )
    ]
    for _ in range(15):
        found = random_rollout(rng)
        findings = look(found, criteria=criteria, checks=checks, stage=len(found.epochs) - 1)
        at_stage = max((w for w in [found.epochs[-1].weight] if w < 1), default=0.5)
        asked = [(evidence, evidence.boundary, 0.5) for evidence in findings.evidence]
        asked += [
            (one.evidence, one.check.boundary(metrics[one.check.metric]), at_stage)
            for one in findings.checks
            if one.evidence is not None
        ]
        assert len(asked) == 10
        for evidence, boundary, weight in asked:
            alone = assess(found, metrics[evidence.metric], boundary, weight=weight)
            for name in ("log_e_harm", "log_e_safe"):
                assert getattr(evidence, name) == pytest.approx(getattr(alone, name), rel=1e-9, abs=1e-9)
            assert evidence.test is not None
            assert alone.test is not None
            assert evidence.test.p_value == pytest.approx(alone.test.p_value, rel=1e-9)
            same = ("boundary", "stable", "canary", "relative_change", "interval", "drifting", "answered", "notes")
            assert all(getattr(evidence, name) == getattr(alone, name) for name in same)


counts = st.integers(0, 2000)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]), *[st.tuples(counts, counts)] * 6),
        min_size=1,
        max_size=3,
    )
)
def test_any_aggregates_give_findings(epochs: list[tuple[float, *tuple[tuple[int, int], ...]]]) -> None:
    names = ("error_rate", "task_completion_rate", "user_satisfaction")
    sums = [
        (
            weight,
            {
                name: tuple((max(pair), float(min(pair))) for pair in cells[2 * at : 2 * at + 2])
                for at, name in enumerate(names)
            },
        )
        for weight, *cells in epochs
    ]
    criteria = {**CRITERIA, "user_satisfaction": relative_boundary(USER_SATISFACTION, 0.05)}
    findings = look(rollout(*sums), criteria=criteria)  # type: ignore[arg-type]  # pairs, made above
    assert all(np.isfinite([found.log_e_harm, found.log_e_safe]).all() for found in findings.evidence)
