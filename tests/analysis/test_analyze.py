"""A recorded comparison: verdicts by one look, any look and scheduled looks, by the engine that decides rollouts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import agentcanary_analysis as aca
from agentcanary_analysis import (
    AnalysisResult,
    Boundary,
    Claim,
    Direction,
    Kind,
    Metric,
    Proportion,
    Status,
    TableError,
    analyze_result,
    boundary_test,
    frame_aggregates,
    judge,
    parse_check,
)
from agentcanary_analysis.frame_columns import as_recorded, default_metrics

START = pd.Timestamp("2026-01-05", tz="UTC")


def comparison(
    rows: int = 8000,
    *,
    errors: tuple[float, float] = (0.05, 0.05),
    completed: tuple[float, float] = (0.85, 0.85),
    slower: float = 1.0,
    share: float = 0.3,
    seed: int = 5,
) -> pd.DataFrame:
    """Independent conversations of two versions; pairs are (stable, canary)."""
    rng = np.random.default_rng(seed)
    canary = rng.random(rows) < share
    return pd.DataFrame(
        {
            "conversation_id": np.arange(rows),
            "version": np.where(canary, "v2", "v1"),
            "user_id": rng.integers(0, rows // 5, rows),
            "error": (rng.random(rows) < np.where(canary, errors[1], errors[0])).astype(int),
            "completed": (rng.random(rows) < np.where(canary, completed[1], completed[0])).astype(int),
            "safety_violations": 0,
            "satisfaction": rng.integers(1, 6, rows).astype(float),
            "latency_s": rng.lognormal(0.5, 0.8, rows) * np.where(canary, slower, 1.0),
            "started_at": START + pd.to_timedelta(np.arange(rows) * 30, unit="s"),
        }
    )


def analysed(frame: pd.DataFrame, **more: Any) -> AnalysisResult:
    return analyze_result(frame, **{"stable": "v1", "canary": "v2", **more})


def status(result: AnalysisResult, metric: str) -> Status:
    return next(check.status for check in result.checks if check.metric.name == metric)


METHODS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "fixed, by cluster": {"cluster": "user_id"},
    "anytime": {"method": "anytime", "weight": 0.3},
    "group-sequential": {"method": "group-sequential"},
    "group-sequential, by cluster": {"method": "group-sequential", "cluster": "user_id"},
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_harmful_canary_is_rolled_back(method: dict[str, Any]) -> None:
    result = analysed(comparison(errors=(0.05, 0.10)), **method)
    assert result.verdict == "rollback"
    assert status(result, "error_rate") is Status.HARMED
    assert result.reasons[0].startswith("error_rate_increase < 0.10: harmed: canary ")


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_better_canary_is_promoted(method: dict[str, Any]) -> None:
    frame = comparison(20_000, errors=(0.06, 0.03), completed=(0.85, 0.9), slower=0.8)
    result = analysed(frame, **method)
    assert result.verdict == "promote", result.reasons
    assert {check.status for check in result.checks} == {Status.SAFE}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_few_conversations_decide_nothing_and_say_how_many_more_are_needed(method: dict[str, Any]) -> None:
    frame = comparison(400)
    number = np.arange(400)
    frame["version"] = np.where(number % 10 < 3, "v2", "v1")
    # 34 of 280 and 11 of 120, spread over the time: better than the boundary, and not significantly so.
    frame["error"] = 0
    for version, events in (("v1", 34), ("v2", 11)):
        mine = frame.index[frame.version == version]
        frame.loc[mine[:: len(mine) // events][:events], "error"] = 1
    result = analysed(frame, **method, checks=["error_rate_increase < 0.10"])
    assert result.verdict == "hold"
    assert result.checks[0].status in (Status.UNDECIDED, Status.SUSPECT)
    if result.method != "group-sequential":
        assert "more conversations" in result.checks[0].reason
        needs = result.checks[0].needs
        assert needs is not None
        assert needs > 0


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_slow_canary_is_rolled_back_for_its_p95(method: dict[str, Any]) -> None:
    result = analysed(comparison(slower=2.2), **method, checks=["p95_latency_increase < 0.30"])
    assert status(result, "p95_latency") is Status.HARMED
    check = result.checks[0]
    assert check.relative_change == pytest.approx(1.2, abs=0.25)
    assert check.interval is not None
    assert check.interval.low > 0.3


def test_one_look_is_the_test_of_the_engine() -> None:
    frame = comparison(errors=(0.05, 0.07))
    result = analysed(frame, checks=["error_rate_increase < 0.10"])
    errors = [frame.error[frame.version == name] for name in ("v2", "v1")]
    arms = [[Proportion(int(values.sum()), len(values))] for values in errors]
    line = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
    check = result.checks[0]
    assert check.test is not None
    assert check.test.p_value == boundary_test(arms[0], arms[1], line).p_value
    assert check.p_safe == boundary_test(arms[0], arms[1], line, claim=Claim.WITHIN).p_value


def test_any_look_is_the_verdict_of_the_controller() -> None:
    frame = comparison(errors=(0.05, 0.08)).drop(columns="latency_s")
    result = analysed(frame, method="anytime", weight=0.3, checks=["error_rate_increase < 0.10"])
    metrics = [as_recorded(metric) for metric in default_metrics()]
    check = parse_check("error_rate_increase < 0.10")
    counted = frame_aggregates(frame, stable="v1", canary="v2", weight=0.3)
    found = judge(
        counted,
        metrics=metrics,
        criteria={"error_rate": check.boundary(next(m for m in metrics if m.name == "error_rate"))},
        checked=["error_rate"],
        proof_weight=0.3,
    )
    assert result.checks[0].log_e_harm == pytest.approx(found.evidence[0].log_e_harm, rel=1e-12)
    assert result.checks[0].status is found.evidence[0].status is Status.HARMED


def test_the_evidence_over_time_ends_where_the_evidence_is() -> None:
    result = analysed(comparison(errors=(0.05, 0.08)), method="anytime", weight=0.3)
    for check in result.checks[:3]:
        last = check.over_time[-1]
        assert (last.harm, last.safe) == (check.log_e_harm, check.log_e_safe)
        conversations = [point.conversations for point in check.over_time]
        assert conversations == sorted(conversations)
        times = [point.at for point in check.over_time if point.at is not None]
        assert times == sorted(times)
        assert len(times) == len(conversations) == 20


def test_the_threshold_of_p95_comes_from_the_beginning_that_is_not_tested() -> None:
    result = analysed(comparison(), method="anytime", weight=0.3, checks=["p95_latency_increase < 0.50"])
    check = result.checks[0]
    assert check.status is Status.SAFE
    assert any("threshold" in note for note in check.notes)
    assert [epoch.label for epoch in result.epochs] == ["all (beginning)", "all (rest)"]


def test_a_ramp_fools_nobody() -> None:
    """Base rate and weight rise together: pooled, the canary would seem twice as bad."""
    early, late = comparison(6000, errors=(0.03, 0.03), share=0.05), comparison(6000, errors=(0.12, 0.12), share=0.5)
    frame = pd.concat([early.assign(weight=0.05), late.assign(weight=0.5, conversation_id=late.conversation_id + 6000)])
    pooled = frame.groupby("version").error.mean()
    assert pooled["v2"] / pooled["v1"] > 1.4
    for method in ("fixed", "anytime", "group-sequential"):
        check = analysed(frame, method=method, checks=["error_rate_increase < 0.10"]).checks[0]
        assert check.status is not Status.HARMED
        assert check.relative_change == pytest.approx(0, abs=0.15)


def test_strata_are_compared_each_within_itself() -> None:
    """Simpson's paradox: the canary got the hard domain, and is equal in both."""
    hard, easy = comparison(6000, errors=(0.2, 0.2), share=0.6), comparison(6000, errors=(0.02, 0.02), share=0.1)
    frame = pd.concat(
        [hard.assign(domain="hard"), easy.assign(domain="easy", conversation_id=easy.conversation_id + 6000)]
    )
    checks = ["error_rate_increase < 0.10"]
    assert analysed(frame, checks=checks).verdict == "rollback"
    assert analysed(frame, checks=checks, strata="domain").verdict != "rollback"


def test_clusters_widen_what_repeats_itself() -> None:
    """Each user has one fate and ten conversations: without clusters the table looks ten times as large."""
    users = comparison(500, errors=(0.10, 0.14), seed=8)
    frame = pd.concat([users.assign(user_id=users.conversation_id)] * 10)
    frame["conversation_id"] = np.arange(len(frame))
    checks = ["error_rate_increase < 0.00"]
    check = analysed(frame, checks=checks, cluster="user_id").checks[0]
    one_row = analysed(users, checks=checks).checks[0]
    assert check.test is not None
    assert check.naive_test is not None
    assert one_row.test is not None
    assert check.naive_test.p_value < check.test.p_value
    assert check.test.p_value == pytest.approx(one_row.test.p_value, abs=0.03)
    assert check.stable.clusters == (users.version == "v1").sum()


def test_few_clusters_prove_nothing() -> None:
    frame = comparison(4000, errors=(0.02, 0.2)).assign(user_id=lambda rows: rows.conversation_id % 8)
    check = analysed(frame, cluster="user_id", checks=["error_rate_increase < 0.10"]).checks[0]
    assert (check.status, check.reason) == (
        Status.UNDECIDED,
        "there are fewer than 10 effective clusters in an arm",
    )


def test_harm_is_asked_by_holms_procedure_over_all_checks() -> None:
    frame = comparison(errors=(0.05, 0.072), seed=1)
    one = analysed(frame, checks=["error_rate_increase < 0.10"]).checks[0]
    assert one.test is not None
    p = one.test.p_value
    assert analysed(frame, checks=["error_rate_increase < 0.10"], alpha=p * 1.5).verdict == "rollback"
    both = ["error_rate_increase < 0.10", "task_completion_regression < 0.05"]
    assert analysed(frame, checks=both, alpha=p * 1.5).verdict != "rollback"
    assert analysed(frame, checks=both, alpha=p * 2.1).verdict == "rollback"


def test_two_checks_of_one_metric_are_two_boundaries() -> None:
    frame = comparison(errors=(0.05, 0.09))
    for method in ({}, {"method": "anytime", "weight": 0.3}):
        result = analysed(frame, checks=["error_rate_increase < 0.10", "error_rate_increase < 1.50"], **method)
        assert [check.status for check in result.checks] == [Status.HARMED, Status.SAFE]
        assert [check.metric.name for check in result.checks] == ["error_rate", "error_rate"]


def test_a_safety_violation_of_the_canary_rolls_back_whatever_the_rest_says() -> None:
    frame = comparison(20_000, errors=(0.06, 0.03), slower=0.8)
    frame.loc[frame.index[frame.version == "v2"][3], "safety_violations"] = 1
    result = analysed(frame)
    assert result.verdict == "rollback"
    assert "1 in" in next(check.reason for check in result.checks if check.metric.kind is Kind.COUNT)
    asked = analysed(frame, checks=["error_rate_increase < 0.10"])
    assert any("1 safety violations of the canary" in note for note in asked.notes)


def test_safety_that_nobody_reports_on_is_no_data() -> None:
    result = analysed(comparison().assign(safety_violations=np.nan), checks=["safety_violations == 0"])
    assert (result.verdict, result.checks[0].status) == ("hold", Status.NO_DATA)


def test_a_split_that_was_not_asked_for_holds_but_hides_no_harm() -> None:
    better = comparison(20_000, errors=(0.06, 0.03), completed=(0.85, 0.9), slower=0.8)
    held = analysed(better, weight=0.35)
    assert held.verdict == "hold"
    assert held.sample_ratio.alarm
    assert "sample ratio" in held.reasons[0]
    assert analysed(comparison(errors=(0.05, 0.12)), weight=0.4).verdict == "rollback"
    fine = analysed(better, weight=0.3)
    assert not fine.sample_ratio.alarm
    assert fine.sample_ratio.p_value is not None
    assert fine.sample_ratio.p_value > 0.0005


def test_missing_values_forbid_a_proof_unless_both_arms_answer_alike() -> None:
    frame = comparison(20_000, completed=(0.85, 0.92))
    rng = np.random.default_rng(3)
    checks = ["task_completion_regression < 0.05"]
    alike = frame.assign(completed=frame.completed.where(rng.random(len(frame)) < 0.7))
    assert analysed(alike, checks=checks).verdict == "promote"
    silent = np.where(frame.version == "v2", 0.5, 0.9)
    differs = frame.assign(completed=frame.completed.where(rng.random(len(frame)) < silent))
    result = analysed(differs, checks=checks)
    assert (result.verdict, result.checks[0].status) == ("hold", Status.NO_DATA)
    assert "values are missing for 4" in result.checks[0].reason or "5" in result.checks[0].reason
    clustered = analysed(differs, checks=checks, cluster="user_id")
    assert clustered.checks[0].status is Status.NO_DATA


def test_an_arm_without_values_is_no_data() -> None:
    frame = comparison()
    frame["completed"] = frame.completed.where(frame.version == "v1")
    result = analysed(frame, checks=["task_completion_regression < 0.05"])
    assert (result.verdict, result.checks[0].status) == ("hold", Status.NO_DATA)
    assert result.checks[0].test is None


def test_with_a_generator_intervals_are_bootstrapped_and_agree() -> None:
    frame = comparison()
    plain, drawn = analysed(frame), analysed(frame, rng=np.random.default_rng(7))
    for one, other in zip(plain.checks[:3], drawn.checks[:3], strict=True):
        assert one.interval is not None
        assert other.interval is not None
        assert other.interval.method == "bootstrap, 10,000 draws"
        assert other.interval.low == pytest.approx(one.interval.low, abs=0.05)
        assert other.interval.high == pytest.approx(one.interval.high, abs=0.05)
    again = analysed(frame, rng=np.random.default_rng(7))
    assert [check.interval for check in again.checks] == [check.interval for check in drawn.checks]


def test_the_callers_own_metric_is_judged() -> None:
    cost = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost_usd")
    rng = np.random.default_rng(2)
    frame = comparison()
    frame["cost_usd"] = rng.gamma(2.0, 0.01, len(frame)) * np.where(frame.version == "v2", 1.4, 1.0)
    result = analysed(frame, metrics=[cost], checks=["cost_increase < 0.10"])
    assert result.verdict == "rollback"
    assert result.checks[0].canary.value == pytest.approx(0.028, rel=0.05)


def test_the_dictionary_is_the_one_that_is_promised() -> None:
    for method in METHODS.values():
        data = json.loads(json.dumps(analysed(comparison(1000), **method).to_dict(), allow_nan=False))
        assert set(data) >= {"verdict", "reasons", "sample_ratio", "checks"}
        assert data["verdict"] in ("promote", "hold", "rollback")
        for check in data["checks"]:
            promised = {"check", "metric", "status", "boundary", "stable", "canary", "relative_change", "interval"}
            assert set(check) >= promised | {"test", "evidence", "needs"}
            assert {"harm", "safe"} <= set(check["evidence"])
            assert {"n"} <= set(check["stable"])
            if check["interval"] is not None:
                assert set(check["interval"]) == {"low", "high", "level", "method"}


BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "alpha": ({"alpha": 5}, ValueError, r"alpha must be between 0 and 0.5, got 5 \(write 0.05 for 5 %\)"),
    "method": ({"method": "sequential"}, ValueError, "fixed, anytime, group-sequential, got 'sequential'"),
    "seed": ({"rng": 7}, TypeError, "numpy.random.Generator"),
    "text for checks": ({"checks": "error_rate_increase < 0.1"}, TypeError, "must be a list"),
    "no check": ({"checks": []}, ValueError, "checks is empty"),
    "unknown check": ({"checks": ["errors < 1"]}, ValueError, "unknown metric 'errors'"),
    "anytime without a weight": ({"method": "anytime"}, TableError, "which share the canary was to get"),
    "looks": ({"method": "group-sequential", "looks": 1}, ValueError, "looks must be between 2 and 100"),
    "a check without its column": ({"checks": ["p95_latency_increase < 0.1"]}, TableError, "'latency_s' for p95"),
    "scheduled without times": ({"method": "group-sequential"}, TableError, "needs the column started_at"),
}


@pytest.mark.parametrize(("call", "kind", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_mistake_in_the_call_is_named(call: dict[str, Any], kind: type[Exception], message: str) -> None:
    frame = comparison(100)[["conversation_id", "version", "error"]]
    with pytest.raises(kind, match=message):
        analysed(frame, **call)


@pytest.mark.parametrize("method", [{}, {"cluster": "user_id"}, {"method": "anytime", "weight": 0.3}])
@settings(max_examples=12)
@given(data=st.data())
def test_any_small_table_gets_a_verdict_with_reasons(method: dict[str, Any], data: st.DataObject) -> None:
    """Constant values, empty arms, infinite latencies, one row: a named status, never a warning, never a crash."""
    values = st.one_of(st.none(), st.sampled_from([0, 1]))
    rows = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["v1", "v2"]),
                values,
                values,
                st.one_of(st.none(), st.floats(0, math.inf)),
                st.integers(0, 3),
            ),
            max_size=25,
        )
    )
    rows += [("v1", 0, 1, 1.0, 0), ("v2", 0, 1, 1.0, 1)]
    frame = pd.DataFrame(rows, columns=["version", "error", "completed", "latency_s", "user_id"])
    for column in ("error", "completed", "latency_s"):
        frame[column] = frame[column].astype(float)
    result = analysed(frame.assign(conversation_id=range(len(frame))), **method)
    assert result.verdict in ("promote", "hold", "rollback")
    assert result.reasons
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_a_good_canary_is_rolled_back_no_more_often_than_alpha() -> None:
    """On the line with three checks: 400 tables, judged by one look, by cluster and by scheduled looks."""
    tables, wrong = 400, dict.fromkeys(("fixed", "cluster", "scheduled"), 0)
    for seed in range(tables):
        frame = comparison(3000, errors=(0.05, 0.06), completed=(0.85, 0.8025), slower=1.5, seed=seed)
        wrong["fixed"] += analysed(frame).verdict == "rollback"
        wrong["cluster"] += analysed(frame, cluster="user_id").verdict == "rollback"
        wrong["scheduled"] += analysed(frame, method="group-sequential").verdict == "rollback"
    # A true rate of 5 % gives more than this once in ten thousand runs.
    most = binom.ppf(1 - 1e-4, tables, 0.05)
    assert all(count <= most for count in wrong.values()), wrong


def test_a_report_is_what_users_get() -> None:
    report = aca.analyze(comparison(1000), stable="v1", canary="v2")
    assert report.verdict == "hold"
    assert len(report.to_frame()) == len(report.checks) == 4
