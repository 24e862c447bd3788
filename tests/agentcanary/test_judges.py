"""What is said of judges: sampling rate and failures of each arm, lateness, and differences that matter."""

from __future__ import annotations

from agentcanary.outcomes import Judge
from agentcanary.status.judges import judge_warnings, reported_data
from agentcanary.store import ReportedArm
from agentcanary_analysis.aggregates import Arm

HORIZONS = {"relevance": 1800.0}


def arms(*, canary: tuple[int, ...], stable: tuple[int, ...] = (1000, 500, 500, 5, 0)) -> list[ReportedArm]:
    """Conversations, judged, outcomes, failed, late of each arm."""
    return [
        ReportedArm(
            name="relevance",
            kind=Judge.LLM,
            arm=arm,
            conversations=conversations,
            judged=judged,
            outcomes=outcomes,
            failed=failed,
            late=late,
        )
        for arm, (conversations, judged, outcomes, failed, late) in ((Arm.STABLE, stable), (Arm.CANARY, canary))
    ]


def test_sampling_and_failures_are_reported_for_each_arm() -> None:
    (line,) = reported_data(arms(canary=(100, 20, 25, 5, 1)))
    assert (line["outcome"], line["judge"]) == ("relevance", "LLM")
    assert (line["stable"]["sampling_rate"], line["stable"]["failure_rate"]) == (0.5, 0.01)
    assert (line["canary"]["sampling_rate"], line["canary"]["failure_rate"]) == (0.2, 0.2)


def test_nothing_judged_has_no_rate() -> None:
    (line,) = reported_data(arms(canary=(0, 0, 0, 0, 0)))
    assert (line["canary"]["sampling_rate"], line["canary"]["failure_rate"]) == (None, None)


def test_a_judge_that_treats_the_arms_alike_is_no_news() -> None:
    assert list(judge_warnings(arms(canary=(200, 102, 102, 1, 0)), HORIZONS)) == []


def test_a_judge_that_looks_at_one_arm_less_is_named() -> None:
    (said,) = judge_warnings(arms(canary=(200, 40, 40, 0, 0)), HORIZONS)
    assert "relevance (LLM) judged 20.0 % of the canary's conversations and 50.0 % of stable's" in said


def test_a_judge_that_fails_on_one_arm_more_is_named() -> None:
    (said,) = judge_warnings(arms(canary=(200, 100, 100, 20, 0)), HORIZONS)
    assert "gave no value for 20.0 % of what it judged on the canary and 1.0 % on stable" in said


def test_a_judge_that_comes_too_late_is_named_with_the_remedy() -> None:
    (said,) = judge_warnings(arms(canary=(200, 100, 100, 1, 90), stable=(1000, 500, 500, 5, 400)), HORIZONS)
    assert said.startswith("81.7 % of relevance (LLM) came later than 30m")
    assert said.endswith("state the metric's maturity")


def test_what_no_metric_reads_is_not_warned_about() -> None:
    assert list(judge_warnings(arms(canary=(200, 0, 0, 0, 0)), {})) == []


def test_a_handful_says_nothing() -> None:
    assert list(judge_warnings(arms(canary=(10, 0, 0, 0, 0)), HORIZONS)) == []
