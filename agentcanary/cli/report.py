"""``agentcanary report``: what is known of a rollout, or of a recorded comparison, to keep and to show to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentcanary.cli.analyze import Method, compared
from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.report_output import ForceOption, FormatOption, OutputOption, chosen_format, write_report

if TYPE_CHECKING:
    from agentcanary_analysis.report import Report


_CODES = {"promote": ExitCode.DONE, "rollback": ExitCode.ROLLBACK, "hold": ExitCode.HOLD}


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("report")(report)


def report(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="Recorded conversations of two versions, as for analyze; without it the report is about a rollout in "
            "the store.",
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
        Method | None, typer.Option(help="With FILE: fixed is for one look, the others for several.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code/--no-exit-code", help="Say the verdict in the exit code; else 0.")
    ] = False,
) -> None:
    """Write a report: the verdict, the checks with their evidence, the split, what was excluded, the methods.

    As HTML it is one file that opens without a network. The exit code is 0 once it is written, unless --exit-code.
    """
    chosen = chosen_format(form, output, as_json=as_json, force=force)
    if table is None:
        _refuse({"--stable": stable, "--canary": canary, "--check": checks, "--cluster": cluster, "--weight": weight})
        made = _of_rollout(config, agent, rollout)
    else:
        if rollout is not None:
            raise typer.BadParameter("a report is about FILE or about --rollout, not about both")
        made = compared(
            table,
            stable=stable,
            canary=canary,
            checks=checks,
            unit=unit,
            cluster=cluster,
            weight=weight,
            alpha=alpha,
            method=method,
            agent=agent,
        )
    write_report(made, chosen, output)
    if exit_code:
        raise typer.Exit(_CODES[made.verdict.value])


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
