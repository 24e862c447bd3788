"""``agentcanary export CONVERSATION``: everything that is kept of one person's conversation, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption
from agentcanary.cli.output import complain, print_json
from agentcanary.errors import UnknownError


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("export")(export)


def export(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its id, or one that a server made.")],
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else standard output.")] = None,
) -> None:
    """Print everything that is kept of a conversation, of all agents of the store or of one, for whom it is about."""
    import json

    from agentcanary.cli.explanation import explanation
    from agentcanary.cli.people import agents_of, names_of
    from agentcanary.cli.seat import seat

    with seat(config, agent) as at:
        found = []
        for one in agents_of(at, agent):
            rollouts = {rollout.id: rollout for rollout in at.store.rollouts(one)}
            for name in names_of(at, conversation):
                known = at.store.conversation(one, name)
                if known is not None:
                    said = explanation(known, rollouts, now=at.clock(), next_turn=None)
                    del said["next_turn"]
                    found.append({**said, "aliases": at.store.aliases_of(one, known.unit)})
        name = at.store.name
    if not found:
        raise UnknownError(f"nothing is kept of conversation {conversation!r} in {name}")
    data = {"conversation": conversation, "kept": found}
    if output is None:
        print_json(data)
        return
    # Whoever asked may read it, and nobody else on this machine.
    output.touch(mode=0o600)
    output.write_text(json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    complain(f"written to {output}")
