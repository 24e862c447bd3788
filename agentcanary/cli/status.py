"""``agentcanary status``: a rollout at this moment."""

from __future__ import annotations

from typing import Annotated

import typer

from agentcanary.cli.completion import rollouts
from agentcanary.cli.exit_codes import GATE_HELP, gate
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, ExitCodeOption, JsonOption
from agentcanary.cli.output import print_json, show

RolloutArgument = Annotated[
    str | None,
    typer.Argument(metavar="ROLLOUT", help="Id of a rollout; else the agent's newest.", autocompletion=rollouts),
]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("status", epilog=GATE_HELP)(status)


def status(
    rollout: RolloutArgument = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    as_json: JsonOption = False,
    exit_code: ExitCodeOption = True,
) -> None:
    """Show a rollout: phase, stages, the evidence of each check, what it needs, what to do next.

    The exit code lets a script wait for the end: 0 promoted, 10 rolled back or stopped, 11 not decided yet.
    """
    from agentcanary.cli.seat import seat
    from agentcanary.cli.status_view import status_lines
    from agentcanary.status.status_data import status_data

    with seat(config, agent) as at:
        found = at.rollout(rollout)
        data = status_data(at.situation(found))
    if as_json:
        print_json(data)
    else:
        show(status_lines(data))
    if exit_code:
        raise typer.Exit(gate(found))
