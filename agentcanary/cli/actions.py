"""What an operator does to a running rollout: advance, promote, pause, resume, rollback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import (
    CONFIG_FILE,
    ActorOption,
    AgentOption,
    ConfigOption,
    DuringFreezeOption,
    ReasonOption,
)
from agentcanary.cli.output import Line, columns, complain, show

if TYPE_CHECKING:
    from agentcanary.rollout import Rollout, Transition


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (advance, promote, pause, resume, rollback):
        app.command(command.__name__)(command)


def advance(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
    during_freeze: DuringFreezeOption = False,
) -> None:
    """Take the step to the next stage now, whatever the evidence says."""
    _act("advance", reason, config, agent, actor, during_freeze=during_freeze)


def promote(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
    during_freeze: DuringFreezeOption = False,
) -> None:
    """End the rollout: the canary gets all new conversations now."""
    _act("promote", reason, config, agent, actor, during_freeze=during_freeze)


def pause(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
) -> None:
    """Take no step until resume. New conversations are still split; safety and proven harm still end it."""
    _act("pause", reason, config, agent, actor)


def resume(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
    during_freeze: DuringFreezeOption = False,
) -> None:
    """Go on after a pause, or in spite of data that cannot be trusted."""
    _act("resume", reason, config, agent, actor, during_freeze=during_freeze)


def rollback(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
) -> None:
    """Take the canary back now: new conversations go to stable. Undoes a promotion while the old version drains."""
    _act("rollback", reason, config, agent, actor)


def refuse_without_reason(reason: str | None, command: str) -> str:
    """The reason; a usage error without one."""
    if reason is None or not reason.strip():
        complain(f'agentcanary {command}: say why, for the audit log: --reason "TEXT"')
        raise typer.Exit(ExitCode.USAGE)
    return reason.strip()


def done_lines(before: Rollout | None, transition: Transition, *, workers: int) -> Iterator[Line]:
    """What was done, and what happens next.

    Args:
        before: The rollout that was acted on, None where there was none.
        transition: What became of it.
        workers: Number of live workers.
    """
    rollout, audit = transition.rollout, transition.audit
    yield Line((f"{rollout.agent}: {rollout.stable} → {rollout.canary}", "bold"), f"   rollout {rollout.id}")
    if audit is not None:
        rows = [("done", f"{audit.action}, by {audit.actor}: {audit.reason}")]
        rows += [("before", audit.before)] if before is not None else []
        yield from columns([*rows, ("now", audit.after)], indent=2)
    yield Line()
    for step in _what_follows(rollout, workers):
        yield Line(step)


def _what_follows(rollout: Rollout, workers: int) -> Iterator[str]:
    from agentcanary.rollout import Phase

    if not workers:
        yield "No worker has reported lately: it holds as soon as the application runs."
    elif rollout.phase is not Phase.PENDING:
        yield f"{workers} live worker{'s follow' if workers > 1 else ' follows'} within a second."
    match rollout.phase:
        case Phase.PENDING:
            yield (
                f"The controller's next look starts stage {rollout.current_stage.name} "
                f"at weight {rollout.current_stage.weight:g}."
            )
        case Phase.PROGRESSING:
            yield (
                f"New conversations are split at weight {rollout.weight:g}; those under way keep their version. "
                f"The next step comes by itself."
            )
        case Phase.PAUSED:
            yield f"New conversations are still split at weight {rollout.weight:g}. agentcanary resume goes on."
        case Phase.PROMOTED:
            yield (
                f"New conversations go to {rollout.canary}; those under way on {rollout.stable} end there. "
                f"Until then agentcanary rollback undoes it."
            )
        case Phase.ROLLED_BACK:
            yield f"New conversations go to {rollout.stable}; {_pinned(rollout)}"


def _pinned(rollout: Rollout) -> str:
    from agentcanary.plan import Pinned

    if rollout.plan.pinned.get(rollout.cause) is Pinned.FINISH:
        return f"those under way on {rollout.canary} end there (rollback.pinned.{rollout.cause}: finish)."
    return f"those under way on {rollout.canary} get {rollout.stable} at their next turn."


def _act(
    kind: str, reason: str | None, file: Path, agent: str | None, actor: str | None, *, during_freeze: bool = False
) -> None:
    why = refuse_without_reason(reason, kind)
    from agentcanary.cli.seat import seat
    from agentcanary.operating import actor_name, decide
    from agentcanary.state_machine import Action, ActionKind

    with seat(file, agent) as at:
        action = Action(kind=ActionKind(kind), actor=actor or actor_name(), reason=why, during_freeze=during_freeze)
        before, transition = decide(at.store, at.current(), action, clock=at.clock)
        lines = list(done_lines(before, transition, workers=at.alive()))
    show(lines)
