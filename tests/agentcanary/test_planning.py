from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from agentcanary.plan import DEFAULT_CRITERIA, DEFAULT_PROMOTION, Advance, Criterion, OnInconclusive, Plan, Stage
from agentcanary.planning import (
    Case,
    Chance,
    Expectations,
    Proof,
    StageProof,
    cases,
    expect,
    limit_of,
    outlook,
    stage_proofs,
    warnings,
)
from agentcanary.presets import PRESETS
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.metrics import BUILT_IN, ERROR_RATE, Direction, Kind, Metric
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.power import mean_power, proportion_power

STANDARD = Plan(stages=PRESETS["standard"].stages, criteria=DEFAULT_CRITERIA, promotion=DEFAULT_PROMOTION)
FULL = Stage(name="full", weight=1.0, duration=0.0)
COST = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost")
SPEED = Metric(name="speed", kind=Kind.MEAN, direction=Direction.DOWN_IS_WORSE, outcome="speed", floor=0.02)
METRICS = (*BUILT_IN, COST, SPEED)


def one_stage(
    *checks: str,
    weight: float = 0.5,
    hours: float = 10.0,
    least: int = 0,
    proven: bool = False,
    criteria: tuple[Criterion, ...] = (),
) -> Plan:
    stage = Stage(
        name="only",
        weight=weight,
        duration=3600 * hours,
        min_conversations=least,
        checks=tuple(parse_check(check, METRICS) for check in checks),
        advance=Advance.PROVEN if proven else Advance.QUIET,
    )
    return Plan(stages=(stage, FULL), criteria=criteria, metrics=METRICS)


def expected(plan: Plan, *, rate: float = 200.0, **stable: float) -> Expectations:
    return expect(plan, conversations_per_hour=rate, stable=stable)


def only(plan: Plan, *, rate: float = 200.0, **stable: float) -> tuple[StageProof, Proof]:
    found = stage_proofs(expected(plan, rate=rate, **stable))[0]
    return found, found.checks[0]


def test_what_nobody_stated_is_assumed_and_named_as_such() -> None:
    found = expect(STANDARD, conversations_per_hour=None, stable={"error_rate": 0.02})
    assert (found.conversations_per_hour, found.rate_stated) == (200.0, False)
    assert (found.metrics["error_rate"].stable, found.metrics["error_rate"].stated) == (0.02, True)
    assert (found.metrics["p95_latency"].stable, found.metrics["p95_latency"].stated) == (4.0, False)


def test_a_metric_that_no_check_names_takes_part_only_when_its_value_is_stated() -> None:
    without = expected(STANDARD)
    assert [metric.name for metric in without.left_out] == ["task_completion_rate"]
    assert [criterion.metric for criterion in without.plan.criteria] == ["error_rate", "p95_latency"]
    assert without.plan.promotion == ()
    with_it = expected(STANDARD, task_completion_rate=0.9)
    assert with_it.left_out == ()
    assert with_it.plan.promotion == DEFAULT_PROMOTION
    assert with_it.metrics["task_completion_rate"].stable == 0.9


@pytest.mark.parametrize(
    ("stable", "message"),
    [
        ({"error_rate": 5.0}, r"error_rate must be between 0 and 1, got 5 \(write 0.05 for 5 %"),
        ({"error_rate": 0.0}, "error_rate must be between 0 and 1, got 0"),
        ({"error_rate": float("nan")}, "error_rate must be between 0 and 1, got nan"),
        ({"p95_latency": 0.0}, "p95_latency must be positive, got 0"),
        ({"safety_violations": 2.0}, "safety_violations must be a share of the conversations"),
    ],
)
def test_an_impossible_value_of_stable_is_refused(stable: dict[str, float], message: str) -> None:
    plan = replace(STANDARD, stages=PRESETS["standard"].stages)
    with pytest.raises(ValueError, match=message):
        expect(plan, conversations_per_hour=200, stable=stable)


@pytest.mark.parametrize("rate", [0.0, -3.0, float("nan"), float("inf")])
def test_traffic_must_be_positive(rate: float) -> None:
    with pytest.raises(ValueError, match="conversations_per_hour must be positive"):
        expect(STANDARD, conversations_per_hour=rate, stable={})


def test_a_stage_lasts_until_its_minimum_of_conversations_is_counted() -> None:
    waiting, _ = only(one_stage("error_rate_increase < 0.10", weight=0.05, hours=0.5, least=50))
    # 50 canary conversations at 10 an hour, the last one counted half an hour after it began.
    assert (waiting.hours, waiting.conversations, waiting.waits) == (5.5, 50, True)
    long, _ = only(one_stage("error_rate_increase < 0.10", weight=0.05, hours=20.5, least=50))
    assert (long.hours, long.conversations, long.waits) == (20.5, 200, False)


def test_what_a_stage_proves_of_a_proportion_is_what_the_test_shows_with_the_promised_chance() -> None:
    _, found = only(one_stage("error_rate_increase < 0.10", weight=0.2, least=500, hours=1))
    assert found.line is not None
    assert found.detectable_ratio is not None
    assert found.certifiable_ratio is not None
    equal = replace(found.line, ratio=1.0)
    assert proportion_power(0.05 * found.detectable_ratio, 0.05, 500, 2000, equal) == pytest.approx(0.8, abs=1e-6)
    certified = replace(found.line, ratio=found.certifiable_ratio)
    assert proportion_power(0.05, 0.05, 500, 2000, certified, claim=Claim.WITHIN) == pytest.approx(0.8, abs=1e-6)
    assert found.needed is not None
    assert proportion_power(
        0.05, 0.05, found.needed, 4 * found.needed, found.line, claim=Claim.WITHIN
    ) == pytest.approx(0.8, abs=1e-6)
    assert not found.decidable


def test_what_a_stage_proves_of_a_mean_agrees_with_the_t_test() -> None:
    # Half of the traffic, 1000 a arm, the spread assumed to be as large as the mean: 1.
    _, found = only(one_stage("cost_increase < 0.2", least=1000, hours=1))
    assert found.detectable_ratio is not None
    assert mean_power(found.detectable_ratio - 1, 1.0, 1000) == pytest.approx(0.8, abs=2e-3)


@pytest.mark.parametrize("check", ["cost_increase < 0.2", "speed_regression < 0.1", "p95_latency_increase < 0.3"])
def test_a_check_is_decidable_from_as_many_conversations_on_as_it_needs(check: str) -> None:
    _, found = only(one_stage(check, least=5000, hours=1))
    assert found.needed is not None
    assert found.line is not None
    for units, decidable in ((int(0.98 * found.needed), False), (int(1.02 * found.needed), True)):
        _, asked = only(one_stage(check, least=units, hours=0.1))
        assert asked.decidable is decidable
        assert asked.certifiable_ratio is not None
        # The tightest margin that so many prove is beyond the check's exactly when the check is not decided.
        tighter = abs(asked.certifiable_ratio - 1) <= abs(found.line.ratio - 1)
        assert tighter is decidable


@pytest.mark.parametrize("preset", PRESETS)
def test_later_stages_of_a_preset_prove_more(preset: str) -> None:
    found = stage_proofs(expected(replace(STANDARD, stages=PRESETS[preset].stages)))
    errors = [
        proof.certifiable_ratio
        for stage in found
        for proof in stage.checks
        if proof.check.metric == "error_rate" and proof.certifiable_ratio is not None
    ]
    assert len(errors) == len(PRESETS[preset].stages) - 1
    assert errors == sorted(errors, reverse=True)


def test_a_latency_is_found_slower_as_often_as_promised() -> None:
    _, found = only(one_stage("p95_latency_increase < 0.30", least=1000, hours=1))
    assert found.detectable_ratio is not None
    beyond = norm.sf(norm.ppf(0.95) - np.log(found.detectable_ratio) / 0.8)
    rng = np.random.default_rng(1)
    canary, stable = rng.binomial(1000, beyond, 4000) / 1000, rng.binomial(1000, 0.05, 4000) / 1000
    pooled = (canary + stable) / 2
    z = (canary - stable) / np.sqrt(2 * pooled * (1 - pooled) / 1000)
    # Four standard errors of 4000 draws are 2.5 points.
    assert np.mean(z > norm.ppf(0.95)) == pytest.approx(0.8, abs=0.025)


def test_no_violation_still_allows_for_three_in_as_many_conversations() -> None:
    # Clopper-Pearson, statistics.csv: 0 of 50 leaves up to 5.8 %.
    _, found = only(one_stage("safety_violations == 0", least=50, hours=0.1))
    assert found.upper_limit == pytest.approx(1 - 0.05 ** (1 / 50))
    assert found.decidable


def test_a_check_against_equality_without_a_floor_can_never_be_proven() -> None:
    metrics = (replace(ERROR_RATE, floor=0.0), *BUILT_IN[1:])
    plan = replace(one_stage("error_rate_increase < 0", proven=True), metrics=metrics)
    found, check = only(plan)
    assert (check.needed, check.hours, check.decidable) == (None, None, False)
    assert found.asks_for_proof
    assert any("which never comes" in warning for warning in warnings(expected(plan), [found], []))


def test_a_floor_that_covers_everything_is_no_limit_at_all() -> None:
    metrics = (replace(ERROR_RATE, floor=0.96), *BUILT_IN[1:])
    _, check = only(replace(one_stage("error_rate_increase < 0.1"), metrics=metrics))
    assert (check.detectable_ratio, check.certifiable_ratio, check.decidable) == (None, 1.0, True)


def test_a_check_without_a_comparison_is_not_decidable() -> None:
    plan = one_stage("error_rate_increase < 0.10")
    given = expected(replace(plan, stages=(replace(plan.stages[0], weight=0.0), FULL)))
    dark = stage_proofs(given)[0]
    assert (dark.conversations, dark.checks[0].decidable, dark.checks[0].needed) == (0, False, None)
    assert "No stage lies between weight 0 and 1" in warnings(given, [dark], [])[0]


def test_with_very_many_conversations_a_canary_like_stable_is_within_the_floor_alone() -> None:
    _, check = only(one_stage("error_rate_increase < 0.10", least=10**6))
    assert (check.certifiable_ratio, check.decidable) == (1.0, True)


def test_a_check_that_its_stage_cannot_decide_is_warned_about() -> None:
    plan = one_stage("error_rate_increase < 0.10", "p95_latency_increase < 0.30", weight=0.05, hours=0.5, least=50)
    found = warnings(expected(plan), stage_proofs(expected(plan)), [])
    assert len(found) == 1
    assert "only (error_rate_increase < 0.10, p95_latency_increase < 0.30)" in found[0]
    patient = replace(plan, stages=(replace(plan.stages[0], duration=3600.0 * 24 * 60), FULL))
    assert warnings(expected(patient), stage_proofs(expected(patient)), []) == ()


def test_a_stage_that_asks_for_proof_says_how_long_it_really_lasts() -> None:
    plan = one_stage("error_rate_increase < 0.10", weight=0.05, hours=0.5, least=50, proven=True)
    [warning] = warnings(expected(plan), stage_proofs(expected(plan)), [])
    text = "Stage only waits for the proof of error_rate_increase < 0.10: about 3,464 canary conversations, "
    assert warning == text + "14d11h and not 30m."


def test_every_criterion_is_asked_with_canaries_of_four_degrees() -> None:
    found = cases(expected(STANDARD, error_rate=0.05, task_completion_rate=0.6))
    assert found[0] == Case()
    values = {(case.metric, case.ratio): (case.canary, case.tolerated) for case in found[1:]}
    assert values["error_rate", 1.25] == (0.0625, False)
    assert values["task_completion_rate", 1.5][0] == pytest.approx(0.4)
    assert values["p95_latency", 1.5] == (6.0, True)
    # Failures of 40 % times three are no share any more.
    assert ("task_completion_rate", 3.0) not in values


def test_a_harmless_canary_is_promoted_and_one_with_three_times_the_errors_is_not() -> None:
    plan = one_stage(
        "error_rate_increase < 0.10", least=200, hours=1, criteria=(Criterion(metric="error_rate", margin=0.5),)
    )
    given = expected(plan)
    found = {
        case.ratio: outlook(given, case, runs=40, rng=np.random.default_rng(1))
        for case in cases(given)
        if case.ratio in (1.0, 3.0)
    }
    assert found[1.0].promoted.share > 0.8
    assert found[1.0].rolled_back.count <= 6  # 5 % at most: seven of 40 happen once in 200 such tests
    assert found[3.0].harmed.count == 40
    early, median, late = found[3.0].conversations
    assert early is not None
    assert median is not None
    assert late is not None
    assert early <= median <= late


def test_harm_counts_as_rolled_back_in_a_stage_where_it_only_pauses() -> None:
    plan = one_stage(least=200, hours=1, criteria=(Criterion(metric="error_rate", margin=0.1),))
    pausing = replace(plan, stages=(replace(plan.stages[0], auto_rollback=False), FULL))
    given = expected(pausing)
    assert given.pausing == ("only",)
    case = next(case for case in cases(given) if case.ratio == 3)
    assert outlook(given, case, runs=20, rng=np.random.default_rng(1)).harmed.count == 20


def test_canaries_as_safe_as_stable_are_stopped_as_often_as_violations_come() -> None:
    plan = one_stage("safety_violations == 0", least=200, hours=1, criteria=(Criterion(metric="error_rate", margin=1),))
    given = expected(plan, safety_violations=0.01)
    found = outlook(given, Case(), runs=20, rng=np.random.default_rng(1))
    assert found.stopped.count >= 15
    assert found.stopped.count == found.rolled_back.count
    [warning] = warnings(given, [], [found])[-1:]
    assert "as safe as stable are stopped by a violation" in warning


def test_a_rollout_ends_undecided_with_its_maximum_duration() -> None:
    plan = one_stage(least=200, hours=1, criteria=(Criterion(metric="error_rate", margin=0.01),))
    hasty = replace(plan, max_duration=3 * 3600.0, on_inconclusive=OnInconclusive.ROLLBACK)
    given = expected(hasty)
    assert limit_of(given) == 3.5 * 200 + 1
    found = outlook(given, Case(), runs=20, rng=np.random.default_rng(1))
    assert found.inconclusive.count == 20
    assert any("only because max_duration" in warning for warning in warnings(given, [], [found]))


def test_without_a_maximum_the_simulation_outlasts_the_plan_threefold() -> None:
    assert limit_of(expected(STANDARD)) == 60_000
    # 30 hours of stages and half an hour at weight 1.
    assert limit_of(expected(STANDARD, rate=10_000)) == 3 * 305_000


def test_none_of_a_hundred_is_no_certainty() -> None:
    assert Chance(0, 100).error == pytest.approx(0.007, abs=1e-4)
    assert Chance(50, 100).error == pytest.approx(0.05, abs=1e-6)
