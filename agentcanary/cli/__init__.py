"""The command line: one file a command group. Heavy packages are imported by the commands that need them."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from agentcanary.cli import (
    actions,
    analyze,
    calibrate,
    config,
    control,
    dashboard,
    demo,
    doctor,
    explain,
    export,
    forget,
    manifests,
    migrate,
    plan,
    report,
    rollouts,
    starting,
    status,
    token,
    watch,
)
from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.output import complain
from agentcanary.cli.program_logs import this_is_the_program
from agentcanary.errors import AgentCanaryError, ConfigError

__all__ = ["app", "main"]


class Commands(TyperGroup):
    """All commands; what a person can mend ends with a message and an exit code, not with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; ``ctx`` is the context of click, which typer may bring along under another name."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for mistake in error.mistakes:
                complain(mistake)
            raise typer.Exit(ExitCode.USAGE) from None
        except AgentCanaryError as error:
            complain(f"agentcanary: {error}")
            raise typer.Exit(ExitCode.ERROR) from None


app = typer.Typer(
    name="agentcanary",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Canary releases for AI agents. Commands read ./canary.yaml unless told --config FILE.",
    epilog="Exit codes: 0 done or promoted, 1 error, 2 a mistake in the call or the configuration, 10 rolled back, "
    "11 not decided yet.",
)
for group in (
    demo,
    config,
    plan,
    calibrate,
    analyze,
    starting,
    status,
    watch,
    rollouts,
    report,
    explain,
    manifests,
    forget,
    export,
    actions,
    control,
    dashboard,
    doctor,
    migrate,
    token,
):
    group.register(app)


def main() -> None:
    """Entry point of the command ``agentcanary``."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a pipe that cannot show a sign gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    this_is_the_program()
    app()
