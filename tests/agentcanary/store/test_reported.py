"""What judges reported of each arm, as the store counts it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentcanary.outcomes import Judge
from agentcanary.store import ReportedArm, Store
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make


def test_each_arm_has_its_sampling_rate_failures_and_lateness(store: Store, make: Make) -> None:
    store.start(make.rollout())
    for number in range(6):
        arm = Arm.CANARY if number < 2 else Arm.STABLE
        store.apply(f"t-{number}", make.turn(make.assignment(f"c-{number}", arm), 10.0))
    store.apply("x", make.turn(make.assignment("excluded", Arm.CANARY, excluded="forced"), 10.0))
    judged = [
        make.outcome("c-0", 20.0, None, name="relevance"),
        make.outcome("c-2", 20.0, 0.5, name="relevance"),
        make.outcome("c-2", 21.0, 0.6, name="relevance"),
        make.outcome("c-3", 500.0, 0.5, name="relevance"),
        make.outcome("excluded", 20.0, 0.5, name="relevance"),
    ]
    store.apply("o", [replace(outcome, kind=Judge.LLM) for outcome in judged])
    stable, canary = store.reported("support", "r-1", {"relevance": 60.0})

    def of(arm: ReportedArm) -> tuple[object, ...]:
        return arm.arm, arm.conversations, arm.judged, arm.outcomes, arm.failed, arm.late

    assert of(stable) == (Arm.STABLE, 4, 2, 3, 0, 1)
    assert of(canary) == (Arm.CANARY, 2, 1, 1, 1, 0)
    assert (canary.name, canary.kind) == ("relevance", Judge.LLM)


def test_without_outcomes_there_is_nothing_to_report(store: Store, make: Make) -> None:
    store.start(make.rollout())
    store.apply("t", make.turn(make.assignment("c-1"), 10.0))
    assert store.reported("support", "r-1", {}) == []
