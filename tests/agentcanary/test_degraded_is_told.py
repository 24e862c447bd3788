"""People hear once of what goes wrong with us, and no decision depends on it."""

from __future__ import annotations

from dataclasses import replace

from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Rollout, Verdict
from agentcanary.state_machine import Look, advance, new_rollout
from agentcanary_analysis.verdict import Findings

PLAN = Plan(
    stages=(
        Stage(name="initial", weight=0.05, duration=1800.0, min_conversations=10),
        Stage(name="full", weight=1.0, duration=0.0),
    )
)
FINDINGS = Findings(stage_conversations=3)


def begun() -> Rollout:
    made = new_rollout("support", "support-v1", "support-v2", PLAN, now=0.0, new_salt=b"s" * 16)
    return advance(made, Look(findings=FINDINGS), now=0.0).rollout


def test_each_kind_is_told_once_and_changes_nothing_but_that() -> None:
    rollout = begun()
    look = Look(findings=FINDINGS, degraded=("pin_lookup", "recorder_store"))
    events = []
    for now in (10.0, 20.0, 30.0, 40.0):
        transition = advance(rollout, look, now=now)
        assert transition.verdict is Verdict.HOLD
        assert replace(transition.rollout, told=(), revision=0) == replace(rollout, told=(), revision=0)
        events += [(effect.event, effect.severity, effect.message) for effect in transition.effects]
        rollout = transition.rollout
    assert events == [
        (
            "degraded",
            "warning",
            f"support: agentcanary is degraded in a worker: {kind}; requests are served, and status shows more",
        )
        for kind in look.degraded
    ]
    assert rollout.told == ("degraded:pin_lookup", "degraded:recorder_store")


def test_what_must_be_decided_is_decided_first() -> None:
    look = Look(findings=replace(FINDINGS, unsafe="2 safety violations"), degraded=("pin_lookup",))
    transition = advance(begun(), look, now=10.0)
    assert transition.verdict is Verdict.ROLLBACK
    assert [effect.event for effect in transition.effects if effect.event == "degraded"] == []


def test_a_warning_that_is_told_already_leaves_room_for_it() -> None:
    look = Look(findings=replace(FINDINGS, invalid="the sample ratio is off"), degraded=("pin_lookup",))
    first = advance(begun(), look, now=10.0)
    second = advance(first.rollout, look, now=20.0)
    assert [effect.event for effect in (*first.effects, *second.effects)] == ["invalid", "degraded"]
