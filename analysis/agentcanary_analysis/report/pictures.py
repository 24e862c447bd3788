"""The charts of a report, each with its heading and what one must know to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import altair as alt

from agentcanary_analysis.analysis_result import AnalysisResult, CheckResult, EvidencePoint
from agentcanary_analysis.charts import (
    Split,
    compared,
    evidence_over_time,
    forest,
    latency_distributions,
    sample_ratio,
    weight_over_time,
)
from agentcanary_analysis.charts.evidence import proof_lines
from agentcanary_analysis.figures import unit_of
from agentcanary_analysis.report.course import Course


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One chart of a report.

    Attributes:
        heading: What it shows.
        chart: The chart, without a title of its own.
        caption: What one must know to read it.
    """

    heading: str
    chart: alt.LayerChart
    caption: str

    def titled(self) -> alt.LayerChart:
        """The chart with heading and caption in it, for where no page says them."""
        limit = int(self.chart.width) - 16
        return self.chart.properties(title=alt.TitleParams(self.heading, subtitle=self.caption, limit=limit))


def forest_picture(result: AnalysisResult, *, theme: str, width: int = 360) -> Picture | None:
    """All checks against their boundaries; None where nothing was checked."""
    lines = [compared(check.to_dict() | {"unit": unit_of(check.metric)}) for check in result.checks]
    if not lines:
        return None
    return Picture(
        heading="Relative change",
        chart=forest(lines, theme=theme, width=width, title=""),
        caption="Canary against stable, with its interval. The shaded side is beyond the boundary of the check.",
    )


def further_pictures(
    result: AnalysisResult, course: Course | None, *, theme: str, width: int = 360
) -> Iterator[Picture]:
    """Evidence over time, latencies, the split and the weight, as far as there is anything to show."""
    for check in result.checks:
        points = _provable(check)
        if len(points) > 1:
            yield Picture(
                heading=f"Evidence over time: {check.check}",
                chart=evidence_over_time(points, name=check.check, theme=theme, width=width, title=""),
                caption=f"{proof_lines(points)}.",
            )
    shown = set()
    for check in result.checks:
        histograms = {"stable": check.stable_histogram, "canary": check.canary_histogram}
        if check.metric.quantile is None or check.metric.name in shown or not any(histograms.values()):
            continue
        shown.add(check.metric.name)
        yield Picture(
            heading=f"Distribution: {check.metric.name}",
            chart=latency_distributions(
                histograms,
                quantile=check.metric.quantile,
                unit=unit_of(check.metric),
                theme=theme,
                width=width,
                title="",
            ),
            caption="Share of conversations; stable drawn through, canary dashed.",
        )
    splits = _splits(result)
    if splits:
        yield Picture(
            heading="Is the split what was asked for",
            chart=sample_ratio(splits, theme=theme, width=width, title=""),
            caption="The upright line is what was asked for.",
        )
    if course is not None and course.weights:
        yield Picture(
            heading="Weight over time",
            chart=weight_over_time(course.weights, until=course.until, theme=theme, width=width, title=""),
            caption="Share of new conversations that the canary was to get.",
        )


def _provable(check: CheckResult) -> list[EvidencePoint]:
    return [point for point in check.over_time if point.harm is not None or point.safe is not None]


def _splits(result: AnalysisResult) -> list[Split]:
    """Conversations by the weight that was asked for; epochs in which nobody could choose are no split."""
    designed = result.sample_ratio.designed or {}
    by_weight: dict[float, tuple[int, int]] = {}
    for epoch in result.epochs:
        weight = designed.get(epoch.number)
        if weight is not None and 0 < weight < 1:
            stable, canary = by_weight.get(weight, (0, 0))
            by_weight[weight] = stable + epoch.stable, canary + epoch.canary
    return [
        Split(weight=weight, stable=stable, canary=canary)
        for weight, (stable, canary) in sorted(by_weight.items())
        if stable + canary
    ]
