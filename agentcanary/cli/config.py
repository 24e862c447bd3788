"""Commands on the configuration: init, validate, schema."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentcanary.config import load_config
from agentcanary.errors import ConfigError
from agentcanary.presets import DEFAULT_PRESET, PRESETS

USAGE = 2
_FILE = Path("canary.yaml")

PresetName = StrEnum("PresetName", {name: name for name in PRESETS})  # type: ignore[misc]  # members are data
ConfigOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data only.")]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("init")(init)
    app.command("validate")(validate)
    app.command("schema")(schema)


def init(
    config: ConfigOption = _FILE,
    preset: Annotated[PresetName, typer.Option(help="Ready-made stages.")] = PresetName(DEFAULT_PRESET),
    agent: Annotated[str, typer.Option(help="Name of the agent.")] = "support",
    stable: Annotated[str, typer.Option(help="The version that serves now.")] = "support-v1",
    canary: Annotated[str, typer.Option(help="The version that is to replace it.")] = "support-v2",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a commented canary.yaml."""
    from agentcanary.config import parse_config
    from agentcanary.config.template import first_config

    text = first_config(agent=agent, stable=stable, canary=canary, preset=preset.value)
    try:
        parse_config(text, str(config))
    except ConfigError as error:
        raise _refused(error) from None
    try:
        with config.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        typer.echo(f"{config} is there already; replace it with --force", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"{config} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"Wrote {config}. Next: name your agent and versions in it, then run agentcanary validate.")


def validate(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The same as --config.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Else canary.yaml.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the configuration means, or every mistake in it (exit code 2)."""
    from agentcanary.config.words import in_data, in_words

    if file is not None and config is not None:
        raise typer.BadParameter(f"name one file, got {file} and {config}")
    try:
        found = load_config(file or config or _FILE)
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"valid": False, "mistakes": error.mistakes}, ensure_ascii=False, indent=2))
        raise _refused(error) from None
    if as_json:
        typer.echo(json.dumps({"valid": True, **in_data(found)}, ensure_ascii=False, indent=2))
        return
    for line in in_words(found):
        typer.echo(line)


def schema() -> None:
    """Print the JSON Schema of canary.yaml, for editors."""
    from agentcanary.config.schema import json_schema

    typer.echo(json.dumps(json_schema(), ensure_ascii=False, indent=2))


def _refused(error: ConfigError) -> typer.Exit:
    for mistake in error.mistakes:
        typer.echo(mistake, err=True)
    return typer.Exit(USAGE)
