"""``agentcanary forget CONVERSATION``: remove one person's conversation, and say what is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.output import Line, columns, complain, print_json, show

if TYPE_CHECKING:
    from agentcanary.cli.seat import Seat
    from agentcanary.store.forgetting import Forgotten


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("forget")(forget)


def forget(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="Its id, or one that a server made.")],
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is nobody to ask.")] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Rewrite an SQLite file afterwards, so that no page keeps a copy.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a conversation everywhere: its turns, outcomes, pins and aliases, of all agents of the store or of one.

    Cannot be undone. What was counted stays counted: sums hold nobody's data. Says what else is left, and where.
    """
    from agentcanary.cli.people import agents_of, names_of
    from agentcanary.cli.seat import seat
    from agentcanary.config.journals import journals_folder
    from agentcanary.store.forgetting import Forgotten

    with seat(config, agent) as at:
        agents = agents_of(at, agent)
        if not yes:
            _ask(conversation, agents)
        found = Forgotten()
        for one in agents:
            for name in names_of(at, conversation):
                found += at.store.forget(one, name, at.clock())
        if compact:
            at.store.compact()
        names = names_of(at, conversation)
        waiting = _journals_with(journals_folder(at.config), names)
        left = list(_left(at, found, waiting, compact=compact))
    data = {
        "agents": agents,
        "deleted": dict(found.deleted),
        "nameless_until_counted": found.nameless,
        "counted_in": list(found.counted),
        "mentioned_in": dict(found.mentions),
        "journals": waiting,
        "left": left,
    }
    if as_json:
        print_json(data)
    else:
        show(_lines(data, nothing=found.nothing))
    if found.nothing and not as_json:
        complain("agentcanary: nothing was known of it; was it spelt right, and is this the application's store?")


def _ask(conversation: str, agents: Sequence[str]) -> None:
    if not sys.stdin.isatty():
        complain("agentcanary forget: it cannot be undone, and there is nobody to ask; add --yes")
        raise typer.Exit(ExitCode.USAGE)
    typer.confirm(f"Forget conversation {conversation!r} of {', '.join(agents)}? It cannot be undone", abort=True)


def _journals_with(folder: Path, names: Sequence[str]) -> list[str]:
    """Journals of this machine that hold one of the names: what waits in them is not taken in."""
    wanted = [name.encode("utf-8", "replace") for name in names]
    files = sorted(folder.glob("*.journal")) if folder.is_dir() else []
    return [file.name for file in files if any(name in file.read_bytes() for name in wanted)]


def _left(at: Seat, found: Forgotten, waiting: Sequence[str], *, compact: bool) -> Iterator[str]:
    """What is left and where, a sentence each."""
    if found.counted:
        yield (
            f"It was counted in {', '.join(found.counted)}: it is a part of sums over hundreds of conversations, which "
            f"hold nobody's data and are not changed."
        )
    if found.nameless:
        yield (
            f"{found.nameless} part of it is in a rollout that has yet to count it: kept without its name, its words "
            f"and its ids, and deleted when it is counted."
        )
    for kind, rows in found.mentions.items():
        yield f"{rows} rows of {kind} name it in words that people or senders wrote; nobody's words are changed."
    for name in waiting:
        yield f"The journal {name} on this machine waits for the store with it; what waits is not taken in any more."
    if not compact and at.config.store.startswith("sqlite"):
        yield "Freed pages of the SQLite file may hold copies until they are used again; --compact clears them."
    yield "Workers that run keep digests of the ids of recent conversations in memory until they end; no id."
    yield "Traces, logs and backups outside of agentcanary may name it: look for gen_ai.conversation.id there."


def _lines(data: dict[str, Any], *, nothing: bool) -> Iterator[Line]:
    yield Line(("nothing was stored of it" if nothing else "forgotten", "bold"), f"   {', '.join(data['agents'])}")
    yield from columns([(kind, str(rows)) for kind, rows in data["deleted"].items()], indent=2)
    yield Line()
    yield Line(("What is left", "bold"))
    for sentence in data["left"]:
        yield Line(sentence, indent=2)
