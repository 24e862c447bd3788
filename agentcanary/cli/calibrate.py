"""``agentcanary calibrate``: how a plan would have treated canaries in the past, and what it should say instead."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, JsonOption
from agentcanary.cli.output import complain, print_json, show

if TYPE_CHECKING:
    import pandas as pd

    from agentcanary.calibration import Calibration
    from agentcanary.config import Config

REPLAYS = 400
SEED = 1


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("calibrate")(calibrate)


def calibrate(
    history: Annotated[
        str,
        typer.Argument(
            metavar="HISTORY",
            help="Past conversations: csv, csv.gz, parquet or spans (OTLP JSON lines), with conversation_id and "
            "started_at, or the URL of a store, which recorded them.",
        ),
    ],
    plan: Annotated[
        Path, typer.Option("--plan", "-p", metavar="FILE", help="The canary.yaml to calibrate.")
    ] = CONFIG_FILE,
    version: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose conversations are replayed; else the plan's stable version."),
    ] = None,
    replays: Annotated[int, typer.Option(min=20, max=100_000, help="Rollouts to replay of each kind.")] = REPLAYS,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = SEED,
    longest: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="When a replay ends, such as 5d; else three times what the plan lasts."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="A column that is called otherwise; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the plan with the recommended values.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if there is one.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; else one for each core.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay rollouts in the past: how often is a harmless canary rolled back, which harm is found, what can be proven?

    Nothing is started, and a store is only read. It takes a minute or two; the result does not depend on --jobs.
    """
    from concurrent.futures.process import BrokenProcessPool

    import numpy as np

    from agentcanary.calibration import HistoryError
    from agentcanary.calibration import calibrate as calibrated
    from agentcanary.config import load_config

    found = load_config(plan)
    if output is not None and output.exists() and not force:
        complain(f"{output} is there already; replace it with --force")
        raise typer.Exit(ExitCode.ERROR)
    seconds, mapping = _seconds(longest), _mapping(columns or [])
    try:
        frame = read_history(history, found, version=version or found.stable)
        result = _with_progress(
            lambda progress: calibrated(
                frame,
                found,
                replays=replays,
                rng=np.random.default_rng(seed),
                version=_version(frame, mapping, version, found.stable),
                columns=mapping,
                longest=seconds,
                jobs=jobs or os.cpu_count() or 1,
                progress=progress,
            )
        )
    except HistoryError as error:
        complain(f"{history}: {error}")
        raise typer.Exit(ExitCode.USAGE) from None
    except BrokenProcessPool:
        complain("agentcanary: a process of the calibration died, perhaps for want of memory; try it with --jobs 1")
        raise typer.Exit(ExitCode.ERROR) from None
    if output is not None:
        text = plan.read_text(encoding="utf-8-sig")
        _write(output, result.to_yaml(text))
    if as_json:
        print_json({"agent": found.agent, "seed": seed, **result.to_dict()})
        return
    from agentcanary.cli.calibration_view import calibration_lines

    show(calibration_lines(result))
    if output is not None:
        show([f"Wrote {output}: the same plan with the recommended values, and the reasons as comments."])
    else:
        show(["Write a plan with the recommended values with --output FILE."])


def read_history(history: str, config: Config, *, version: str) -> Any:
    """The conversations of a file or a store, as a frame.

    Raises:
        HistoryError: If the file cannot be read, or the store has recorded nothing.
        StoreError: If the store cannot be read.
    """
    from agentcanary.calibration import HistoryError
    from agentcanary_analysis.frame_columns import TableError
    from agentcanary_analysis.table_files import read_table

    if "://" in history:
        return _from_store(history, config, version=version)
    try:
        return read_table(history)
    except TableError as error:
        raise HistoryError(str(error).removeprefix(f"{history}: ")) from None


def _from_store(url: str, config: Config, *, version: str) -> pd.DataFrame:
    import pandas as pd

    from agentcanary.calibration import HistoryError
    from agentcanary.cli.program_logs import log_to_stderr
    from agentcanary.cli.seat import existing_store
    from agentcanary.store.database import Database
    from agentcanary.store.recorded import Recorded
    from agentcanary_analysis.metrics import Kind

    log_to_stderr()
    existing_store(url).close()
    metrics = [metric for metric in config.plan.metrics if metric.kind is not Kind.RATIO]
    oldest = max(metric.horizon for metric in metrics)
    database = Database(url)
    try:
        rows = Recorded(database).history(config.agent, version, metrics, until=time.time() - oldest)
    finally:
        database.close()
    if not rows:
        raise HistoryError(f"the store has recorded no conversation of {version} outside rollouts")
    return pd.DataFrame(rows)


def _version(frame: Any, columns: dict[str, str], asked: str | None, stable: str) -> str | None:
    """The version to replay: the one asked for, else the plan's stable one where the history holds several."""
    import narwhals as nw

    column = columns.get("version", "version")
    found = nw.from_native(frame).lazy()
    if asked is not None or column not in found.collect_schema().names():
        return asked
    return stable if len(found.select(column).unique().collect()) > 1 else None


def _with_progress(work: Any) -> Calibration:
    """The work with a bar on standard error, in a terminal only."""
    from rich.console import Console
    from rich.progress import Progress

    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("Replaying rollouts", total=None)
        result: Calibration = work(lambda done, total: bar.update(task, completed=done, total=total))
    return result


def _seconds(text: str | None) -> float | None:
    from agentcanary.durations import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--longest {error}, got {text!r}") from None
    if seconds < 3600:
        raise typer.BadParameter(f"--longest must be at least 1h, got {text!r}")
    return seconds


def _mapping(columns: Sequence[str]) -> dict[str, str]:
    found = {}
    for column in columns:
        name, equals, other = column.partition("=")
        if not (name and equals and other):
            raise typer.BadParameter(f"--column must be NAME=COLUMN, such as conversation_id=session, got {column!r}")
        found[name] = other
    return found


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        complain(f"{output} cannot be written: {error.strerror}")
        raise typer.Exit(ExitCode.ERROR) from None
