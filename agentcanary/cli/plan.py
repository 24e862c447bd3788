"""``agentcanary plan``: what a plan can prove, and how it treats harmless and harmful canaries, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from agentcanary.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from agentcanary.cli.output import print_json, show

if TYPE_CHECKING:
    from agentcanary.planning import Expectations, Outlook

RUNS = 80
SEED = 1

_SHARES = {"error_rate": "--error-rate", "task_completion_rate": "--completion-rate"}


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("plan")(plan)


def plan(
    config: ConfigOption = CONFIG_FILE,
    conversations_per_hour: Annotated[
        float | None,
        typer.Option(metavar="N", help="New conversations of both versions; else traffic: of the file, else 200."),
    ] = None,
    error_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of the stable version, 0.05 for 5 %; else the file's, else 0.05."),
    ] = None,
    completion_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of the stable version; else the file's, else 0.85 where it is checked."),
    ] = None,
    runs: Annotated[int, typer.Option(min=10, max=100_000, help="Simulated rollouts of each canary.")] = RUNS,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation: the same seed gives the same numbers.")] = SEED,
    as_json: JsonOption = False,
) -> None:
    """Say what each stage and check can prove, and simulate what becomes of harmless and harmful canaries.

    Nothing is started and no store is read. It takes about a quarter of a minute.
    """
    from agentcanary.cli.plan_data import plan_data
    from agentcanary.cli.plan_view import plan_lines
    from agentcanary.config import load_config
    from agentcanary.planning import expect, stage_proofs, warnings

    found = load_config(config)
    stated = {"error_rate": error_rate, "task_completion_rate": completion_rate}
    try:
        expectations = expect(
            found.plan,
            conversations_per_hour=found.traffic.conversations_per_hour
            if conversations_per_hour is None
            else conversations_per_hour,
            stable={**found.traffic.stable, **{name: rate for name, rate in stated.items() if rate is not None}},
        )
        proofs = stage_proofs(expectations)
    except ValueError as error:
        raise typer.BadParameter(_where(str(error), stated)) from None
    outlooks = simulated(expectations, runs=runs, seed=seed)
    data = plan_data(
        found, expectations, proofs, outlooks, warnings(expectations, proofs, outlooks), runs=runs, seed=seed
    )
    if as_json:
        print_json(data)
    else:
        show(plan_lines(data))


def simulated(expectations: Expectations, *, runs: int, seed: int) -> list[Outlook]:
    """Every canary's outlook; a bar on standard error shows how far it is, in a terminal only."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from agentcanary.planning import cases, outlook

    asked = cases(expectations)
    generators = [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(len(asked))]
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        found = []
        task = progress.add_task("Simulating rollouts", total=len(asked))
        for case, rng in zip(asked, generators, strict=True):
            found.append(outlook(expectations, case, runs=runs, rng=rng))
            progress.advance(task)
    return found


def _where(message: str, stated: Mapping[str, float | None]) -> str:
    """The message with the place where the value was stated."""
    for name, option in _SHARES.items():
        if message.startswith(name):
            return f"{option}: {message}" if stated[name] is not None else f"traffic.stable.{message}"
    return message
