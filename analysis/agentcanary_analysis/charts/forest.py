"""The forest plot: every check's relative change with its interval, against its own boundary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from agentcanary_analysis.charts.data import Compared
from agentcanary_analysis.charts.figure import Sheet, finished
from agentcanary_analysis.charts.theme import Palette, palette
from agentcanary_analysis.figures import change
from agentcanary_analysis.metrics import Direction

STATUS_WORDS = {
    "harmed": "× harmed",
    "suspect": "▲ suspect",
    "safe": "● safe",
    "undecided": "○ undecided",
    "no_data": "– no data",
}
_ROW = 64
_TRACK = 10
# Beyond these a change is drawn at the edge, with an arrow: +300 % and −90 % say all that a picture can.
_MOST, _LEAST = 3.0, -0.9
_TICKS = (-0.9, -0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
_NEAR = 0.1  # changes smaller than about this are drawn to scale, larger ones by their logarithm


def forest(
    checks: Sequence[Compared], *, theme: str = "light", width: int = 360, title: str = "Relative change"
) -> alt.LayerChart:
    """Relative change of every check with its interval and its boundary.

    Args:
        checks: From the top down.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels; 340 and more.
        title: Empty where the page says it.

    Raises:
        ValueError: If there are no checks.
    """
    if not checks:
        raise ValueError("a forest plot needs one check at least, got none")
    colours, rows = palette(theme), [_row(number, check) for number, check in enumerate(checks)]
    low, high = _domain(checks)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    for row in rows:
        _clip(row, low, high)
    sheet = Sheet()
    base = sheet.over(rows)
    axis = alt.Axis(
        values=ticks,
        labelExpr="(datum.value > 0 ? '+' : datum.value < 0 ? '−' : '') + format(abs(datum.value) * 100, '.0f') + ' %'",
        labelOverlap=True,
        title=_axis_title(checks),
        grid=False,
    )
    scale = alt.Scale(type="symlog", constant=_NEAR, domain=[low, high], nice=False, zero=False)
    down = alt.Scale(domain=[len(rows), 0], nice=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=scale, axis=axis)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=down, axis=None)

    tip = [
        alt.Tooltip("name:N", title="Check"),
        alt.Tooltip("word:N", title="Status"),
        alt.Tooltip("figures:N", title="Change"),
        alt.Tooltip("margin_word:N", title="Boundary"),
        alt.Tooltip("arms:N", title="Stable → canary"),
    ]
    colour = alt.Color("status:N", scale=_status_scale(colours), legend=None)
    layers: list[alt.Chart] = [
        base.transform_filter("datum.bad_from != null")
        .mark_rect(color=colours.harm, opacity=0.13)
        .encode(
            x=x("bad_from"),
            x2="bad_to:Q",
            y=y("track_top"),
            y2="track_bottom:Q",
            tooltip=tip,
        ),
        sheet.over([{"at": tick, **_track(number)} for number in range(len(rows)) for tick in ticks])
        .mark_rule()
        .encode(
            x=x("at"),
            y=y("track_top"),
            y2="track_bottom",
            color=alt.condition("datum.at == 0", alt.value(colours.faint), alt.value(colours.line)),
        ),
        base.transform_filter("datum.margin != null")
        .mark_rule(color=colours.harm, strokeWidth=2)
        .encode(x=x("margin"), y=y("track_top"), y2="track_bottom:Q", tooltip=tip),
        base.transform_filter("datum.shown_low != null")
        .mark_rule(strokeWidth=3, strokeCap="round")
        .encode(x=x("shown_low"), x2="shown_high:Q", y=y("middle"), color=colour, tooltip=tip),
        base.transform_filter("datum.cut_low")
        .mark_point(shape="triangle-left", size=60, filled=True, opacity=1)
        .encode(x=x("shown_low"), y=y("middle"), color=colour),
        base.transform_filter("datum.cut_high")
        .mark_point(shape="triangle-right", size=60, filled=True, opacity=1)
        .encode(x=x("shown_high"), y=y("middle"), color=colour),
        base.transform_filter("datum.shown != null")
        .mark_point(size=90, filled=True, opacity=1, stroke=colours.surface, strokeWidth=1.5)
        .encode(x=x("shown"), y=y("middle"), color=colour, tooltip=tip),
        base.mark_text(align="left", baseline="bottom", dy=-13, fontWeight=600, limit=width - 120).encode(
            x=alt.value(0), y=y("middle"), text="name:N", tooltip=tip
        ),
        base.mark_text(align="right", baseline="bottom", dy=-13, fontWeight=600).encode(
            x=alt.value("width"), y=y("middle"), text="word:N", color=colour
        ),
        base.mark_text(align="left", baseline="top", dy=13, fontSize=11, color=colours.faint, limit=width - 30).encode(
            x=alt.value(0), y=y("middle"), text="said:N", tooltip=tip
        ),
    ]
    return finished(
        sheet,
        layers,
        theme=theme,
        title=title,
        subtitle="The shaded side of each line is beyond its boundary" if title else "",
        description=" ".join(_sentence(check) for check in checks),
        width=width,
        height=_ROW * len(rows),
    )


def _row(number: int, check: Compared) -> dict[str, Any]:
    said = "  ·  ".join(
        part for part in (check.arms, check.figures if check.change is not None else check.reason) if part
    )
    return {
        "name": check.name,
        "status": check.status.value,
        "word": STATUS_WORDS[check.status.value],
        **_track(number),
        "change": check.change,
        "low": check.low,
        "high": check.high,
        "margin": check.margin,
        "up_is_worse": check.direction is Direction.UP_IS_WORSE,
        "figures": check.figures,
        "margin_word": change(check.margin),
        "arms": check.arms,
        "said": said,
    }


def _track(number: int) -> dict[str, float]:
    middle, half = number + 0.5, _TRACK / _ROW
    return {"middle": middle, "track_top": middle - half, "track_bottom": middle + half}


def _axis_title(checks: Sequence[Compared]) -> str:
    levels = {check.level for check in checks if check.level is not None}
    intervals = f", {levels.pop() * 100:g} % intervals" if len(levels) == 1 else ""
    return f"Canary against stable{intervals}"


def _domain(checks: Sequence[Compared]) -> tuple[float, float]:
    """From the smallest to the largest change shown, a little wider, and zero always among them."""
    numbers = [n for check in checks for n in (check.change, check.low, check.high, check.margin) if n is not None]
    inside = [min(max(number, _LEAST), _MOST) for number in numbers]
    low, high = min(inside, default=0.0), max(inside, default=0.0)
    return max(min(low * 1.25, -_NEAR), -0.98), max(high * 1.25, 2 * _NEAR)


def _clip(row: dict[str, Any], low: float, high: float) -> None:
    """Where each mark of a row is drawn: what lies outside is drawn at the edge, and marked as cut."""

    def inside(number: float | None) -> float | None:
        return None if number is None else min(max(number, low), high)

    row["shown"], row["shown_low"], row["shown_high"] = inside(row["change"]), inside(row["low"]), inside(row["high"])
    row["cut_low"] = row["low"] is not None and row["low"] < low
    row["cut_high"] = row["high"] is not None and row["high"] > high
    margin = inside(row["margin"])
    row["margin"], row["bad_from"] = margin, margin
    row["bad_to"] = None if margin is None else high if row.pop("up_is_worse") else low
    for name in ("change", "low", "high"):
        # JSON knows no infinity, and nothing draws these.
        if row[name] is not None and math.isinf(row[name]):
            row[name] = None


def _status_scale(colours: Palette) -> alt.Scale:
    return alt.Scale(domain=list(colours.status), range=list(colours.status.values()))


def _sentence(check: Compared) -> str:
    arms = f" ({check.arms.replace(' → ', ' to ')})" if check.arms else ""
    boundary = "" if check.margin is None else f", boundary {change(check.margin)}"
    why = f", {check.reason}" if check.reason else ""
    moved = f"change {check.figures}{boundary}" if check.change is not None else "no change can be given"
    return f"{check.name}: {check.status.value.replace('_', ' ')}{why}; {moved}{arms}."
