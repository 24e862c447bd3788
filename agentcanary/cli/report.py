"""``agentcanary report``: what is known of a rollout, or of a recorded comparison, to keep and to show to others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, assert_never

import typer
from rich.console import Console

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.output import complain, console

if TYPE_CHECKING:
    from agentcanary_analysis.report import Report


class Format(StrEnum):
    """How a report is written."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    JSON = "json"
    HTML = "html"


_BY_SUFFIX = {".html": Format.HTML, ".htm": Format.HTML, ".md": Format.MARKDOWN, ".json": Format.JSON}
_PAGE = 120
_CODES = {"promote": ExitCode.DONE, "rollback": ExitCode.ROLLBACK, "hold": ExitCode.HOLD}


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("report")(report)


def report(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="Recorded conversations of two versions (csv, csv.gz, parquet, OTLP jsonl), as for analyze; "
            "without a file the report is about a rollout in the store.",
        ),
    ] = None,
    rollout: Annotated[
        str | None, typer.Option("--rollout", metavar="ID", help="Id of a rollout; else the agent's newest.")
    ] = None,
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    stable: Annotated[str | None, typer.Option(metavar="V", help="With FILE: the stable version.")] = None,
    canary: Annotated[str | None, typer.Option(metavar="V", help="With FILE: the canary version.")] = None,
    checks: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="EXPR", help="With FILE: error_rate_increase < 0.10; may be repeated."),
    ] = None,
    unit: Annotated[str, typer.Option(metavar="COL", help="With FILE: the conversation's id.")] = "conversation_id",
    cluster: Annotated[
        str | None, typer.Option(metavar="COL", help="With FILE: what conversations share, such as the user.")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="W", help="With FILE: the share that the canary was to get.")
    ] = None,
    alpha: Annotated[float, typer.Option(metavar="A", help="With FILE: the budget for false alarms.")] = 0.05,
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="With FILE: fixed, anytime or group-sequential.")
    ] = "fixed",
    form: Annotated[
        Format | None, typer.Option("--format", help="Else by the ending of --output, or for the terminal.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if there is one.")] = False,
    as_json: JsonOption = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code/--no-exit-code", help="Say the verdict in the exit code; else 0.")
    ] = False,
) -> None:
    """Write a report: the verdict, the checks with their evidence, the split, what was excluded, the methods.

    As HTML it is one file that opens without a network. The exit code is 0 once it is written, unless --exit-code.
    """
    chosen = _format(form, output, as_json=as_json)
    if output is not None and output.exists() and not force:
        complain(f"{output} is there already; replace it with --force")
        raise typer.Exit(ExitCode.ERROR)
    if table is None:
        _refuse({"--stable": stable, "--canary": canary, "--check": checks, "--cluster": cluster, "--weight": weight})
        made = _of_rollout(config, agent, rollout)
    else:
        if rollout is not None:
            raise typer.BadParameter("a report is about FILE or about --rollout, not about both")
        made = _of_table(
            table,
            stable=stable,
            canary=canary,
            checks=checks,
            unit=unit,
            cluster=cluster,
            weight=weight,
            alpha=alpha,
            method=method,
        )
    _write(made, chosen, output)
    if exit_code:
        raise typer.Exit(_CODES[made.verdict.value])


def _format(form: Format | None, output: Path | None, *, as_json: bool) -> Format:
    if as_json:
        if form not in (None, Format.JSON):
            raise typer.BadParameter(f"--json and --format {form.value if form else ''} exclude each other")
        return Format.JSON
    if form is not None:
        return form
    return Format.TERMINAL if output is None else _BY_SUFFIX.get(output.suffix.lower(), Format.TERMINAL)


def _refuse(given: dict[str, object]) -> None:
    """Options that only a file can use."""
    useless = [name for name, value in given.items() if value is not None]
    if useless:
        raise typer.BadParameter(f"{', '.join(useless)} needs FILE: a rollout knows its versions and its checks")


def _of_rollout(config: Path, agent: str | None, rollout: str | None) -> Report:
    from agentcanary.cli.seat import seat
    from agentcanary.status.report import stored_report

    with seat(config, agent) as at:
        return stored_report(at.store, at.rollout(rollout), now=at.clock(), speed=at.clock.speed)


def _of_table(
    table: str,
    *,
    stable: str | None,
    canary: str | None,
    checks: list[str] | None,
    unit: str,
    cluster: str | None,
    weight: float | None,
    alpha: float,
    method: str,
) -> Report:
    from agentcanary_analysis import analyze

    if stable is None or canary is None:
        raise typer.BadParameter("a file needs --stable V and --canary V: the versions to compare")
    try:
        return analyze(
            table,
            stable=stable,
            canary=canary,
            checks=checks,
            unit=unit,
            cluster=cluster,
            weight=weight,
            alpha=alpha,
            method=method,
        )
    except (ValueError, OSError) as error:
        complain(f"agentcanary: {error}")
        raise typer.Exit(ExitCode.ERROR) from None


def _write(made: Report, form: Format, output: Path | None) -> None:
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
