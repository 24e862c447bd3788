"""``agentcanary rollouts``: all rollouts of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.output import columns, complain, print_json, show
from agentcanary.status.figures import ago, moment, span
from agentcanary.status.rollout_data import rollout_data

if TYPE_CHECKING:
    from agentcanary.rollout import Rollout

_STYLES = {"promoted": "green", "rolled_back": "red", "paused": "yellow", "progressing": "bold", "pending": "bold"}


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("rollouts")(rollouts)


def rollouts(config: ConfigOption = CONFIG_FILE, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """List the rollouts of the store, the newest first: of all agents, or of one."""
    from agentcanary.cli.seat import seat

    with seat(config) as at:
        found = at.store.rollouts(agent)
        now = at.clock()
        name = at.store.name
    if as_json:
        print_json([rollout_data(rollout) for rollout in found])
        return
    if not found:
        complain(f"No rollout{'' if agent is None else f' of agent {agent!r}'} in {name} yet.")
        return
    rows: list[tuple[str, ...]] = [
        ("rollout", "agent", "versions", "attempt", "phase", "stage", "weight", "made", "lasted", "last change")
    ]
    rows += [_row(rollout, now) for rollout in found]
    show(columns(rows, styles=["dim", *(_STYLES[rollout.phase.value] for rollout in found)]))


def _row(rollout: Rollout, now: float) -> tuple[str, ...]:
    data = rollout_data(rollout)
    end = now if rollout.ended_at is None else rollout.ended_at
    phase = f"{data['phase']} ({data['cause'] or data['paused_for']})" if data["cause"] or data["paused_for"] else None
    return (
        rollout.id,
        rollout.agent,
        f"{rollout.stable} → {rollout.canary}",
        str(rollout.attempt),
        phase or rollout.phase.value,
        rollout.current_stage.name,
        f"{rollout.weight:g}",
        f"{moment(rollout.created_at)} ({ago(rollout.created_at, now)})",
        span(max(end - rollout.created_at, 0.0)),
        data["reason"],
    )
