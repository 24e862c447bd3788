"""``agentcanary watch``: the same as ``status``, for as long as the rollout goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcanary.cli.exit_codes import GATE_HELP, ExitCode, gate
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, ExitCodeOption, JsonOption
from agentcanary.cli.output import Line, Pieces, complain, console, print_json, show
from agentcanary.cli.status import RolloutArgument
from agentcanary.errors import StoreError

if TYPE_CHECKING:
    from agentcanary.cli.seat import Seat

Data = dict[str, Any]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("watch", epilog=GATE_HELP)(watch)


def watch(
    rollout: RolloutArgument = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    for_seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="End after this long, decided or not.")
    ] = None,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="Time between two readings.")] = 2.0,
    as_json: JsonOption = False,
    exit_code: ExitCodeOption = True,
) -> None:
    """Follow a rollout until it ends, or Ctrl-C.

    A live view in a terminal; elsewhere a line, and with --json an object on a line, whenever something changes.
    """
    from agentcanary.cli.seat import seat

    with seat(config, agent) as at:
        follow = _Follow(at, at.rollout(rollout).id, every=every, for_seconds=for_seconds)
        try:
            if as_json:
                _print_changes(follow, lambda data: print_json(data, indent=None))
            elif console().is_terminal:
                _show_live(follow)
            else:
                _print_changes(follow, _print_line)
        except KeyboardInterrupt:
            # How one leaves a view; what it has seen holds.
            complain("left")
    if exit_code:
        raise typer.Exit(follow.code)


class _Follow:
    """Reads a rollout again and again, until it has ended or the time is over.

    A store that cannot be read for a while is reported and asked again: that is when people watch.
    """

    def __init__(self, at: Seat, rollout: str, *, every: float, for_seconds: float | None) -> None:
        self._at = at
        self._rollout = rollout
        self._every = every
        self._until = None if for_seconds is None else time.monotonic() + for_seconds
        self.code = ExitCode.HOLD

    def __iter__(self) -> Iterator[Data | StoreError]:
        from agentcanary.status.status_data import status_data

        while True:
            over = False
            try:
                rollout = self._at.store.rollout(self._rollout)
                self.code = gate(rollout)
                # The end is shown with everything that was known then.
                over = rollout.phase.ended
                yield status_data(self._at.situation(rollout))
            except StoreError as error:
                yield error
            if over or not self._wait():
                return

    def _wait(self) -> bool:
        """Wait for the next reading; False when there is no time for it."""
        if self._until is None:
            time.sleep(self._every)
            return True
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(self._every, left))
        return True


def _print_changes(follow: _Follow, write: Callable[[Data], None]) -> None:
    from agentcanary.cli.status_view import change_key

    seen: object = None
    for found in follow:
        key: object = str(found) if isinstance(found, StoreError) else change_key(found)
        if key == seen:
            continue
        seen = key
        if isinstance(found, StoreError):
            complain(f"agentcanary: {found}; trying again")
        else:
            write(found)


def _print_line(data: Data) -> None:
    from agentcanary.cli.status_view import change_line

    # Flushed at once: whoever reads a log or a pipe is waiting for it.
    print(change_line(data), flush=True)  # noqa: T201 (a command prints)


def _show_live(follow: _Follow) -> None:
    from rich.console import Group
    from rich.live import Live

    from agentcanary.cli.status_view import status_lines

    lines: list[Line | Pieces] = []
    try:
        with Live(console=console(), auto_refresh=False, transient=True) as live:
            for found in follow:
                if isinstance(found, StoreError):
                    shown = [*lines, Line((f"agentcanary: {found}; trying again", "bold red"))]
                else:
                    lines = list(status_lines(found))
                    shown = [*lines, Line(("Ctrl-C leaves; the rollout goes on.", "dim"))]
                live.update(Group(*shown), refresh=True)
    finally:
        # The live view shows what fits into the window; what stays on the screen is all of it.
        show(lines)
