"""``agentcanary dashboard``: the pages, from a process of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption
from agentcanary.cli.output import complain

if TYPE_CHECKING:
    from agentcanary.dashboard import Source

_PORT = 8600


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("dashboard")(dashboard)


def dashboard(
    config: ConfigOption = CONFIG_FILE,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Every rollout of this store, without a configuration.")
    ] = None,
    agent: AgentOption = None,
    host: Annotated[str, typer.Option(help="Address to listen at; another one than this machine's needs TLS.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = _PORT,
    for_seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="End after this long.")
    ] = None,
) -> None:
    """Serve the pages until Ctrl-C, and say where they are and which token opens them.

    A token of the configuration or the environment opens them; without one, a token is made for this run.
    """
    from agentcanary.cli.serving import serve
    from agentcanary.dashboard import application
    from agentcanary.operating import actor_name
    from agentcanary.security import Guard, Scope, digest_of, new_token

    source, known = _source(config, store, agent)
    token = ""
    if source.guard.closed:
        token = new_token()
        guard = Guard([(actor_name(), {Scope.READ, Scope.OPERATE}, digest_of(token))])
        source = source.guarded_by(guard)

    def ready(url: str) -> None:
        complain(f"dashboard of {source.store.name}: {url}/")
        complain(f"token, for this run only: {token}" if token else f"token: {known}")
        complain("Ctrl-C ends it; the rollouts go on.")

    try:
        source.store.open()
        serve(application(source), host=host, port=port, ready=ready, for_seconds=for_seconds)
    finally:
        source.store.close()


def _source(file: Path, url: str | None, agent: str | None) -> tuple[Source, str]:
    """What the pages show, and which token opens them in words."""
    from agentcanary.cli.program_logs import log_to_stderr
    from agentcanary.cli.seat import existing_store
    from agentcanary.clock import SystemClock
    from agentcanary.config import load_config
    from agentcanary.config.values import Security
    from agentcanary.dashboard import Source
    from agentcanary.security import Guard

    log_to_stderr()
    environment = "the one in AGENTCANARY_TOKEN, AGENTCANARY_OPERATE_TOKEN or AGENTCANARY_READ_TOKEN"
    if url is not None:
        guard = Guard.configured(Security(), os.environ)
        return Source(store=existing_store(url), clock=SystemClock(), guard=guard, agent=agent), environment
    config = load_config(file)
    guard = Guard.configured(config.security, os.environ)
    source = Source(
        store=existing_store(config.store, file),
        clock=SystemClock(),
        guard=guard,
        agent=agent or config.agent,
        config=config,
    )
    names = ", ".join(token.name for token in config.security.tokens)
    return source, f"one of {file}: {names}" if names else environment
