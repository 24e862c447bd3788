"""The report of an analysis or of a rollout, in every format. What it says is the same in all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentcanary_analysis.analysis_result import AnalysisResult, CheckResult, EvidencePoint, Verdict, number
from agentcanary_analysis.report.course import Course
from agentcanary_analysis.report.markdown import markdown

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    from rich.console import Console, ConsoleOptions, RenderableType

    from agentcanary_analysis.charts import Figure


class Report:
    """A result, for people and for programs. Notebooks and ``rich`` show it as it is.

    Args:
        result: What was found.
        course: How the rollout went, if it was one.

    Attributes:
        result: What was found.
        course: How the rollout went, or None.
    """

    def __init__(self, result: AnalysisResult, course: Course | None = None) -> None:
        self.result = result
        self.course = course

    @property
    def verdict(self) -> Verdict:
        """``promote``, ``rollback`` or ``hold``."""
        return self.result.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, the weightiest first."""
        return self.result.reasons

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """What was found of each check, in the order in which they were asked."""
        return self.result.checks

    def __getitem__(self, check: str) -> CheckResult:
        """The check with this text, or the first of this metric.

        Raises:
            KeyError: If there is none.
        """
        for found in self.checks:
            if check in (found.check, found.metric.name):
                return found
        raise KeyError(f"{check!r}; the checks are {', '.join(found.check for found in self.checks) or 'none'}")

    def to_frame(self) -> pd.DataFrame:
        """One row a check; what does not exist is missing.

        Columns: ``check``, ``metric``, ``status``, ``reason``, ``stable``, ``canary`` (values), ``stable_n``,
        ``canary_n`` (conversations with a value), ``relative_change``, ``low``, ``high``, ``level`` (of its interval),
        ``boundary`` (the value on it), ``p_harm``, ``p_safe``, ``log_e_harm``, ``log_e_safe``, ``needs``.
        """
        import pandas as pd

        frame = pd.DataFrame([_row(check) for check in self.checks], columns=list(_COLUMNS))
        return frame.astype(_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``agentcanary analyze --json`` prints them, with the evidence over time of each check.

        The report of a rollout has ``rollout`` besides: its id, phase, weights and audit log.
        """
        data = self.result.to_dict()
        for described, check in zip(data["checks"], self.checks, strict=True):
            described["over_time"] = [_point(point) for point in check.over_time]
        return data if self.course is None else data | {"rollout": asdict(self.course)}

    def to_json(self) -> str:
        """``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, allow_nan=False)

    def to_markdown(self) -> str:
        """Markdown with tables, for a pull request or a chat."""
        return markdown(self.result, self.course)

    def to_html(self) -> str:
        """One HTML file with everything in it: it opens without a network and holds no script.

        Raises:
            ModuleNotFoundError: If the extra ``charts`` is not installed.
        """
        _need_charts("a report as HTML")
        from agentcanary_analysis.report.html import page

        return page(self.result, self.course)

    def plot(self, *, theme: str = "light", width: int = 640) -> alt.LayerChart:
        """The forest plot of all checks: an Altair chart, which notebooks show without loading anything.

        Args:
            theme: ``light`` or ``dark``.
            width: In pixels.

        Raises:
            ModuleNotFoundError: If the extra ``charts`` is not installed.
            ValueError: If nothing was checked.
        """
        _need_charts("a plot")
        from agentcanary_analysis.report.pictures import forest_picture

        picture = forest_picture(self.result, theme=theme, width=width)
        if picture is None:
            raise ValueError("nothing was checked, so there is nothing to plot")
        return picture.titled()

    def plots(self, *, theme: str = "light", width: int = 360) -> Figure:
        """The other charts of the report: evidence over time, latencies, the split.

        Args:
            theme: ``light`` or ``dark``.
            width: Of each, in pixels.

        Raises:
            ModuleNotFoundError: If the extra ``charts`` is not installed.
        """
        _need_charts("a plot")
        from agentcanary_analysis.charts import Figure
        from agentcanary_analysis.report.pictures import further_pictures

        pictures = further_pictures(self.result, self.course, theme=theme, width=width)
        return Figure(*(picture.titled() for picture in pictures))

    def __repr__(self) -> str:
        return f"<Report {self.verdict.value}: {self.result.stable} → {self.result.canary}, {len(self.checks)} checks>"

    def _repr_html_(self) -> str | None:
        """As notebooks ask for it."""
        try:
            _need_charts("a report in a notebook")
        except ModuleNotFoundError:
            return None  # the notebook takes the Markdown then
        from agentcanary_analysis.report.html import cell

        return cell(self.result, self.course)

    def _repr_markdown_(self) -> str:
        """As notebooks ask for it."""
        return self.to_markdown()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """As ``rich`` asks for it."""
        from agentcanary_analysis.report.terminal import terminal

        yield from terminal(self.result, self.course)


_COLUMNS = {
    "check": "str",
    "metric": "str",
    "status": "str",
    "reason": "str",
    "stable": "float64",
    "canary": "float64",
    "stable_n": "int64",
    "canary_n": "int64",
    "relative_change": "float64",
    "low": "float64",
    "high": "float64",
    "level": "float64",
    "boundary": "float64",
    "p_harm": "float64",
    "p_safe": "float64",
    "log_e_harm": "float64",
    "log_e_safe": "float64",
    "needs": "Int64",
}


def _point(point: EvidencePoint) -> dict[str, Any]:
    return {
        "at": point.at,
        "conversations": point.conversations,
        "scale": point.scale.value,
        "harm": number(point.harm),
        "safe": number(point.safe),
        "harm_boundary": number(point.harm_boundary),
        "safe_boundary": number(point.safe_boundary),
    }


def _row(check: CheckResult) -> dict[str, object]:
    interval, line, stable = check.interval, check.boundary, check.stable.value
    return {
        "check": check.check,
        "metric": check.metric.name,
        "status": check.status.value,
        "reason": check.reason,
        "stable": stable,
        "canary": check.canary.value,
        "stable_n": check.stable.observed,
        "canary_n": check.canary.observed,
        "relative_change": check.relative_change,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "level": None if interval is None else interval.level,
        "boundary": check.limit if line is None else None if stable is None else line.at(stable),
        "p_harm": None if check.test is None else check.test.p_value,
        "p_safe": check.p_safe,
        "log_e_harm": check.log_e_harm,
        "log_e_safe": check.log_e_safe,
        "needs": check.needs,
    }


def _need_charts(what: str) -> None:
    """Say which extra is missing instead of which module."""
    try:
        import altair  # noqa: F401 (only whether it is there)
        import vl_convert  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs {error.name}: pip install 'agentcanary[charts]' (Markdown and JSON need nothing)",
            name=error.name,
        ) from error
