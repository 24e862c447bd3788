"""How a command prints: lines on standard output, data as JSON, everything else on standard error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

# Where no terminal limits the width lines are not wrapped: they are read by programs, and in logs.
_PLAIN_WIDTH = 10_000


def console() -> Console:
    """Standard output: colours in a terminal only, and never with NO_COLOR."""
    found = Console(highlight=False, emoji=False)
    if not found.is_terminal and "COLUMNS" not in os.environ:
        found.width = _PLAIN_WIDTH
    return found


def print_json(data: object, *, indent: int | None = 2) -> None:
    """Data on standard output."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False))


def complain(message: str) -> None:
    """A message on standard error."""
    typer.echo(message, err=True)


class Line:
    """A line of text, indented; what does not fit goes on below, indented a little more.

    Args:
        parts: Texts, or texts with a style.
        indent: Spaces before it.
    """

    def __init__(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        self.text = Text.assemble(*parts)
        self.indent = indent

    def __rich_console__(self, on: Console, options: ConsoleOptions) -> RenderResult:
        """As ``rich`` asks for it."""
        width = max(options.max_width - self.indent - 2, 20)
        for number, line in enumerate(self.text.wrap(on, width)):
            yield Text(" " * (self.indent + (2 if number else 0))).append_text(line)


class Pieces:
    """Short texts beside each other, three spaces apart; those that do not fit go on below, each in one piece.

    Args:
        pieces: Empty ones are left out.
        indent: Spaces before each line.
    """

    def __init__(self, *pieces: str, indent: int = 0) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.indent = indent

    def __rich_console__(self, on: Console, options: ConsoleOptions) -> RenderResult:
        """As ``rich`` asks for it."""
        row = ""
        for piece in self.pieces:
            longer = f"{row}   {piece}" if row else piece
            if row and self.indent + cell_len(longer) > options.max_width:
                yield Line(row, indent=self.indent)
                row = piece
            else:
                row = longer
        yield Line(row, indent=self.indent)


def columns(rows: Iterable[Sequence[str]], *, indent: int = 0, styles: Sequence[str] = ()) -> list[Line]:
    """Rows with their cells below each other.

    Args:
        rows: Of equal length.
        indent: Spaces before each.
        styles: One for each row, empty for none.
    """
    cells = [list(row) for row in rows]
    if not cells:
        return []
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for number, row in enumerate(cells):
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        style = styles[number] if number < len(styles) else ""
        lines.append(Line(("  ".join(padded).rstrip(), style), indent=indent))
    return lines


def show(lines: Iterable[Any]) -> None:
    """Lines on standard output."""
    on = console()
    for line in lines:
        on.print(line)
