"""The check grammar: what it reads, and what it says about what it cannot read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary_analysis.checks import Boundary, CheckError, check_name, parse_check, relative_boundary
from agentcanary_analysis.metrics import (
    BUILT_IN,
    ERROR_RATE,
    P95_LATENCY,
    SAFETY_VIOLATIONS,
    TASK_COMPLETION_RATE,
    Direction,
    Kind,
    Metric,
)

COST = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost_usd")
RESOLVED = Metric(name="resolved", kind=Kind.PROPORTION, direction=Direction.DOWN_IS_WORSE, outcome="resolved")
BLOCKED = Metric(name="blocked_calls", kind=Kind.COUNT, direction=Direction.UP_IS_WORSE, outcome="blocked")

# The checks of the source article's pipeline file.
ARTICLE = {
    "error_rate_increase < 0.10": ("error_rate", 0.10),
    "safety_violations == 0": ("safety_violations", 0.0),
    "p95_latency_increase < 0.30": ("p95_latency", 0.30),
    "task_completion_regression < 0.02": ("task_completion_rate", 0.02),
    "satisfaction_regression < 0.05": ("user_satisfaction", 0.05),
}


@pytest.mark.parametrize(("text", "metric", "limit"), [(k, *v) for k, v in ARTICLE.items()], ids=ARTICLE)
def test_a_check_of_the_article_is_read(text: str, metric: str, limit: float) -> None:
    check = parse_check(text)
    assert (check.metric, check.limit, check.text) == (metric, limit, text)


@pytest.mark.parametrize(
    "text", ["  error_rate_increase<0.10 ", "error_rate_increase  <  1e-1", "\terror_rate_increase < .1"]
)
def test_spaces_and_notation_do_not_matter(text: str) -> None:
    assert parse_check(text).limit == 0.1


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("task_completion_rate_regression < 0.02", "task_completion_rate"),
        ("user_satisfaction_regression < 0.02", "user_satisfaction"),
        ("cost_increase < 0.2", "cost"),
        ("resolved_regression < 0.02", "resolved"),
        ("blocked_calls <= 3", "blocked_calls"),
    ],
)
def test_full_names_and_metrics_of_the_team_are_known(text: str, metric: str) -> None:
    assert parse_check(text, (*BUILT_IN, COST, RESOLVED, BLOCKED)).metric == metric


@pytest.mark.parametrize(
    ("text", "says"),
    {
        "": "cannot be read; write NAME < NUMBER",
        "error_rate_increase": "cannot be read",
        "error_rate_increase < 0.1 < 0.2": "cannot be read",
        "0.1 > error_rate_increase": "cannot be read",
        "eror_rate_increase < 0.10": "unknown metric 'eror_rate_increase'; did you mean 'error_rate_increase'?",
        "xyzzy < 0.1": "unknown metric 'xyzzy'; known: error_rate_increase, p95_latency_increase, safety_violations,",
        "error_rate < 0.1": "gets worse when it goes up; write error_rate_increase < NUMBER",
        "error_rate_regression < 0.1": "gets worse when it goes up; write error_rate_increase < NUMBER",
        "satisfaction_increase < 0.1": "gets worse when it goes down; write satisfaction_regression < NUMBER",
        "task_completion_increase < 0.1": "goes down; write task_completion_regression < NUMBER",
        "safety_violations_increase < 0.1": "safety_violations is a count; write safety_violations == 0",
        "error_rate_increase <= 0.1": "uses '<='; error_rate_increase is compared with <",
        "error_rate_increase == 0.1": "uses '=='",
        "error_rate_increase > 0.1": "uses '>'",
        "error_rate_increase ≤ 0.1": "uses '≤'",
        "error_rate_increase < ten": "compares with 'ten', which is not a number",
        "error_rate_increase < 10%": "compares with '10%', which is not a number; write 0.1",
        "error_rate_increase < nan": "compares with 'nan'; write a finite number",
        "error_rate_increase < inf": "compares with 'inf'; write a finite number",
        "error_rate_increase < 1e999": "compares with '1e999'; write a finite number",
        "error_rate_increase < 10": "limits are shares below 2, so write 0.1 for 10 %",
        "task_completion_regression < 1": "limits are shares below 1, so write 0.01 for 1 %",
        "task_completion_regression < -0.02": "the name says which way, so write task_completion_regression < 0.02",
        "safety_violations < 1": "is compared with == 0 or <= NUMBER",
        "safety_violations == 1": "write safety_violations == 0, or <= a whole number",
        "safety_violations <= 0.5": "has the limit 0.5",
        "safety_violations <= inf": "write a finite number",
        "safety_violations <= -1": "has the limit -1",
    }.items(),
)
def test_a_bad_check_says_what_is_wrong_and_what_to_write(text: str, says: str) -> None:
    with pytest.raises(CheckError) as error:
        parse_check(text)
    assert says in str(error.value)
    assert repr(text) in str(error.value)


def test_a_check_that_is_no_text_is_refused() -> None:
    with pytest.raises(CheckError, match=r"a check is text, got 0\.1"):
        parse_check(0.1)  # type: ignore[arg-type]  # what YAML gives for an unquoted number


def test_two_metrics_of_one_check_name_are_refused() -> None:
    twin = Metric(name="satisfaction", kind=Kind.MEAN, direction=Direction.DOWN_IS_WORSE, outcome="csat")
    with pytest.raises(CheckError, match="two metrics are both called 'satisfaction_regression'"):
        parse_check("error_rate_increase < 0.1", (*BUILT_IN, twin))


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        check = parse_check(text)
    except CheckError:
        return
    assert check.metric in {metric.name for metric in BUILT_IN}


@given(
    st.sampled_from([check_name(metric) for metric in BUILT_IN]),
    st.sampled_from(["<", "<=", "==", ">", "!="]),
    st.floats(allow_nan=True, allow_infinity=True),
)
def test_any_number_is_within_the_grammar_or_refused(name: str, comparison: str, limit: float) -> None:
    try:
        check = parse_check(f"{name} {comparison} {limit!r}")
    except CheckError:
        return
    assert math.isfinite(check.limit)
    assert check.limit >= 0


def test_the_boundary_of_the_article_at_five_percent_errors_is_six_percent() -> None:
    # statistics.md, section 3: "errors: judged against 6.0 % at your 5.0 % (+10 % and half a point)".
    assert parse_check("error_rate_increase < 0.10").boundary(ERROR_RATE).at(0.05) == pytest.approx(0.06)
    assert parse_check("task_completion_regression < 0.05").boundary(TASK_COMPLETION_RATE).at(0.85) == pytest.approx(
        0.8025
    )
    assert parse_check("p95_latency_increase < 0.30").boundary(P95_LATENCY).at(10.0) == pytest.approx(13.0)


def test_a_check_draws_no_boundary_for_another_metric_or_a_count() -> None:
    with pytest.raises(ValueError, match="is about error_rate, not p95_latency"):
        parse_check("error_rate_increase < 0.10").boundary(P95_LATENCY)
    with pytest.raises(ValueError, match="safety_violations is a count"):
        parse_check("safety_violations == 0").boundary(SAFETY_VIOLATIONS)


@pytest.mark.parametrize("margin", [-0.02, math.nan, math.inf])
def test_a_margin_of_the_wrong_sign_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin of error_rate must not be negative"):
        relative_boundary(ERROR_RATE, margin)


def test_a_margin_that_allows_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="must be below 1, got 2"):
        relative_boundary(TASK_COMPLETION_RATE, 2)


@pytest.mark.parametrize(
    ("ratio", "floor"), [(0.0, 0.0), (-1.0, 0.0), (1.0, -0.1), (math.inf, 0.0), (math.nan, 0.0), (1.0, math.nan)]
)
def test_an_impossible_boundary_is_refused(ratio: float, floor: float) -> None:
    with pytest.raises(ValueError, match="a boundary needs ratio > 0 and floor >= 0"):
        Boundary(ratio=ratio, floor=floor, direction=Direction.UP_IS_WORSE)


@given(st.floats(0, 0.9), st.floats(0, 0.5), st.floats(0, 1))
def test_a_boundary_always_lies_on_the_worse_side_of_stable(margin: float, floor: float, stable: float) -> None:
    up = Boundary(ratio=1 + margin, floor=floor, direction=Direction.UP_IS_WORSE)
    down = Boundary(ratio=1 - margin, floor=floor, direction=Direction.DOWN_IS_WORSE)
    assert down.at(stable) <= stable <= up.at(stable)
    assert (up.shift, down.shift) == (floor, -floor)
