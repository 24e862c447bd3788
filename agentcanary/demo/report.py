"""What the demo prints before and while it runs, and where to look afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from shutil import which
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from agentcanary.demo.figures import columns
from agentcanary.demo.scenarios import CANARY, STABLE, Scenario
from agentcanary.demo.story import Event
from agentcanary.demo.summary import Summary
from agentcanary.demo.timing import SPEED, since

STYLES = {"good": "green", "bad": "bold red", "": ""}
_WIDTH = 80


def paragraph(console: Console, text: str, *, indent: int = 0) -> None:
    """A text in lines of at most 80 characters, fewer in a narrower terminal."""
    blanks = " " * indent
    for line in wrap(text, min(console.width, _WIDTH), initial_indent=blanks, subsequent_indent=blanks):
        console.print(Text(line), soft_wrap=True)


def lines(console: Console, found: Iterable[str], *, indent: int = 2) -> None:
    """Lines as they are."""
    for line in found:
        console.print(Text(" " * indent + line), soft_wrap=True)


def introduce(console: Console, scenarios: Sequence[Scenario], pipeline: str) -> None:
    """What is going to be shown, and how real it is.

    Args:
        console: Where to.
        scenarios: The rollouts.
        pipeline: Path of a configuration.
    """
    console.print(Text("agentcanary demo", style="bold"), f"· {len(scenarios)} rollouts at once, a bit over a minute")
    console.print()
    paragraph(
        console,
        "What is real: a FastAPI agent under uvicorn with two worker processes, one SQLite file, and conversations "
        "over HTTP on this machine, some of them streamed. What is not: the language model is a deterministic "
        "stand-in, and so are its users, who arrive as on a working day from 8:00.",
    )
    console.print()
    paragraph(
        console,
        f"The clock of the rollouts runs {SPEED:.0f} times as fast: one second of yours is six minutes of theirs. "
        f"The engine, its thresholds and its error rates are the usual ones.",
    )
    console.print()
    paragraph(console, f"{STABLE} serves everybody today; 12 % of its conversations meet an error. {CANARY} is new:")
    rows = [["rollout", f"its {CANARY}", "must be"], *([one.name, one.about, one.promise.value] for one in scenarios)]
    lines(console, columns(rows, left=(0, 1, 2)))
    console.print()
    paragraph(
        console,
        f"Each gives {CANARY} 15 %, 30 %, 50 % and at last all of the new conversations. It is rolled back when "
        f"errors are proven to be up by more than 10 %, solved tasks down by more than 5 % or p95 latency up by more "
        f"than 50 %, and at one safety violation; before it gets everybody, the opposite must be proven. All of that "
        f"is in {pipeline}",
    )
    console.print()


def show_event(console: Console, event: Event, clock: float, real: float) -> None:
    """A line of the timeline.

    Args:
        console: Where to.
        event: What happened.
        clock: Seconds on the accelerated clock since the first rollout began.
        real: Real seconds since then.
    """
    begins = f"{since(clock)} ({real:4.1f} s)  {event.scenario:<6}  "
    room = max(min(console.width, _WIDTH) - len(begins), 20)
    for number, line in enumerate(wrap(event.text, room)):
        before = begins if number == 0 else " " * len(begins)
        console.print(Text(before).append(line, STYLES[event.style]), soft_wrap=True)


def look_next(console: Console, summary: Summary) -> None:
    """Where to look next."""
    console.print(Text("\nWhere to look next", style="bold"))
    first = summary.results[0].scenario.name
    rows = [
        [f"agentcanary status --config {first}.yaml", "all that is known"],
        [f"agentcanary rollouts --config {first}.yaml", "every rollout"],
    ]
    if summary.violated:
        rows.append([f"agentcanary explain {summary.violated} --config unsafe.yaml", "one conversation"])
    rows += [
        [f"less {first}.yaml", "the pipeline"],
        ["less turns.jsonl", "what users saw"],
        ["agentcanary init", "for your own agent"],
    ]
    first_of_all = [f"cd {summary.folder}"]
    beside = Path(sys.executable).parent
    if which("agentcanary") is None and (beside / "agentcanary").exists():
        first_of_all.append(f"PATH={beside}:$PATH")
    lines(console, [*first_of_all, *columns(rows, left=(0, 1))])
    console.print("The folder stays until you delete it.")
