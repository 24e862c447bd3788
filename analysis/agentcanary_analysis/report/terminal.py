"""A report in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentcanary_analysis.analysis_result import AnalysisResult, Verdict
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.report.course import Course
from agentcanary_analysis.report.words import (
    VERDICTS,
    always,
    headline,
    told,
    told_course,
    told_excluded,
    told_split,
)

_VERDICT_STYLES = {Verdict.PROMOTE: "bold green", Verdict.ROLLBACK: "bold red", Verdict.HOLD: "bold yellow"}
_STATUS_STYLES = {
    Status.HARMED: "bold red",
    Status.SUSPECT: "yellow",
    Status.SAFE: "green",
    Status.UNDECIDED: "cyan",
    Status.NO_DATA: "magenta",
}


def terminal(result: AnalysisResult, course: Course | None = None) -> Iterator[RenderableType]:
    """The report as things that a ``rich`` console prints, the verdict first.

    Args:
        result: What was found.
        course: How the rollout went, if it was one.
    """
    yield Text.assemble((headline(result, course), "bold"), f"   {result.method.value}, α = {result.alpha:g}")
    if course is not None:
        yield Text(told_course(course), style="dim")
    yield Text()
    yield Text.assemble((VERDICTS[result.verdict].upper(), _VERDICT_STYLES[result.verdict]), _colon(result.reasons))
    yield from (_indented(reason) for reason in result.reasons[1:])
    yield Text()
    rows = [told(check) for check in result.checks]
    if rows:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for name in ("check", "status", "change", "judged against"):
            table.add_column(name, no_wrap=name == "status", overflow="fold")
        for row in rows:
            status = Text(row.word, style=_STATUS_STYLES[row.status])
            table.add_row(Text(row.check), status, row.change, row.against)
        yield table
        yield Text()
    for row in rows:
        # What the verdict has said already is not said again.
        told_above = any(row.reason in reason for reason in result.reasons)
        yield Text.assemble((row.check, "bold"), f": {row.word if told_above or not row.reason else row.reason}")
        said = (f"stable {row.stable}   canary {row.canary}", always(row), *row.evidence, row.needs)
        yield from (_indented(line) for line in said if line)
        yield from (_indented(note, "dim") for note in row.notes)
    yield Text()
    yield Text.assemble(("Split", "bold"), f": {told_split(result.sample_ratio)}")
    yield Text.assemble(("Excluded", "bold"), f": {'; '.join(told_excluded(result)) or 'none'}")
    yield from (Text.assemble(("Note", "bold yellow"), f": {note}") for note in result.notes)


def _indented(line: str, style: str = "") -> Padding:
    return Padding(Text(line, style=style), (0, 0, 0, 2), expand=False)


def _colon(reasons: tuple[str, ...]) -> str:
    return f": {reasons[0]}" if reasons else ""
