"""A report as Markdown, for a pull request or a chat. Pure, standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agentcanary_analysis.analysis_result import AnalysisResult
from agentcanary_analysis.report.course import Course
from agentcanary_analysis.report.methods import methods
from agentcanary_analysis.report.words import (
    VERDICTS,
    always,
    headline,
    moment,
    told,
    told_budget,
    told_course,
    told_excluded,
    told_split,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!])")


def markdown(result: AnalysisResult, course: Course | None = None) -> str:
    """The report as Markdown, ending with a newline.

    Args:
        result: What was found.
        course: How the rollout went, if it was one.
    """
    return "\n".join(_lines(result, course)) + "\n"


def plain(text: str) -> str:
    r"""Text of which Markdown makes nothing: names of agents and versions are anybody's.

    >>> print(plain("a_b|<c>"))
    a\_b\|\<c\>
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _lines(result: AnalysisResult, course: Course | None) -> Iterator[str]:
    yield f"# {VERDICTS[result.verdict]}: {plain(headline(result, course))}"
    yield ""
    yield from (f"- {plain(reason)}" for reason in result.reasons)
    yield ""
    if course is not None:
        yield plain(told_course(course)) + "."
        yield ""
    rows = [told(check) for check in result.checks]
    if rows:
        yield from _table(
            ("Check", "Status", "Stable", "Canary", "Change", "Judged against"),
            [(row.check, row.word, row.stable, row.canary, row.change, row.against) for row in rows],
        )
        yield ""
    for row in rows:
        why = ": ".join(part for part in (row.word, row.reason) if part)
        yield f"- **{plain(row.check)}**: {plain(why)}"
        yield from (f"    - {plain(said)}" for said in (always(row), *row.evidence, row.needs, *row.notes) if said)
    yield ""
    yield "## Split and what was counted"
    yield ""
    yield plain(told_split(result.sample_ratio))
    yield ""
    excluded = told_excluded(result)
    yield "Excluded: " + (plain("; ".join(excluded)) if excluded else "none") + "."
    if len(result.epochs) > 1:
        yield ""
        yield from _table(
            ("Epoch", "Weight", "Stable", "Canary"),
            [(e.label or str(e.number), f"{e.weight:g}", f"{e.stable:,}", f"{e.canary:,}") for e in result.epochs],
        )
    if result.notes:
        yield ""
        yield "## Notes"
        yield ""
        yield from (f"- {plain(note)}" for note in result.notes)
    if course is not None and course.steps:
        yield ""
        yield "## Audit log"
        yield ""
        yield from _table(
            ("When", "Who", "What", "Why", "Then"),
            [(moment(s.at), s.actor, s.action, s.reason, s.after.replace("_", " ")) for s in course.steps],
        )
    yield ""
    yield "## Methods"
    yield ""
    yield told_budget(result)
    yield ""
    for method in methods(result):
        sources = f" Source: {'; '.join(method.sources)}." if method.sources else ""
        yield f"- **{method.name}**: {plain(method.says + sources)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows)
