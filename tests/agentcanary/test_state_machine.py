"""The state machine: every event in every phase, and every pair of simultaneous conditions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from agentcanary.errors import TransitionError
from agentcanary.plan import Advance, Criterion, OnInconclusive, Pinned, Plan, Stage
from agentcanary.rollout import EffectKind, Phase, Rollout, Verdict, rollout_from_dict, view_of
from agentcanary.state_machine import Action, ActionKind, Drain, Look, advance, new_rollout
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.checks import Boundary, parse_check
from agentcanary_analysis.evidence import Evidence, Status
from agentcanary_analysis.metrics import ERROR_RATE, Direction
from agentcanary_analysis.verdict import CheckFinding, Findings

CHECK = parse_check("error_rate_increase < 0.10")
BOUNDARY = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
PLAN = Plan(
    stages=(
        Stage(name="initial", weight=0.05, duration=1800, min_conversations=50, checks=(CHECK,)),
        Stage(name="half", weight=0.5, duration=3600, min_conversations=100, checks=(CHECK,)),
        Stage(name="full", weight=1.0, duration=0),
    ),
    criteria=(Criterion(metric=ERROR_RATE.name, margin=0.10),),
    max_duration=100_000,
    on_inconclusive=OnInconclusive.ROLLBACK,
)
SAFE = Evidence(metric="error_rate", boundary=BOUNDARY, status=Status.SAFE, log_e_harm=0.0, log_e_safe=9.0)
QUIET = CheckFinding(check=CHECK, status=Status.UNDECIDED)
GOOD = Findings(evidence=(SAFE,), checks=(QUIET,), stage_conversations=1_000)


def begun(plan: Plan = PLAN, at: float = 0.0) -> Rollout:
    rollout = new_rollout("support", "v1", "v2", plan, now=at, new_salt=b"salt")
    return advance(rollout, Look(findings=Findings()), now=at).rollout


def at_half(plan: Plan = PLAN) -> Rollout:
    return advance(begun(plan), Look(findings=GOOD), now=2_000).rollout


def act(rollout: Rollout, kind: ActionKind, now: float = 10.0) -> Rollout:
    return advance(rollout, Action(kind=kind, actor="ada", reason="because"), now=now, new_salt=b"other").rollout


@dataclass
class Situation:
    """The last step before the whole traffic, with everything in order."""

    rollout: Rollout = field(default_factory=at_half)
    findings: Findings = GOOD
    now: float = 10_000.0


def safety_stop(situation: Situation) -> None:
    situation.rollout = replace(situation.rollout, stopped_at=2_500.0, stop_reason="a worker saw a violation")


def unsafe(situation: Situation) -> None:
    situation.findings = replace(situation.findings, unsafe="1 confirmed violation")


def harmed(situation: Situation) -> None:
    situation.findings = replace(situation.findings, harmed=("error_rate",))


def paused(situation: Situation) -> None:
    situation.rollout = act(situation.rollout, ActionKind.PAUSE, now=3_000)


def invalid(situation: Situation) -> None:
    situation.findings = replace(situation.findings, invalid="sample ratio")


def too_early(situation: Situation) -> None:
    situation.rollout = replace(situation.rollout, stage_started_at=situation.now - 1)


def too_few(situation: Situation) -> None:
    situation.findings = replace(situation.findings, stage_conversations=99)


def suspect(situation: Situation) -> None:
    found = replace(QUIET, status=Status.SUSPECT)
    situation.findings = replace(situation.findings, checks=(found, *situation.findings.checks[1:]))


def no_data(situation: Situation) -> None:
    found = replace(QUIET, status=Status.NO_DATA, reason="nobody records it")
    situation.findings = replace(situation.findings, checks=(situation.findings.checks[0], found))


def not_safe(situation: Situation) -> None:
    situation.findings = replace(situation.findings, evidence=(replace(SAFE, status=Status.UNDECIDED, needs=400),))


def margin_not_proven(situation: Situation) -> None:
    situation.findings = replace(
        situation.findings, margins=(replace(SAFE, metric="task_completion_rate", status=Status.UNDECIDED, needs=900),)
    )


def rate_not_ruled_out(situation: Situation) -> None:
    situation.findings = replace(situation.findings, unproven=("safety: 0 in 9 do not rule out a rate of 0.001",))


def overdue(situation: Situation) -> None:
    situation.rollout = replace(situation.rollout, created_at=situation.now - 200_000)


Condition = Callable[[Situation], None]
# In the order of the verdict: the condition, what it leads to alone, and the words that the reason must hold.
ORDER: list[tuple[Condition, Verdict, Phase, str]] = [
    (safety_stop, Verdict.ROLLBACK, Phase.ROLLED_BACK, "a worker saw a violation"),
    (unsafe, Verdict.ROLLBACK, Phase.ROLLED_BACK, "1 confirmed violation"),
    (harmed, Verdict.ROLLBACK, Phase.ROLLED_BACK, "harm is proven: error_rate"),
    (paused, Verdict.HOLD, Phase.PAUSED, "paused (manual)"),
    (invalid, Verdict.HOLD, Phase.PROGRESSING, "cannot be trusted: sample ratio"),
    (too_early, Verdict.HOLD, Phase.PROGRESSING, "lasts 59m59s more"),
    (too_few, Verdict.HOLD, Phase.PROGRESSING, "needs 1 more counted canary conversations"),
    (suspect, Verdict.HOLD, Phase.PROGRESSING, "error_rate_increase < 0.10: suspect"),
    (no_data, Verdict.HOLD, Phase.PROGRESSING, "no data; nobody records it"),
    (not_safe, Verdict.HOLD, Phase.PROGRESSING, "about 400 more conversations"),
    (margin_not_proven, Verdict.HOLD, Phase.PROGRESSING, "task_completion_rate: undecided, not proven safe"),
    (rate_not_ruled_out, Verdict.HOLD, Phase.PROGRESSING, "do not rule out a rate of 0.001"),
]


def look(*conditions: Condition) -> tuple[Verdict, Phase, str]:
    situation = Situation()
    for condition in conditions:
        condition(situation)
    result = advance(situation.rollout, Look(findings=situation.findings), now=situation.now)
    return result.verdict, result.rollout.phase, " | ".join(result.reasons)


@pytest.mark.parametrize(("condition", "verdict", "phase", "words"), ORDER, ids=[row[0].__name__ for row in ORDER])
def test_each_condition_alone(condition: Condition, verdict: Verdict, phase: Phase, words: str) -> None:
    assert look(condition)[:2] == (verdict, phase)
    assert words in look(condition)[2]


PAIRS = list(itertools.combinations(ORDER, 2))


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a[0].__name__}-{b[0].__name__}" for a, b in PAIRS])
def test_of_two_simultaneous_conditions_the_earlier_decides(
    first: tuple[Condition, Verdict, Phase, str], second: tuple[Condition, Verdict, Phase, str]
) -> None:
    for conditions in ((first[0], second[0]), (second[0], first[0])):
        verdict, phase, reasons = look(*conditions)
        assert (verdict, phase) == first[1:3]
        assert first[3] in reasons


@pytest.mark.parametrize("condition", [row[0] for row in ORDER[:4]], ids=[row[0].__name__ for row in ORDER[:4]])
def test_the_maximum_duration_changes_nothing_that_is_decided_before_it(condition: Condition) -> None:
    assert look(condition, overdue)[:2] == look(condition)[:2]


@pytest.mark.parametrize("condition", [row[0] for row in ORDER[4:]], ids=[row[0].__name__ for row in ORDER[4:]])
def test_the_maximum_duration_ends_every_other_hold(condition: Condition) -> None:
    verdict, phase, reasons = look(condition, overdue)
    assert (verdict, phase) == (Verdict.ROLLBACK, Phase.ROLLED_BACK)
    assert "undecided after the maximum duration" in reasons


def test_the_maximum_duration_does_not_stop_a_step_that_is_earned() -> None:
    assert look(overdue)[0] is Verdict.ADVANCE


def test_with_everything_in_order_the_last_step_is_taken() -> None:
    situation = Situation()
    result = advance(situation.rollout, Look(findings=GOOD), now=situation.now)
    assert result.verdict is Verdict.ADVANCE
    assert result.rollout.weight == 1


def test_a_pending_rollout_begins_at_the_first_look() -> None:
    rollout = begun(at=7.0)
    assert (rollout.phase, rollout.weight, rollout.stage_started_at) == (Phase.PROGRESSING, 0.05, 7.0)
    assert [epoch.weight for epoch in rollout.epochs] == [0.05]


def test_the_whole_ladder_ends_in_a_promotion_after_the_bake() -> None:
    rollout = at_half()
    rollout = advance(rollout, Look(findings=GOOD), now=6_000).rollout
    assert (rollout.current_stage.name, rollout.phase) == ("full", Phase.PROGRESSING)
    baking = advance(rollout, Look(findings=Findings()), now=6_000 + PLAN.bake - 1)
    assert "lasts 1s more" in baking.reasons[0]
    done = advance(rollout, Look(findings=Findings()), now=6_000 + PLAN.bake)
    assert done.rollout.phase is Phase.PROMOTED
    assert [effect.event for effect in done.effects] == ["weight", "promoted"]


def test_one_look_takes_one_step_however_long_the_controller_was_away() -> None:
    assert advance(begun(), Look(findings=GOOD), now=1e9).rollout.stage == 1


def test_harm_waits_for_no_minimum() -> None:
    result = advance(begun(), Look(findings=Findings(harmed=("error_rate",))), now=1.0)
    assert result.rollout.phase is Phase.ROLLED_BACK
    assert result.rollout.cause == "harm"


def test_a_rollback_sets_the_weight_before_it_tells_anybody() -> None:
    result = advance(begun(), Look(findings=Findings(harmed=("error_rate",))), now=1.0)
    assert [effect.kind for effect in result.effects] == [EffectKind.WEIGHT, EffectKind.NOTIFY]
    assert result.effects[0].weight == 0


def test_verdicts_latch() -> None:
    rollout = advance(begun(), Look(findings=Findings(unsafe="1 violation")), now=1.0).rollout
    assert advance(rollout, Look(findings=GOOD), now=1e6).rollout is rollout


def test_without_auto_rollback_harm_pauses_and_takes_new_conversations_off_the_canary() -> None:
    plan = replace(PLAN, stages=(replace(PLAN.stages[0], auto_rollback=False), *PLAN.stages[1:]))
    result = advance(begun(plan), Look(findings=Findings(harmed=("error_rate",))), now=1.0)
    assert (result.rollout.phase, result.rollout.weight) == (Phase.PAUSED, 0.0)
    assert "auto_rollback is off" in result.rollout.reason
    again = advance(result.rollout, Look(findings=Findings(harmed=("error_rate",))), now=2.0)
    assert again.rollout is result.rollout
    resumed = act(result.rollout, ActionKind.RESUME)
    assert (resumed.phase, resumed.weight, resumed.acknowledged) == (Phase.PROGRESSING, 0.05, ("harm",))
    held = advance(resumed, Look(findings=Findings(harmed=("error_rate",))), now=20.0)
    assert held.rollout.phase is Phase.PROGRESSING


def test_without_auto_rollback_a_safety_stop_still_rolls_back() -> None:
    plan = replace(PLAN, stages=(replace(PLAN.stages[0], auto_rollback=False), *PLAN.stages[1:]))
    result = advance(begun(plan), Look(findings=Findings(unsafe="1 violation")), now=1.0)
    assert result.rollout.phase is Phase.ROLLED_BACK


def test_checks_are_asked_again_only_when_the_stage_has_grown_by_half() -> None:
    situation = Situation()
    suspicious = replace(GOOD, checks=(replace(QUIET, status=Status.SUSPECT),), stage_conversations=100)
    held = advance(situation.rollout, Look(findings=suspicious), now=situation.now).rollout
    at_149 = advance(held, Look(findings=replace(GOOD, stage_conversations=149)), now=situation.now)
    assert "error_rate_increase < 0.10: suspect" in at_149.reasons
    at_150 = advance(held, Look(findings=replace(GOOD, stage_conversations=150)), now=situation.now)
    assert at_150.verdict is Verdict.ADVANCE


def test_a_stage_that_asks_for_proof_is_not_content_with_quiet() -> None:
    plan = replace(PLAN, stages=(replace(PLAN.stages[0], advance=Advance.PROVEN), *PLAN.stages[1:]))
    assert advance(begun(plan), Look(findings=GOOD), now=2_000).verdict is Verdict.HOLD
    proven = replace(GOOD, checks=(replace(QUIET, status=Status.SAFE),))
    assert advance(begun(plan), Look(findings=proven), now=2_000).verdict is Verdict.ADVANCE


def test_invalid_data_is_told_once_and_held_until_acknowledged() -> None:
    situation = Situation()
    bad = replace(GOOD, invalid="sample ratio")
    first = advance(situation.rollout, Look(findings=bad), now=situation.now)
    assert [effect.event for effect in first.effects] == ["invalid"]
    second = advance(first.rollout, Look(findings=bad), now=situation.now)
    assert (second.verdict, second.effects) == (Verdict.HOLD, ())
    acknowledged = act(second.rollout, ActionKind.RESUME)
    assert advance(acknowledged, Look(findings=bad), now=situation.now).verdict is Verdict.ADVANCE


@pytest.mark.parametrize(
    ("policy", "phase"), [(OnInconclusive.PAUSE, Phase.PAUSED), (OnInconclusive.HOLD, Phase.PROGRESSING)]
)
def test_what_happens_when_nobody_can_tell(policy: OnInconclusive, phase: Phase) -> None:
    rollout = begun(replace(PLAN, on_inconclusive=policy))
    result = advance(rollout, Look(findings=Findings()), now=200_000)
    assert result.rollout.phase is phase
    assert advance(result.rollout, Look(findings=Findings()), now=200_001).effects == ()


def test_thresholds_that_become_known_open_an_epoch_of_the_same_weight() -> None:
    result = advance(begun(), Look(findings=Findings(thresholds={"p95_latency": 1.5})), now=5.0)
    assert [(epoch.weight, dict(epoch.thresholds)) for epoch in result.rollout.epochs] == [
        (0.05, {}),
        (0.05, {"p95_latency": 1.5}),
    ]
    assert result.rollout.stage_started_at == 0.0
    again = advance(result.rollout, Look(findings=Findings(thresholds={"p95_latency": 1.9})), now=6.0)
    assert len(again.rollout.epochs) == 2


ENDED = {Phase.PROMOTED, Phase.ROLLED_BACK}
ALLOWED = {
    ActionKind.ADVANCE: {Phase.PROGRESSING, Phase.PAUSED},
    ActionKind.PROMOTE: {Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED},
    ActionKind.PAUSE: {Phase.PROGRESSING},
    ActionKind.RESUME: {Phase.PAUSED},
    ActionKind.ROLLBACK: {Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTED},
    ActionKind.RESTART: ENDED,
}


def in_phase(phase: Phase) -> Rollout:
    if phase is Phase.PENDING:
        return new_rollout("support", "v1", "v2", PLAN, now=0.0, new_salt=b"salt")
    actions = {
        Phase.PROGRESSING: None,
        Phase.PAUSED: ActionKind.PAUSE,
        Phase.PROMOTED: ActionKind.PROMOTE,
        Phase.ROLLED_BACK: ActionKind.ROLLBACK,
    }
    kind = actions[phase]
    return begun() if kind is None else act(begun(), kind)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", ActionKind)
def test_every_action_in_every_phase(kind: ActionKind, phase: Phase) -> None:
    rollout = in_phase(phase)
    assert rollout.phase is phase
    if phase in ALLOWED[kind]:
        after = act(rollout, kind)
        assert after != rollout
        assert rollout_from_dict(after.to_dict()) == after
    else:
        with pytest.raises(TransitionError, match=f"cannot {kind.value} rollout support-.* which is {phase.value}"):
            act(rollout, kind)


def test_an_action_needs_a_reason() -> None:
    with pytest.raises(TransitionError, match="needs a reason"):
        advance(begun(), Action(kind=ActionKind.PAUSE, actor="ada", reason=" "), now=1.0)


def test_a_restart_has_a_new_salt_fresh_evidence_and_counts_the_attempts() -> None:
    rolled_back = act(begun(), ActionKind.ROLLBACK)
    restarted = act(rolled_back, ActionKind.RESTART, now=99.0)
    assert restarted.salt != rolled_back.salt
    assert restarted.id != rolled_back.id
    assert (restarted.epochs, restarted.attempt, restarted.phase, restarted.created_at) == ((), 2, Phase.PENDING, 99.0)


def test_a_rollback_after_the_promotion_is_possible_until_the_old_version_has_drained() -> None:
    promoted = act(begun(), ActionKind.PROMOTE)
    assert act(promoted, ActionKind.ROLLBACK).phase is Phase.ROLLED_BACK
    drained = advance(promoted, Drain(live=0), now=20.0).rollout
    assert drained.drained_at == 20.0
    with pytest.raises(TransitionError, match="has ended"):
        act(drained, ActionKind.ROLLBACK)


def test_draining_waits_for_live_conversations_but_not_for_ever() -> None:
    promoted = act(begun(), ActionKind.PROMOTE)
    assert advance(promoted, Drain(live=3), now=20.0).rollout is promoted
    assert advance(promoted, Drain(live=3), now=10.0 + PLAN.drain_after).rollout.drained_at is not None
    assert advance(begun(), Drain(live=0), now=20.0).rollout.drained_at is None


def view(rollout: Rollout | None, canary: str | None = "v2") -> tuple[str, str, float, bool, Arm]:
    seen = view_of("support", rollout, stable="v1", canary=canary, handover=2.0)
    return seen.version(Arm.STABLE), seen.version(Arm.CANARY), seen.weight, seen.open, seen.new_units


def test_what_the_request_path_sees_in_every_phase() -> None:
    assert view(None) == ("v1", "v1", 0.0, False, Arm.STABLE)
    assert view(in_phase(Phase.PENDING)) == ("v1", "v1", 0.0, False, Arm.STABLE)
    assert view(begun()) == ("v1", "v2", 0.05, True, Arm.STABLE)
    assert view(in_phase(Phase.PAUSED)) == ("v1", "v2", 0.05, True, Arm.STABLE)
    promoted = in_phase(Phase.PROMOTED)
    assert view(promoted) == ("v1", "v2", 1.0, False, Arm.CANARY)
    drained = advance(promoted, Drain(live=0), now=20.0).rollout
    assert view(drained) == ("v2", "v2", 0.0, False, Arm.STABLE)
    assert view(drained, canary=None) == ("v1", "v1", 0.0, False, Arm.STABLE)


def test_pinned_conversations_of_a_canary_that_is_taken_back_follow_the_policy_of_its_cause() -> None:
    by_harm = advance(begun(), Look(findings=Findings(harmed=("error_rate",))), now=1.0).rollout
    assert view(by_harm)[:2] == ("v1", "v1")
    assert view(in_phase(Phase.ROLLED_BACK))[:2] == ("v1", "v2")
    lenient = replace(PLAN, pinned={**PLAN.pinned, "harm": Pinned.FINISH})
    finishing = advance(begun(lenient), Look(findings=Findings(harmed=("error_rate",))), now=1.0).rollout
    assert view(finishing) == ("v1", "v2", 0.0, False, Arm.STABLE)


def test_a_safety_stop_is_obeyed_before_the_controller_acts_on_it() -> None:
    stopped = replace(begun(), stopped_at=5.0)
    assert view(stopped) == ("v1", "v1", 0.0, False, Arm.STABLE)


def test_the_hand_over_lasts_after_a_rise_and_not_after_a_fall() -> None:
    rising = view_of("support", at_half(), stable="v1", canary="v2", handover=2.0)
    assert (rising.handover_until, rising.previous_weight, rising.previous_epoch) == (2_002.0, 0.05, 0)
    plan = replace(PLAN, stages=(replace(PLAN.stages[0], auto_rollback=False), *PLAN.stages[1:]))
    paused_for_harm = advance(begun(plan), Look(findings=Findings(harmed=("error_rate",))), now=1.0).rollout
    assert view_of("support", paused_for_harm, stable="v1", canary="v2", handover=2.0).handover_until == 0.0


def test_the_salt_shows_in_no_representation() -> None:
    assert "salt" not in repr(begun())
    assert "salt" not in repr(view_of("support", begun(), stable="v1", canary="v2", handover=2.0))
