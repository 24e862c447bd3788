"""``agentcanary analyze``: two versions compared, from a file, from spans or from a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import JsonOption
from agentcanary.cli.output import complain
from agentcanary.cli.report_output import ForceOption, FormatOption, OutputOption, chosen_format, write_report

if TYPE_CHECKING:
    from agentcanary_analysis.metrics import Metric
    from agentcanary_analysis.report import Report

HELP = "Exit code: 0 promote, 10 roll back, 11 hold (not decided); 1 an error, 2 a mistake in the call or in the table."


class Method(StrEnum):
    """How checks are decided; the names are those of ``agentcanary_analysis.AnalysisMethod``."""

    FIXED = "fixed"
    ANYTIME = "anytime"
    GROUP_SEQUENTIAL = "group-sequential"


class Source(NamedTuple):
    """What is compared.

    Attributes:
        table: What ``analyze`` reads.
        stable: Name of the stable version.
        canary: Name of the canary version.
        checks: In the grammar of plans; None for the usual ones.
        metrics: The caller's own.
        method: How checks are decided.
        notes: What was skipped while reading, for people.
    """

    table: Any
    stable: str
    canary: str
    checks: list[str] | None
    metrics: tuple[Metric, ...]
    method: Method
    notes: tuple[str, ...] = ()


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("analyze", epilog=HELP)(analyze)


def analyze(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="csv, csv.gz, parquet, OTLP JSON lines (plain or gzip), a Langfuse export, or the URL of a store.",
        ),
    ],
    stable: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Name of the stable version; a store knows it.")
    ] = None,
    canary: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Name of the canary version; a store knows it.")
    ] = None,
    unit: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the conversation's id.")] = "conversation_id",
    cluster: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the user or task that conversations share.")
    ] = None,
    strata: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Keep its values apart; may be repeated.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help='Such as "error_rate_increase < 0.10"; may be repeated.'),
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="SHARE", help="That the canary was to get, 0.05 for 5 %; tests the split.")
    ] = None,
    alpha: Annotated[float, typer.Option(metavar="SHARE", help="Budget for calling a good canary harmful.")] = 0.05,
    method: Annotated[
        Method | None, typer.Option(help="fixed: one look. A store was looked at all the time, so anytime there.")
    ] = None,
    looks: Annotated[int, typer.Option(min=2, max=100, help="Scheduled looks, for group-sequential.")] = 5,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="A column that is called otherwise; may be repeated."),
    ] = None,
    version_attribute: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of spans: the attribute that names the version.")
    ] = None,
    rollout: Annotated[str | None, typer.Option(metavar="ID", help="Of a store: the rollout; else the newest.")] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a store with several agents, and of spans: which.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Bootstrap the intervals; the same seed gives the same numbers.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions: what is proven harmful, what is proven safe, and what nobody can tell yet."""
    form = chosen_format(form, output, as_json=as_json, force=force)
    report = compared(
        file,
        stable=stable,
        canary=canary,
        unit=unit,
        cluster=cluster,
        strata=strata or (),
        checks=check,
        weight=weight,
        alpha=alpha,
        method=method,
        looks=looks,
        columns=columns or (),
        version_attribute=version_attribute,
        rollout=rollout,
        agent=agent,
        seed=seed,
    )
    write_report(report, form, output)
    raise typer.Exit({"promote": ExitCode.DONE, "rollback": ExitCode.ROLLBACK}.get(report.verdict, ExitCode.HOLD))


def compared(
    file: str,
    *,
    stable: str | None,
    canary: str | None,
    unit: str,
    cluster: str | None,
    checks: list[str] | None,
    weight: float | None,
    alpha: float,
    method: Method | None,
    strata: Sequence[str] = (),
    looks: int = 5,
    columns: Sequence[str] = (),
    version_attribute: str | None = None,
    rollout: str | None = None,
    agent: str | None = None,
    seed: int | None = None,
) -> Report:
    """The report of a comparison, for the commands that make one; the arguments are their options.

    What a person can mend ends the command with a message.
    """
    import numpy as np

    from agentcanary_analysis import analyze as analyzed

    with _mistakes(file), _progress() as tell:
        tell("reading")
        if "://" in file:
            source = _from_store(file, agent, rollout, checks, method)
        else:
            source = _from_file(Path(file), stable, canary, checks, method, version_attribute, agent)
        found = analyzed(
            source.table,
            stable=stable or source.stable,
            canary=canary or source.canary,
            checks=source.checks,
            unit=unit,
            cluster=cluster,
            strata=strata,
            weight=weight,
            alpha=alpha,
            method=source.method.value,
            looks=looks,
            rng=None if seed is None else np.random.default_rng(seed),
            columns=_mapping(columns),
            metrics=source.metrics,
            progress=tell,
        )
    for note in source.notes:
        complain(note)
    return found


def _from_file(
    path: Path,
    stable: str | None,
    canary: str | None,
    checks: list[str] | None,
    method: Method | None,
    version_attribute: str | None,
    agent: str | None,
) -> Source:
    from agentcanary_analysis import read_spans, read_table
    from agentcanary_analysis.table_files import is_spans

    if stable is None or canary is None:
        raise typer.BadParameter("a file needs --stable VERSION and --canary VERSION")
    notes: tuple[str, ...] = ()
    if is_spans(path):
        spans = read_spans(path, version=version_attribute, agent=agent)
        table: Any = spans.frame
        notes = (f"{path}: {', '.join(f'{count} {name}' for name, count in spans.seen.items())}",)
    elif version_attribute is not None or agent is not None:
        raise typer.BadParameter("--version-attribute and --agent are about spans and stores, not about tables")
    else:
        table = read_table(path)
    return Source(table, stable, canary, checks, (), method or Method.FIXED, notes)


def _from_store(
    url: str, agent: str | None, rollout: str | None, checks: list[str] | None, method: Method | None
) -> Source:
    """The conversations of a rollout, and the criteria of its plan."""
    import pandas as pd

    from agentcanary.cli.program_logs import log_to_stderr
    from agentcanary.cli.seat import existing_store
    from agentcanary.clock import SystemClock
    from agentcanary.errors import UnknownError
    from agentcanary.store.database import Database
    from agentcanary.store.tables import Tables
    from agentcanary_analysis.checks import check_name
    from agentcanary_analysis.metrics import BUILT_IN, Kind

    log_to_stderr()
    store = existing_store(url)
    database = Database(url)
    try:
        store.open()
        agents = store.agents()
        if rollout is None:
            name = agent or (agents[0] if len(agents) == 1 else None)
            if name is None:
                known = ", ".join(agents) or "none"
                raise UnknownError(f"{store.name} has the agents {known}; choose one with --agent")
            found = store.current(name)
            if found is None:
                raise UnknownError(f"agent {name!r} has no rollout in {store.name}; it has {', '.join(agents)}")
        else:
            found = store.rollout(rollout)
        looks = store.looks(found.id, limit=1)
        # A rollout on a faster clock is ahead of this one.
        until = max([SystemClock()(), *(look.at for look in looks)])
        metrics = [metric for metric in found.plan.metrics if metric.kind is not Kind.RATIO]
        safety = store.aggregates(found).safety
        table = Tables(database).conversations(found, metrics, until=until, reports=safety.reports > 0)
    finally:
        database.close()
        store.close()
    known_metrics = {metric.name: metric for metric in metrics}
    asked = [
        f"{check_name(known_metrics[criterion.metric])} < {criterion.margin:g}"
        for criterion in found.plan.criteria
        if criterion.metric in known_metrics
    ]
    asked += [f"{metric.name} == 0" for metric in metrics if metric.kind is Kind.COUNT and safety.reports]
    own = tuple(metric for metric in metrics if metric not in BUILT_IN and metric.kind is not Kind.COUNT)
    return Source(pd.DataFrame(table), found.stable, found.canary, checks or asked, own, method or Method.ANYTIME)


@contextmanager
def _mistakes(file: str) -> Iterator[None]:
    """What a person can mend ends with a message."""
    from agentcanary_analysis.checks import CheckError
    from agentcanary_analysis.frame_columns import TableError

    try:
        yield
    except TableError as error:
        text = str(error)
        complain(text if text.startswith(file) else f"{file}: {text}")
        raise typer.Exit(ExitCode.USAGE) from None
    except (CheckError, ValueError) as error:
        complain(str(error))
        raise typer.Exit(ExitCode.USAGE) from None


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A bar on standard error, in a terminal only; nobody knows how long a step takes."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    errors = Console(stderr=True)
    looks = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*looks, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("Reading", total=None)
        yield lambda step: bar.update(task, description=step.capitalize())


def _mapping(columns: Sequence[str]) -> dict[str, str]:
    found = {}
    for column in columns:
        name, equals, other = column.partition("=")
        if not (name and equals and other):
            raise typer.BadParameter(f"--column must be NAME=COLUMN, such as latency_s=duration, got {column!r}")
        found[name] = other
    return found
