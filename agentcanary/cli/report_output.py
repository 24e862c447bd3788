"""Where a report goes and in which form: the options that the commands with a report share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer
from rich.console import Console

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.output import complain, console

if TYPE_CHECKING:
    from agentcanary_analysis.report import Report


class Format(StrEnum):
    """How a report is written."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"
    HTML = "html"


FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Else by the ending of --output, or for the terminal.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report there: .html, .md, .json.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output file if there is one.")]

_BY_SUFFIX = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN, ".json": Format.JSON}
_PAGE = 120


def chosen_format(form: Format | None, output: Path | None, *, as_json: bool, force: bool) -> Format:
    """What is asked for, checked before any work is done.

    Args:
        form: Of ``--format``.
        output: Of ``--output``.
        as_json: Of ``--json``.
        force: Of ``--force``.
    """
    if as_json and form not in (None, Format.JSON):
        raise typer.BadParameter("--json and another --format exclude each other")
    if output is not None and output.exists() and not force:
        complain(f"{output} is there already; replace it with --force")
        raise typer.Exit(ExitCode.ERROR)
    if as_json:
        return Format.JSON
    if form is not None:
        return form
    return Format.TERMINAL if output is None else _BY_SUFFIX.get(output.suffix.lower(), Format.TERMINAL)


def write_report(made: Report, form: Format, output: Path | None) -> None:
    """The report on standard output or in a file.

    Args:
        made: The report.
        form: How it is written.
        output: The file; None for standard output.
    """
    try:
        text = _text(made, form)
    except ModuleNotFoundError as error:
        complain(f"agentcanary: {error}")
        raise typer.Exit(ExitCode.ERROR) from None
    if output is None:
        if text is not None:
            typer.echo(text.removesuffix("\n"))
        else:
            console().print(made)
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            if text is not None:
                file.write(text)
            else:
                Console(file=file, width=_PAGE, highlight=False, emoji=False).print(made)
    except OSError as error:
        complain(f"{output} cannot be written: {error.strerror}")
        raise typer.Exit(ExitCode.ERROR) from None
    complain(f"{made.verdict.value}: written to {output}")


def _text(made: Report, form: Format) -> str | None:
    """The report as text; None where a terminal lays it out."""
    match form:
        case Format.HTML:
            return made.to_html()
        case Format.MARKDOWN:
            return made.to_markdown()
        case Format.JSON:
            return made.to_json() + "\n"
        case Format.TERMINAL:
            return None
        case _:
            assert_never(form)
