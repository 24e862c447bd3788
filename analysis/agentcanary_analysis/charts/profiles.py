"""What history looks like: by hour, by day of the week, and what harm a rollout would find in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from agentcanary_analysis.charts.axes import shares
from agentcanary_analysis.charts.data import Detected, ProfilePoint
from agentcanary_analysis.charts.figure import Sheet, finished
from agentcanary_analysis.charts.theme import palette
from agentcanary_analysis.figures import value
from agentcanary_analysis.metrics import Kind

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def by_hour(
    points: Sequence[ProfilePoint],
    *,
    name: str,
    kind: Kind = Kind.PROPORTION,
    unit: str = "",
    theme: str = "light",
    width: int = 360,
    title: str | None = None,
) -> alt.LayerChart:
    """A metric by the hour of the day, with its interval.

    Args:
        points: Slots 0..23, in UTC; those without a value leave a gap.
        name: Of the metric.
        kind: Of the metric: shares are written in percent.
        unit: Of values that are no share.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Instead of one made of the name; empty where the page says it.

    Raises:
        ValueError: If no point has a value, or a slot is outside its range.
    """
    rows = _slots(points, 24, [f"{hour:02d}:00" for hour in range(24)], kind, unit)
    x = alt.X(
        "slot:Q",
        scale=alt.Scale(domain=[0, 23], nice=False),
        axis=alt.Axis(
            title="Hour of the day (UTC)", values=[0, 6, 12, 18, 23], grid=False, labelExpr="format(datum.value, '02')"
        ),
    )
    colours = palette(theme)
    y = _values(rows, name, kind, unit)
    sheet = Sheet()
    base = sheet.over(rows).encode(x=x, tooltip=_tip())
    layers: list[alt.Chart] = [
        base.transform_filter("datum.low != null")
        .mark_area(color=colours.stable, opacity=0.18, interpolate="monotone")
        .encode(y=y("low"), y2="high:Q"),
        base.mark_line(color=colours.stable, strokeWidth=2, interpolate="monotone").encode(y=y("value")),
        base.mark_point(color=colours.stable, size=28, filled=True, opacity=1).encode(y=y("value")),
    ]
    return finished(
        sheet,
        layers,
        theme=theme,
        title=f"{name} by hour of the day" if title is None else title,
        description=_profile_sentence(rows, name),
        width=width,
        height=170,
    )


def by_weekday(
    points: Sequence[ProfilePoint],
    *,
    name: str,
    kind: Kind = Kind.PROPORTION,
    unit: str = "",
    theme: str = "light",
    width: int = 360,
    title: str | None = None,
) -> alt.LayerChart:
    """A metric by the day of the week, with its interval.

    Args:
        points: Slots 0 (Monday)..6, in UTC.
        name: Of the metric.
        kind: Of the metric: shares are written in percent.
        unit: Of values that are no share.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Instead of one made of the name; empty where the page says it.

    Raises:
        ValueError: If no point has a value, or a slot is outside its range.
    """
    rows = _slots(points, 7, DAYS, kind, unit)
    x = alt.X("slot_name:N", sort=list(DAYS), axis=alt.Axis(title="Day of the week (UTC)", labelAngle=0, grid=False))
    colours = palette(theme)
    y = _values(rows, name, kind, unit)
    sheet = Sheet()
    base = sheet.over(rows).encode(x=x, tooltip=_tip())
    layers: list[alt.Chart] = [
        base.transform_filter("datum.low != null")
        .mark_rule(color=colours.stable, strokeWidth=3, strokeCap="round", opacity=0.45)
        .encode(y=y("low"), y2="high:Q"),
        base.mark_point(color=colours.stable, size=70, filled=True, opacity=1).encode(y=y("value")),
    ]
    return finished(
        sheet,
        layers,
        theme=theme,
        title=f"{name} by day of the week" if title is None else title,
        description=_profile_sentence(rows, name),
        width=width,
        height=170,
    )


def detection_curve(
    points: Sequence[Detected],
    *,
    name: str,
    margin: float | None = None,
    wanted: float = 0.8,
    theme: str = "light",
    width: int = 360,
    title: str | None = None,
) -> alt.LayerChart:
    """How often a rollout takes back a canary that is worse, by how much worse it is.

    Args:
        points: In the order of their ratios.
        name: Of the metric that was made worse.
        margin: Relative change on the boundary, if there is one.
        wanted: The share of harmful canaries to find, drawn as a line.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Instead of one made of the name; empty where the page says it.

    Raises:
        ValueError: If there are no points.
    """
    if not points:
        raise ValueError("a detection curve needs one point at least, got none")
    colours = palette(theme)
    rows: list[dict[str, Any]] = [
        {
            "ratio": point.ratio,
            "share": point.share,
            "low": point.low,
            "high": point.high,
            "written": f"{point.share:.0%} ({point.low:.0%} to {point.high:.0%})",
            "replays": point.replays,
        }
        for point in sorted(points, key=lambda point: point.ratio)
    ]
    domain = [rows[0]["ratio"] - 0.03, rows[-1]["ratio"] + 0.03]
    x_axis = alt.Axis(
        title="The canary as a multiple of stable",
        labelExpr="'× ' + format(datum.value, '~r')",
        grid=False,
        tickCount=6,
    )

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=alt.Scale(domain=domain, nice=False), axis=x_axis)

    def y(field: str) -> alt.Y:
        axis = shares("Taken back", values=[0, 0.25, 0.5, 0.75, 1])
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=axis)

    tip = [
        alt.Tooltip("ratio:Q", title="Canary × stable", format=".3g"),
        alt.Tooltip("written:N", title="Taken back"),
        alt.Tooltip("replays:Q", title="Replays", format=","),
    ]
    sheet = Sheet()
    base = sheet.over(rows).encode(x=x("ratio"), tooltip=tip)
    layers: list[alt.Chart] = [
        base.mark_area(color=colours.harm, opacity=0.18).encode(y=y("low"), y2="high:Q"),
        sheet.over([{"wanted": wanted}]).mark_rule(color=colours.faint, strokeDash=[4, 4]).encode(y=y("wanted")),
        base.mark_line(color=colours.harm, strokeWidth=2).encode(y=y("share")),
        base.mark_point(color=colours.harm, size=50, filled=True, opacity=1).encode(y=y("share")),
    ]
    if margin is not None and domain[0] <= 1 + margin <= domain[1]:
        boundary = sheet.over([{"margin": 1 + margin, "name": "boundary"}]).encode(x=x("margin"))
        layers += [
            boundary.mark_rule(color=colours.ink, strokeDash=[1, 3], strokeWidth=2),
            boundary.mark_text(align="left", dx=4, dy=8, baseline="top", color=colours.faint).encode(
                y=alt.value(0), text="name:N"
            ),
        ]
    told = "; ".join(f"× {row['ratio']:g} {row['written']}" for row in rows)
    return finished(
        sheet,
        layers,
        theme=theme,
        title=f"Harm that would be found: {name}" if title is None else title,
        description=f"Share of replays taken back, by how much worse {name} is: {told}.",
        width=width,
        height=200,
    )


def _slots(
    points: Sequence[ProfilePoint], slots: int, names: Sequence[str], kind: Kind, unit: str
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: point.slot):
        if not 0 <= point.slot < slots:
            raise ValueError(f"a slot lies between 0 and {slots - 1}, got {point.slot}")
        interval = ""
        if point.low is not None and point.high is not None:
            interval = f" ({value(point.low, kind, unit)} to {value(point.high, kind, unit)})"
        rows.append(
            {
                "slot": point.slot,
                "slot_name": names[point.slot],
                "value": point.value,
                "low": point.low,
                "high": point.high,
                "written": value(point.value, kind, unit) + interval,
                "conversations": point.conversations,
            }
        )
    if all(row["value"] is None for row in rows):
        raise ValueError("a profile needs one value at least, got none")
    return rows


def _values(rows: Sequence[dict[str, Any]], name: str, kind: Kind, unit: str) -> Callable[[str], alt.Y]:
    """The y axis, for any field; it begins at zero only where the values do: a profile is about differences."""
    numbers = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    low, high = min(numbers), max(numbers)
    room = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    title = f"{name} ({unit})" if unit else name
    axis = shares(title, tickCount=4) if kind is Kind.PROPORTION else alt.Axis(title=title, tickCount=4)
    scale = alt.Scale(domain=[max(low - room, 0.0) if low >= 0 else low - room, high + room], nice=False)
    return lambda field: alt.Y(f"{field}:Q", scale=scale, axis=axis)


def _tip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("slot_name:N", title="When"),
        alt.Tooltip("written:N", title="Value"),
        alt.Tooltip("conversations:Q", title="Conversations", format=","),
    ]


def _profile_sentence(rows: Sequence[dict[str, Any]], name: str) -> str:
    known = [row for row in rows if row["value"] is not None]
    least, most = min(known, key=lambda row: row["value"]), max(known, key=lambda row: row["value"])
    return (
        f"{name}: lowest at {least['slot_name']} with {least['written']}, "
        f"highest at {most['slot_name']} with {most['written']}."
    )
