"""What proven harm of one metric leads to: a rollback, a pause, or a warning that decides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcanary.config import parse_config
from agentcanary.config.words import in_data, in_words
from agentcanary.errors import ConfigError
from agentcanary.looking import findings_of
from agentcanary.plan import Criterion, OnFail, Plan, Stage
from agentcanary.rollout import Phase, Rollout, Verdict, rollout_from_dict
from agentcanary.state_machine import Action, ActionKind, Look, advance, new_rollout
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.checks import Boundary, parse_check
from agentcanary_analysis.evidence import Evidence, Status
from agentcanary_analysis.metrics import ERROR_RATE, TASK_COMPLETION_RATE, Direction
from agentcanary_analysis.verdict import CheckFinding, Findings

NAMES = "agent: support\nstable: v1\ncanary: v2\n"
CHECKS = tuple(parse_check(text) for text in ("error_rate_increase < 0.10", "task_completion_regression < 0.05"))
STAGES = (
    Stage(name="initial", weight=0.05, duration=1800, min_conversations=50, checks=CHECKS),
    Stage(name="half", weight=0.5, duration=3600, min_conversations=100, checks=CHECKS),
    Stage(name="full", weight=1.0, duration=0),
)
ERRORS = Criterion(metric=ERROR_RATE.name, margin=0.10)
COMPLETION = Criterion(metric=TASK_COMPLETION_RATE.name, margin=0.05)
BOUNDARY = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
SAFE = Evidence(metric="error_rate", boundary=BOUNDARY, status=Status.SAFE, log_e_harm=0.0, log_e_safe=9.0)
BOTH = ("error_rate", "task_completion_rate")


def plan(**on_fail: OnFail) -> Plan:
    criteria = (ERRORS, COMPLETION)
    return Plan(
        stages=STAGES,
        criteria=tuple(one for one in criteria if on_fail.get(one.metric) is not OnFail.WARN),
        dry_run=tuple(one for one in criteria if on_fail.get(one.metric) is OnFail.WARN),
        on_fail=on_fail,
    )


def begun(of: Plan) -> Rollout:
    rollout = new_rollout("support", "v1", "v2", of, now=0.0, new_salt=b"salt")
    return advance(rollout, Look(findings=Findings()), now=0.0).rollout


def harmed(rollout: Rollout, *metrics: str, now: float = 10.0) -> Rollout:
    return advance(rollout, Look(findings=Findings(harmed=metrics)), now=now).rollout


def act(rollout: Rollout, kind: ActionKind) -> Rollout:
    return advance(rollout, Action(kind=kind, actor="ada", reason="because"), now=20.0).rollout


# The policy of errors, whose harm is proven, the stage's auto_rollback, and what follows.
OUTCOMES = [
    (OnFail.ROLLBACK, ("error_rate",), True, Phase.ROLLED_BACK),
    (OnFail.ROLLBACK, ("error_rate",), False, Phase.PAUSED),
    (OnFail.PAUSE, ("error_rate",), True, Phase.PAUSED),
    (OnFail.PAUSE, ("error_rate",), False, Phase.PAUSED),
    (OnFail.PAUSE, BOTH, True, Phase.ROLLED_BACK),
    (OnFail.PAUSE, BOTH, False, Phase.PAUSED),
    (OnFail.PAUSE, ("task_completion_rate",), True, Phase.ROLLED_BACK),
]


@pytest.mark.parametrize(("policy", "metrics", "auto_rollback", "phase"), OUTCOMES)
def test_what_proven_harm_leads_to(policy: OnFail, metrics: tuple[str, ...], auto_rollback: bool, phase: Phase) -> None:
    of = plan(error_rate=policy)
    of = replace(of, stages=(replace(of.stages[0], auto_rollback=auto_rollback), *of.stages[1:]))
    rollout = harmed(begun(of), *metrics)
    assert rollout.phase is phase
    assert rollout.weight == 0
    assert rollout_from_dict(rollout.to_dict()) == rollout


def test_a_pause_for_one_metric_says_which_and_takes_new_conversations_off_the_canary() -> None:
    rollout = harmed(begun(plan(error_rate=OnFail.PAUSE)), "error_rate")
    assert (rollout.phase, rollout.paused_for, rollout.paused_metrics) == (Phase.PAUSED, "harm", ("error_rate",))
    assert rollout.reason == "harm is proven: error_rate; on_fail: pause"
    assert harmed(rollout, "error_rate") is rollout


def test_what_an_operator_goes_on_in_spite_of_is_that_metric_only() -> None:
    resumed = act(harmed(begun(plan(error_rate=OnFail.PAUSE)), "error_rate"), ActionKind.RESUME)
    assert (resumed.phase, resumed.weight, resumed.acknowledged) == (Phase.PROGRESSING, 0.05, ("harm:error_rate",))
    assert harmed(resumed, "error_rate").phase is Phase.PROGRESSING
    assert harmed(resumed, *BOTH).phase is Phase.ROLLED_BACK


def test_harm_of_another_metric_rolls_back_what_is_paused_for_one() -> None:
    paused = harmed(begun(plan(error_rate=OnFail.PAUSE)), "error_rate")
    assert harmed(paused, *BOTH).phase is Phase.ROLLED_BACK


def test_a_metric_that_pauses_pauses_again_for_another_such_metric() -> None:
    of = plan(error_rate=OnFail.PAUSE, task_completion_rate=OnFail.PAUSE)
    resumed = act(harmed(begun(of), "error_rate"), ActionKind.RESUME)
    again = harmed(resumed, *BOTH)
    assert (again.phase, again.paused_metrics) == (Phase.PAUSED, ("task_completion_rate",))
    both = act(again, ActionKind.RESUME)
    assert both.acknowledged == ("harm:error_rate", "harm:task_completion_rate")


def test_a_safety_stop_is_disarmed_by_no_policy() -> None:
    of = plan(error_rate=OnFail.WARN, task_completion_rate=OnFail.PAUSE)
    found = Findings(unsafe="1 violation")
    assert advance(begun(of), Look(findings=found), now=1.0).rollout.phase is Phase.ROLLED_BACK


# What a check of a metric that only warns may say, without holding anything.
FOUND = {
    "suspect": CheckFinding(check=CHECKS[1], status=Status.SUSPECT, reason="worse"),
    "no data": CheckFinding(check=CHECKS[1], status=Status.NO_DATA, reason="nobody records it"),
    "undecided": CheckFinding(check=CHECKS[1], status=Status.UNDECIDED),
}


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_a_check_that_only_warns_holds_nothing(found: CheckFinding) -> None:
    quiet = CheckFinding(check=CHECKS[0], status=Status.SAFE)
    findings = Findings(evidence=(SAFE,), checks=(quiet, found), stage_conversations=1_000)
    warned = advance(begun(plan(task_completion_rate=OnFail.WARN)), Look(findings=findings), now=2_000)
    assert warned.verdict is Verdict.ADVANCE
    deciding = advance(begun(plan()), Look(findings=findings), now=2_000)
    assert deciding.verdict is (Verdict.ADVANCE if found is FOUND["undecided"] else Verdict.HOLD)


def test_harm_that_only_warns_is_told_once_and_changes_nothing() -> None:
    rollout = begun(plan(task_completion_rate=OnFail.WARN))
    warning = replace(SAFE, metric="task_completion_rate", status=Status.HARMED)
    findings = Findings(dry_run=(warning,), stage_conversations=3)
    first = advance(rollout, Look(findings=findings), now=10.0)
    assert [(effect.event, effect.severity) for effect in first.effects] == [("dry_run", "warning")]
    assert "on_fail: warn, so nothing is done" in first.effects[0].message
    assert (first.rollout.phase, first.rollout.weight) == (Phase.PROGRESSING, 0.05)
    second = advance(first.rollout, Look(findings=findings), now=20.0)
    assert second.rollout is first.rollout


def aggregates(errors: int, completed: int) -> Aggregates:
    """Ten thousand conversations, half of them the canary's; the arguments are the canary's counts."""
    tallies = {}
    for arm, failed, done in ((Arm.STABLE, 250, 4_500), (Arm.CANARY, errors, completed)):
        tallies[Cell("error_rate", 0, arm)] = {0: Tally(5_000, 5_000, failed, failed)}
        tallies[Cell("task_completion_rate", 0, arm)] = {0: Tally(5_000, 5_000, done, done)}
    return Aggregates(
        epochs=(Epoch(number=0, weight=0.5, stage=0),),
        tallies=tallies,
        assigned={(0, Arm.STABLE): 5_000, (0, Arm.CANARY): 5_000},
    )


def test_a_metric_that_only_warns_is_judged_apart_from_those_that_decide() -> None:
    counted = aggregates(errors=250, completed=1_000)
    deciding = findings_of(begun(plan()), counted)
    assert deciding.harmed == ("task_completion_rate",)
    found = findings_of(begun(plan(task_completion_rate=OnFail.WARN)), counted)
    assert found.harmed == ()
    assert [(one.metric, one.status) for one in found.dry_run] == [("task_completion_rate", Status.HARMED)]
    assert [one.metric for one in found.evidence] == ["error_rate"]


@settings(max_examples=25, deadline=None)  # two looks each
@given(errors=st.integers(0, 5_000), completed=st.integers(0, 5_000))
def test_a_metric_that_only_warns_never_changes_the_verdict(errors: int, completed: int) -> None:
    of = plan(task_completion_rate=OnFail.WARN)
    without = replace(plan(), criteria=(ERRORS,), stages=tuple(replace(s, checks=s.checks[:1]) for s in STAGES))
    ends = []
    for one in (of, without):
        rollout = begun(one)
        findings = findings_of(rollout, aggregates(errors, completed))
        ends.append(advance(rollout, Look(findings=replace(findings, dry_run=())), now=10_000.0))
    assert ends[0].verdict == ends[1].verdict
    assert ends[0].rollout.phase == ends[1].rollout.phase


def test_a_file_says_what_each_metric_leads_to() -> None:
    of = parse_config(
        NAMES + "metrics:\n"
        "  - {name: cost, kind: mean, worse: up, rollback_margin: 0.2, on_fail: pause}\n"
        "  - {name: task_completion_rate, on_fail: warn}\n"
        "  - {name: p95_latency, on_fail: rollback}\n"
    ).plan
    assert of.on_fail == {"cost": OnFail.PAUSE, "task_completion_rate": OnFail.WARN}
    assert [one.metric for one in of.criteria] == ["error_rate", "p95_latency", "cost"]
    assert [one.metric for one in of.dry_run] == ["task_completion_rate"]
    assert of.promotion == ()


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("{name: safety_violations, on_fail: warn}", "on_fail cannot be warn: a safety stop is never disarmed"),
        ("{name: safety_violations, on_fail: pause}", "on_fail cannot be pause: a safety stop is never disarmed"),
        ("{name: p95_latency, on_fail: ignore}", "on_fail must be 'rollback', 'pause' or 'warn'"),
    ],
)
def test_a_policy_that_cannot_be_is_named(metric: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(NAMES + f"metrics: [{metric}]")


def test_a_plan_with_a_criterion_on_the_wrong_side_is_refused() -> None:
    with pytest.raises(ValueError, match="error_rate only warns: its criterion belongs into dry_run"):
        Plan(stages=STAGES, criteria=(ERRORS,), on_fail={"error_rate": OnFail.WARN})
    with pytest.raises(ValueError, match="criterion of error_rate in dry_run needs on_fail: warn"):
        Plan(stages=STAGES, dry_run=(ERRORS,))
    with pytest.raises(ValueError, match="a count cannot only warn"):
        Plan(stages=STAGES, on_fail={"safety_violations": OnFail.WARN})


def test_validate_says_what_each_metric_leads_to_and_when_no_step_is_taken() -> None:
    config = parse_config(
        NAMES + "metrics:\n"
        "  - {name: p95_latency, on_fail: pause}\n"
        "  - {name: task_completion_rate, on_fail: warn}\n"
        "freeze: [{days: [fri]}]\n"
    )
    said = "\n".join(in_words(config))
    assert "Paused instead of rolled back: p95 latency (on_fail: pause)." in said
    assert "Only warned of, deciding nothing: task completion (on_fail: warn)." in said
    assert "No boundary for satisfaction" in said
    assert "No step forward: fri UTC. Rollbacks always." in said
    data = in_data(config)
    assert (data["on_fail"]["task_completion_rate"], data["freeze"]) == ("warn", ["fri UTC"])
