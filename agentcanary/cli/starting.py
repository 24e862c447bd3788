"""Commands that make a rollout: start, and restart with fresh evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentcanary.cli.actions import done_lines, refuse_without_reason
from agentcanary.cli.options import CONFIG_FILE, ActorOption, AgentOption, ConfigOption, ReasonOption
from agentcanary.cli.output import Line, show
from agentcanary.errors import ConfigError, TransitionError, UnknownError

DuringDrainOption = Annotated[
    bool,
    typer.Option(
        "--during-drain", help="Also while live conversations end on the version left behind; they go to stable."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("start")(start)
    app.command("restart")(restart)


def start(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
    during_drain: DuringDrainOption = False,
) -> None:
    """Start the rollout that the configuration names. The controller does so by itself, once for each canary."""
    why = refuse_without_reason(reason, "start")
    from agentcanary.cli.seat import seat
    from agentcanary.operating import actor_name, refuse_beside
    from agentcanary.rollout import Audit, Transition, Verdict
    from agentcanary.security import new_salt
    from agentcanary.state_machine import new_rollout

    stable, canary = configured_pair(config, agent)
    with seat(config, agent, create=True) as at:
        existing = at.store.rollouts(at.agent)
        for old in existing:
            if (old.stable, old.canary) == (stable, canary) and old.phase.ended:
                raise TransitionError(
                    f"{stable} → {canary} had the rollout {old.id}, which is {old.phase.value} ({old.reason}). "
                    f"The same version again: agentcanary restart --reason TEXT. A mended one needs a new name"
                )
        now = at.clock()
        refuse_beside(at.store, at.agent, stable=stable, now=now, during_drain=during_drain)
        rollout = new_rollout(at.agent, stable, canary, at.config.plan, now=now, new_salt=new_salt())
        audit = Audit(at=now, actor=actor or actor_name(), action="create", reason=why, before="", after="pending")
        at.store.start(rollout, audit)
        made = Transition(rollout=rollout, verdict=Verdict.HOLD, reasons=(why,), audit=audit)
        lines = list(done_lines(None, made, workers=at.alive()))
    show(lines)


def restart(
    reason: ReasonOption = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    actor: ActorOption = None,
    during_drain: DuringDrainOption = False,
) -> None:
    """Try the same canary again: new split, fresh evidence, the plan of the file, a share of the budgets."""
    why = refuse_without_reason(reason, "restart")
    from agentcanary.cli.seat import seat
    from agentcanary.operating import actor_name
    from agentcanary.operating import restart as restarted
    from agentcanary.security import new_salt
    from agentcanary.state_machine import Action, ActionKind
    from agentcanary_analysis.weighing import budget

    stable, canary = configured_pair(config, agent)
    with seat(config, agent) as at:
        existing = at.store.rollouts(at.agent)
        before = next((old for old in existing if (old.stable, old.canary) == (stable, canary)), None)
        if before is None:
            raise UnknownError(
                f"{stable} → {canary} of agent {at.agent!r} never had a rollout: agentcanary start --reason TEXT"
            )
        action = Action(kind=ActionKind.RESTART, actor=actor or actor_name(), reason=why, plan=at.config.plan)
        transition = restarted(at.store, before, action, clock=at.clock, new_salt=new_salt(), during_drain=during_drain)
        rollout = transition.rollout
        lines = list(done_lines(before, transition, workers=at.alive()))
    alpha, promote = (budget(share, rollout.attempt) for share in (rollout.plan.alpha, rollout.plan.alpha_promote))
    lines.append(
        Line(f"Attempt {rollout.attempt} has its own share of the budgets: α = {alpha:.3g}, α_P = {promote:.3g}.")
    )
    show(lines)


def configured_pair(file: Path, agent: str | None) -> tuple[str, str]:
    """The stable and the canary version that a configuration names for the agent.

    Raises:
        ConfigError: If it is about another agent, or names no canary.
    """
    from agentcanary.config import load_config

    config = load_config(file)
    if agent not in (None, config.agent):
        mistake = (
            f"{file}: is about the agent {config.agent!r}, not {agent!r}; versions and plan come from the file, so "
            f"name that agent's own with --config"
        )
        raise ConfigError([mistake])
    if config.canary is None:
        raise ConfigError([f"{file}: names no canary, so there is nothing to roll out; write canary: VERSION"])
    return config.stable, config.canary
