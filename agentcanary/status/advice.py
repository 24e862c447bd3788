"""What an operator can do next, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from agentcanary.rollout import Phase, Rollout, Transition, Verdict
from agentcanary.status.figures import count
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.verdict import Findings


def next_steps(
    rollout: Rollout, transition: Transition, findings: Findings, *, live: int | None, workers: int
) -> Iterator[str]:
    """What happens next by itself, and what an operator can do, a sentence each.

    Args:
        rollout: As it is stored.
        transition: What a look would decide now.
        findings: What the evidence says.
        live: Live conversations on the version left behind; None where nothing drains.
        workers: Number of live workers.
    """
    if rollout.phase.ended:
        yield from _after_the_end(rollout, live)
        return
    if not workers:
        yield "No worker has reported lately: is the application running? Nothing new comes in until it does."
    if rollout.stopped_at is not None:
        yield "The canary is stopped in every worker; the controller's next look makes it a rollback."
        return
    match rollout.phase:
        case Phase.PENDING:
            yield (
                f"The controller's next look starts it with stage {rollout.current_stage.name}. "
                f"It runs in the workers, or by itself: agentcanary controller."
            )
        case Phase.PAUSED:
            yield from _while_paused(rollout)
        case _:
            yield from _while_progressing(rollout, transition, findings, workers)


def _after_the_end(rollout: Rollout, live: int | None) -> Iterator[str]:
    draining = rollout.drained_at is None and live is not None
    if rollout.phase is Phase.PROMOTED:
        if draining and live:
            yield (
                f"{count(live)} live conversations end on {rollout.stable}. Until then "
                f"agentcanary rollback --reason TEXT undoes the promotion."
            )
        elif draining:
            yield (
                f"No live conversation is left on {rollout.stable}. Until the controller's next look "
                f"agentcanary rollback --reason TEXT undoes the promotion."
            )
        yield f"Write stable: {rollout.canary} into canary.yaml, and name the next canary there when there is one."
        return
    if draining and live:
        yield f"{count(live)} live conversations of the canary's arm are still to end."
    yield f"Mend {rollout.canary}, give it a new name and put that into canary.yaml as canary: it starts by itself."
    yield "The same version again, with fresh evidence: agentcanary restart --reason TEXT."


def _while_paused(rollout: Rollout) -> Iterator[str]:
    match rollout.paused_for:
        case "harm":
            yield "Harm is proven and auto_rollback is off in this stage: new conversations go to stable."
            yield "agentcanary rollback --reason TEXT takes it back, resume --reason TEXT goes on in spite of it."
        case "inconclusive":
            yield "Its maximum duration has passed without a decision; new conversations are still split."
            yield "agentcanary resume --reason TEXT gives it more time, rollback takes it back, promote ends it."
        case _:
            yield "New conversations are still split at the present weight; no step is taken."
            yield "Go on: agentcanary resume --reason TEXT. Take it back: agentcanary rollback --reason TEXT."


def _while_progressing(rollout: Rollout, transition: Transition, findings: Findings, workers: int) -> Iterator[str]:
    if transition.verdict is Verdict.ROLLBACK:
        yield "The controller's next look takes the canary back."
        return
    if transition.verdict is Verdict.ADVANCE:
        following = transition.rollout
        to = "the promotion" if following.phase is Phase.PROMOTED else f"stage {following.current_stage.name}"
        yield f"Every condition of the stage is met: the controller's next look takes the step to {to}."
        return
    if findings.invalid and "invalid" not in rollout.acknowledged:
        yield (
            "Find out why the split is off: retries, bots, a version that fails before it is recorded. "
            "It holds until agentcanary resume --reason TEXT."
        )
        return
    for name in _without_data(findings):
        metric = rollout.plan.metric(name)
        if not metric.always_measured:
            yield (
                f'No {name} without outcomes: canary.record(conversation_id, "{metric.outcome}", 1), '
                f"or take its check out of the plan."
            )
    if any(found.status is Status.SUSPECT for found in findings.checks):
        yield (
            "A suspect check is asked again when the stage has half as many conversations more. "
            "agentcanary advance --reason TEXT takes the step in spite of it."
        )
        return
    if workers:
        yield "Nothing to do: it goes on by itself. agentcanary watch follows it."


def _without_data(findings: Findings) -> list[str]:
    named = [found.check.metric for found in findings.checks if found.status is Status.NO_DATA]
    judged = [found.metric for found in findings.evidence if found.status is Status.NO_DATA]
    return list(dict.fromkeys([*named, *judged]))
