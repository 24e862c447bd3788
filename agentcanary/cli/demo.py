"""``agentcanary demo``: four rollouts of a demonstration agent, on real HTTP traffic of this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import JsonOption
from agentcanary.cli.output import complain
from agentcanary.cli.program_logs import log_to_stderr

_EXTRA = ("fastapi", "uvicorn", "httpx")


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("demo")(demo)


def demo(
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=10, help="About how long it may take.")] = 90.0,
    as_json: JsonOption = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="FOLDER", help="Keep its configuration and store there.")
    ] = None,
) -> None:
    """Watch four rollouts: one promoted, one rolled back, one stopped for safety, one harmless. No network needed."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        complain(f"agentcanary demo needs {', '.join(missing)}: pip install 'agentcanary[demo]'")
        raise typer.Exit(ExitCode.ERROR)
    from agentcanary.demo.run import run

    log_to_stderr()

    raise typer.Exit(run(seconds=seconds, json_output=as_json, keep=keep))
