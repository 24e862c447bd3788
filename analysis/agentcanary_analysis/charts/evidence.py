"""Evidence over time: how far each look was from proving harm or safety."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from agentcanary_analysis.analysis_result import EvidencePoint, Scale
from agentcanary_analysis.charts.axes import counts, times
from agentcanary_analysis.charts.figure import drawn, finished
from agentcanary_analysis.charts.theme import palette
from agentcanary_analysis.figures import e_value

_LN_10 = math.log(10)
_MOST_POINTS = 100
# Below a thousandth and above a hundred million nothing changes any more: those are drawn at the edge.
_LOWEST, _HIGHEST = -3.0, 8.0
_MILLISECONDS = 1000.0


def evidence_over_time(
    points: Sequence[EvidencePoint], *, name: str, theme: str = "light", width: int = 360, title: str | None = None
) -> alt.LayerChart:
    """Evidence of harm and of safety at every look, with the boundaries that prove them.

    E-values prove something when they rise to the boundary, p-values of scheduled looks when they fall to it; the
    axis has the proof at the top either way. The x axis is time when all points have one, else conversations.

    Args:
        points: The oldest first; of many, evenly chosen ones are drawn, the last always.
        name: Of the check or the metric, for the title and the text alternative.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Instead of one made of the name; empty where the page says it.

    Raises:
        ValueError: If there are no points, or their numbers are not all of one kind.
    """
    scale = _the_scale(points)
    colours = palette(theme)
    timed = all(point.at is not None for point in points)
    shown = _thinned(points)
    level = _log10_e if scale is Scale.LOG_E else _minus_log10_p
    rows: list[dict[str, Any]] = []
    for point in shown:
        at = point.at * _MILLISECONDS if timed and point.at is not None else point.conversations
        for side, number, boundary in (
            ("harm", point.harm, point.harm_boundary),
            ("safe", point.safe, point.safe_boundary),
        ):
            if number is not None:
                rows.append(
                    {
                        "at": at,
                        "side": side,
                        "level": _inside(level(number)),
                        "boundary": _inside(level(boundary)),
                        "written": _written(scale, number),
                        "needed": _written(scale, boundary),
                        "conversations": point.conversations,
                    }
                )
    levels = [row[key] for row in rows for key in ("level", "boundary")]
    low, high = min([-0.5, *levels]) - 0.2, max([1.5, *levels]) + 0.3
    x = (
        times("at", "Time of the look")
        if timed
        else alt.X("at:Q", scale=alt.Scale(zero=True, nice=False), axis=counts("Conversations counted, both arms"))
    )
    what = "e-value" if scale is Scale.LOG_E else "p-value"
    sign = "" if scale is Scale.LOG_E else "-"
    y_axis = alt.Axis(
        title=f"Evidence ({what}, logarithmic)",
        values=list(range(math.ceil(low), math.floor(high) + 1, 1 if high - low < 7 else 2)),
        labelExpr=f"abs(datum.value) <= 4 ? format(pow(10, {sign}datum.value), ',~r') : '1e' + ({sign}datum.value)",
    )

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[low, high], nice=False), axis=y_axis)

    colour = alt.Color(
        "side:N", scale=alt.Scale(domain=["harm", "safe"], range=[colours.harm, colours.safe]), legend=None
    )
    tip = [
        alt.Tooltip("at:T", title="Look", format="%Y-%m-%d %H:%M")
        if timed
        else alt.Tooltip("at:Q", title="Conversations", format=","),
        alt.Tooltip("side:N", title="Question"),
        alt.Tooltip("written:N", title="Evidence"),
        alt.Tooltip("needed:N", title="Proven at"),
    ]
    base = drawn(rows).encode(x=x, color=colour)
    last = [
        max((row for row in rows if row["side"] == side), key=lambda row: row["at"], default=None)
        for side in ("harm", "safe")
    ]
    ends = drawn([row for row in last if row is not None]).encode(x=x, y=y("level"), color=colour)
    layers: list[alt.Chart] = [
        base.transform_filter("datum.side == 'harm'")
        .mark_line(strokeDash=[5, 4], strokeWidth=1.5)
        .encode(y=y("boundary")),
        base.transform_filter("datum.side == 'safe'")
        .mark_line(strokeDash=[1, 3], strokeWidth=2.5)
        .encode(y=y("boundary")),
        base.mark_line(strokeWidth=2, interpolate="linear").encode(y=y("level")),
        base.mark_point(size=50, filled=True, opacity=0).encode(y=y("level"), tooltip=tip),
        ends.mark_point(size=55, filled=True, opacity=1).encode(
            shape=alt.Shape(
                "side:N", scale=alt.Scale(domain=["harm", "safe"], range=["square", "circle"]), legend=None
            ),
            tooltip=tip,
        ),
        ends.mark_text(align="right", dx=-7, dy=-9, fontWeight=600).encode(text="side:N"),
    ]
    return finished(
        layers,
        theme=theme,
        title=f"Evidence over time: {name}" if title is None else title,
        subtitle="Dashed: harm is proven there; dotted: safety" if title is None or title else "",
        description=_sentence(points[-1], scale, name, len(points)),
        width=width,
        height=200,
    )


def _the_scale(points: Sequence[EvidencePoint]) -> Scale:
    scales = {point.scale for point in points}
    if not points:
        raise ValueError("evidence over time needs one look at least, got none")
    if len(scales) > 1:
        raise ValueError(f"the looks of one chart are all e-values or all p-values, got {sorted(scales)}")
    return scales.pop()


def _thinned(points: Sequence[EvidencePoint]) -> list[EvidencePoint]:
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[:-1:step], points[-1]]


def _log10_e(log_e: float) -> float:
    return log_e / _LN_10


def _minus_log10_p(p: float) -> float:
    return -math.log10(p) if p > 0 else _HIGHEST


def _inside(level: float) -> float:
    return min(max(level, _LOWEST), _HIGHEST)


def _written(scale: Scale, number: float) -> str:
    return e_value(number) if scale is Scale.LOG_E else f"{number:.3g}"


def _sentence(point: EvidencePoint, scale: Scale, name: str, looks: int) -> str:
    letter = "E" if scale is Scale.LOG_E else "p"
    sides = [
        f"{side} {letter} = {_written(scale, number)}, proven at {_written(scale, boundary)}"
        for side, number, boundary in (
            ("harm", point.harm, point.harm_boundary),
            ("safety", point.safe, point.safe_boundary),
        )
        if number is not None
    ]
    return f"Evidence of {name} over {looks} looks, at the last of them: {'; '.join(sides) or 'none'}."
