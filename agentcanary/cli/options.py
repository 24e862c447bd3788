"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CONFIG_FILE = Path("canary.yaml")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")]
AgentOption = Annotated[
    str | None, typer.Option("--agent", metavar="NAME", help="Another agent of the same store; else the file's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data only, as JSON.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log. Required.")]
ActorOption = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Who acts, for the audit log; else USER@HOST.")
]
DuringFreezeOption = Annotated[
    bool, typer.Option("--during-freeze", help="Also inside a freeze window, where steps forward are refused.")
]
ExitCodeOption = Annotated[
    bool, typer.Option("--exit-code/--no-exit-code", help="Say the rollout's state in the exit code; else 0.")
]
