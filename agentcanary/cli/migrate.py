"""``agentcanary migrate``: bring a store to the schema of this release, before the workers do."""

from __future__ import annotations

from typing import Annotated

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from agentcanary.cli.output import print_json


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("migrate")(migrate)


def migrate(
    config: ConfigOption = CONFIG_FILE,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 1 if there is something to do.")] = (
        False
    ),
    as_json: JsonOption = False,
) -> None:
    """Create the store's tables, or bring them to the schema of this release.

    Workers do the same when they start; a deployment may want it done before, by a user who may create tables.
    """
    from agentcanary.cli.program_logs import log_to_stderr
    from agentcanary.config import load_config
    from agentcanary.store import Store
    from agentcanary.store.migrations import HEAD

    log_to_stderr()
    store = Store(load_config(config).store)
    before = store.schema()
    if not check:
        store.open()
        store.close()
    if as_json:
        print_json({"store": store.name, "before": before, "known": HEAD, "migrated": before != HEAD and not check})
    else:
        typer.echo(f"{store.name}: {_said(before, HEAD, check=check)}")
    if check and before != HEAD:
        raise typer.Exit(ExitCode.ERROR)


def _said(before: str | None, head: str, *, check: bool) -> str:
    if before == head:
        return f"has the schema {head} of this release"
    if check:
        return f"{'is empty' if before is None else f'has the schema {before}'}; this release needs {head}"
    return f"{'was empty' if before is None else f'had the schema {before}'}; now it has {head}"
