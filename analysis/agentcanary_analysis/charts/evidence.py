"""Evidence over time: how far each look was from proving harm or safety."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from agentcanary_analysis.analysis_result import EvidencePoint, Scale
from agentcanary_analysis.charts.axes import counts, times
from agentcanary_analysis.charts.figure import Sheet, finished
from agentcanary_analysis.charts.theme import Palette, palette
from agentcanary_analysis.figures import e_value

_LN_10 = math.log(10)
_MOST_POINTS = 100
# Below a thousandth and above a hundred million nothing changes any more: those are drawn at the edge.
_LOWEST, _HIGHEST = -3.0, 8.0
_SIDES = ("harm", "safe")
_DASHES = {"harm": [5, 4], "safe": [1, 3]}


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
        ValueError: If there are no points, their numbers are not all of one kind, or none has evidence.
    """
    scale = _the_scale(points)
    timed = all(point.at is not None for point in points)
    rows = [row for point in _thinned(points) for row in _rows(point, scale, timed=timed)]
    if not rows:
        raise ValueError(f"evidence over time needs a look with evidence, got {len(points)} without")
    sheet = Sheet()
    return finished(
        sheet,
        _layers(sheet, rows, palette(theme), scale, timed=timed, one_boundary=_one_boundary(points)),
        theme=theme,
        title=f"Evidence over time: {name}" if title is None else title,
        subtitle=proof_lines(points) if title is None or title else "",
        description=_sentence(points[-1], scale, name, len(points)),
        width=width,
        height=200,
    )


def proof_lines(points: Sequence[EvidencePoint]) -> str:
    """Which line of the chart proves what: its caption."""
    if _one_boundary(points):
        return "Whatever reaches the dashed line is proven"
    return "Dashed: harm is proven there; dotted: safety"


def _layers(
    sheet: Sheet, rows: list[dict[str, Any]], colours: Palette, scale: Scale, *, timed: bool, one_boundary: bool
) -> list[alt.Chart]:
    x = (
        times("at", "Time of the look")
        if timed
        else alt.X("at:Q", scale=alt.Scale(zero=True, nice=False), axis=counts("Conversations counted, both arms"))
    )
    levels = [row[key] for row in rows for key in ("level", "boundary")]
    low, high = min([-0.5, *levels]), max([1.5, *levels])
    # Room for the names at the ends of the lines.
    room = (high - low) * 0.12
    domain = [low - room, high + room]
    axis = _evidence_axis(domain, scale)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=domain, nice=False), axis=axis)

    drawn_sides = [side for side in _SIDES if any(row["side"] == side for row in rows)]
    ends = [[row for row in rows if row["side"] == side][-1] for side in drawn_sides]
    above = max(ends, key=lambda row: float(row["level"]))
    colour = alt.Color("side:N", scale=alt.Scale(domain=_SIDES, range=[colours.harm, colours.safe]), legend=None)
    shape = alt.Shape("side:N", scale=alt.Scale(domain=_SIDES, range=["square", "circle"]), legend=None)
    tip = [
        alt.Tooltip("at:T", title="Look", format="%Y-%m-%d %H:%M")
        if timed
        else alt.Tooltip("at:Q", title="Conversations", format=","),
        alt.Tooltip("side:N", title="Question"),
        alt.Tooltip("written:N", title="Evidence"),
        alt.Tooltip("needed:N", title="Proven at"),
    ]
    base = sheet.over(rows).encode(x=x, color=colour)
    boundaries = [
        base.transform_filter(f"datum.side == '{side}'")
        .mark_line(strokeDash=_DASHES[side], strokeWidth=1.5)
        .encode(y=y("boundary"), color=alt.value(colours.ink) if one_boundary else colour)
        for side in (drawn_sides[:1] if one_boundary else drawn_sides)
    ]
    names = [
        sheet.over([end])
        .mark_text(
            align="right",
            dx=-7,
            # The upper line has its name above its end, the lower one below.
            dy=-10 if end is above else 13,
            fontWeight=600,
            stroke=colours.surface,
            strokeWidth=4,
            strokeOpacity=halo,
        )
        .encode(x=x, y=y("level"), color=colour, text="side:N")
        for end in ends
        # A name that lies over a line is read by the halo around it.
        for halo in (1.0, 0.0)
    ]
    return [
        *boundaries,
        base.mark_line(strokeWidth=2).encode(y=y("level")),
        base.mark_point(size=50, filled=True, opacity=0).encode(y=y("level"), tooltip=tip),
        sheet.over(ends)
        .mark_point(size=55, filled=True, opacity=1)
        .encode(x=x, y=y("level"), color=colour, shape=shape, tooltip=tip),
        *names,
    ]


def _evidence_axis(domain: Sequence[float], scale: Scale) -> alt.Axis:
    sign = {Scale.LOG_E: "", Scale.P_VALUE: "-"}[scale]
    what = {Scale.LOG_E: "e-value", Scale.P_VALUE: "p-value"}[scale]
    low, high = domain
    return alt.Axis(
        title=f"Evidence ({what}, logarithmic)",
        values=list(range(math.ceil(low), math.floor(high) + 1, 1 if high - low < 7 else 2)),
        labelExpr=f"abs(datum.value) <= 4 ? format(pow(10, {sign}datum.value), ',~r') : '1e' + ({sign}datum.value)",
    )


def _rows(point: EvidencePoint, scale: Scale, *, timed: bool) -> list[dict[str, Any]]:
    """One row for each question that the look answered."""
    at = point.at * 1000 if timed and point.at is not None else point.conversations
    return [
        {
            "at": at,
            "side": side,
            "level": _level(number, scale),
            "boundary": _level(boundary, scale),
            "written": _written(number, scale),
            "needed": _written(boundary, scale),
        }
        for side, number, boundary in _questions(point)
    ]


def _questions(point: EvidencePoint) -> list[tuple[str, float, float]]:
    asked = (("harm", point.harm, point.harm_boundary), ("safe", point.safe, point.safe_boundary))
    return [(side, number, boundary) for side, number, boundary in asked if number is not None]


def _one_boundary(points: Sequence[EvidencePoint]) -> bool:
    return all(point.harm_boundary == point.safe_boundary for point in points)


def _the_scale(points: Sequence[EvidencePoint]) -> Scale:
    if not points:
        raise ValueError("evidence over time needs one look at least, got none")
    scales = {point.scale for point in points}
    if len(scales) > 1:
        raise ValueError(f"the looks of one chart are all e-values or all p-values, got {sorted(scales)}")
    return scales.pop()


def _thinned(points: Sequence[EvidencePoint]) -> list[EvidencePoint]:
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[:-1:step], points[-1]]


def _level(number: float, scale: Scale) -> float:
    """Where it is drawn: the logarithm to base ten of an e-value, of one over a p-value."""
    if scale is Scale.P_VALUE:
        number = -math.log(number) if number > 0 else math.inf
    return min(max(number / _LN_10, _LOWEST), _HIGHEST)


def _written(number: float, scale: Scale) -> str:
    return e_value(number) if scale is Scale.LOG_E else f"{number:.3g}"


def _sentence(point: EvidencePoint, scale: Scale, name: str, looks: int) -> str:
    letter = {Scale.LOG_E: "E", Scale.P_VALUE: "p"}[scale]
    words = {"harm": "harm", "safe": "safety"}
    sides = [
        f"{words[side]} {letter} = {_written(number, scale)}, proven at {_written(boundary, scale)}"
        for side, number, boundary in _questions(point)
    ]
    return f"Evidence of {name} over {looks} looks, at the last of them: {'; '.join(sides) or 'none'}."
