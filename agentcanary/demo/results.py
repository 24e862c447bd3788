"""How the rollouts of the demo came out, and whether that is what was promised. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from agentcanary.demo.scenarios import Promise, Scenario
from agentcanary.demo.stickiness import Stickiness, Stop
from agentcanary.rollout import Phase, Rollout
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.metrics import ERROR_RATE
from agentcanary_analysis.verdict import Findings

RULE_LIMIT = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOfThumb:
    """What the rule "more than 10 % more errors: roll back" would have said at the same looks.

    Attributes:
        looks: At which both arms had enough conversations to ask it.
        beyond: Looks at which it would have rolled back.
        first_at: Unix time of the first of them on the accelerated clock, or None.
    """

    looks: int
    beyond: int
    first_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one rollout came out.

    Attributes:
        scenario: What was promised.
        rollout: As it was in the end; None when it never began.
        findings: What the evidence said in the end.
        counted: Conversations counted, by arm.
        stickiness: Of its conversations, by what users saw.
        stop: How fast a violation stopped it, where there was one.
        rule: What the rule of thumb would have said.
        why_not: What is not as promised; empty when all is.
    """

    scenario: Scenario
    rollout: Rollout | None
    findings: Findings
    counted: Mapping[Arm, int]
    stickiness: Stickiness
    stop: Stop | None
    rule: RuleOfThumb
    why_not: tuple[str, ...]


def counted(aggregates: Aggregates) -> dict[Arm, int]:
    """Conversations counted for errors, by arm."""
    units = dict.fromkeys(Arm, 0)
    for epoch in aggregates.epochs:
        for arm in Arm:
            units[arm] += aggregates.tally(ERROR_RATE.name, epoch.number, arm).units
    return units


def rule_of_thumb(looks: Iterable[tuple[float, Mapping[str, Any]]], *, at_least: int) -> RuleOfThumb:
    """What the rule of thumb would have said.

    Args:
        looks: Unix time on the accelerated clock, and what was kept of the look, the oldest first.
        at_least: Conversations of the canary from which on it is asked.
    """
    asked, beyond = 0, []
    for at, look in looks:
        for evidence in look["findings"]["evidence"]:
            change = evidence["relative_change"]
            if evidence["metric"] == ERROR_RATE.name and change is not None and evidence["canary"]["units"] >= at_least:
                asked += 1
                if change > RULE_LIMIT:
                    beyond.append(at)
    return RuleOfThumb(looks=asked, beyond=len(beyond), first_at=beyond[0] if beyond else None)


def decided(scenario: Scenario, rollout: Rollout | None) -> bool:
    """True when a rollout has come to its end; one that only has to be kept, when it has left its first stage."""
    if rollout is None:
        return False
    return rollout.phase.ended or (scenario.promise is Promise.KEPT and rollout.stage > 0)


def why_not(
    scenario: Scenario,
    rollout: Rollout | None,
    units: Mapping[Arm, int],
    stickiness: Stickiness,
    stop: Stop | None,
) -> tuple[str, ...]:
    """What is not as promised, a sentence each; empty when all is."""
    if rollout is None:
        return ("its rollout never began",)
    found = [*_outcome(scenario, rollout, units, stop)]
    if stickiness.broken:
        names = ", ".join(stickiness.broken[:3])
        found.append(f"{len(stickiness.broken)} conversations changed their version, among them {names}")
    if not stickiness.across_a_change:
        found.append("no conversation lived while the weight changed, so nothing is shown about that")
    return tuple(found)


def _outcome(scenario: Scenario, rollout: Rollout, units: Mapping[Arm, int], stop: Stop | None) -> Sequence[str]:
    state = f"it is {rollout.phase.value.replace('_', ' ')} in stage {rollout.current_stage.name}: {rollout.reason}"
    match scenario.promise:
        case Promise.PROMOTED:
            stages = {epoch.stage for epoch in rollout.epochs}
            if rollout.phase is not Phase.PROMOTED or len(stages) < len(rollout.plan.stages):
                return (f"it was to be promoted through all stages; {state}",)
        case Promise.ROLLED_BACK:
            if rollout.phase is not Phase.ROLLED_BACK or rollout.cause != "harm":
                return (f"it was to be rolled back for harm; {state}",)
        case Promise.STOPPED:
            if rollout.phase is not Phase.ROLLED_BACK or rollout.cause != "safety":
                return (f"it was to be stopped for safety; {state}",)
            if stop is None:
                return ("it was stopped, but no user saw the violation",)
        case Promise.KEPT:
            least = rollout.plan.stages[0].min_conversations
            if rollout.phase is Phase.ROLLED_BACK or rollout.stopped_at is not None:
                return (f"it was not to be rolled back; {state}",)
            if units[Arm.CANARY] < least:
                return (f"only {units[Arm.CANARY]} of its canary's conversations were counted, fewer than {least}",)
        case _:
            assert_never(scenario.promise)
    return ()
