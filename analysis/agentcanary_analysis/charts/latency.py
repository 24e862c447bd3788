"""The distribution of a latency in both arms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import altair as alt

from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.charts.axes import shares
from agentcanary_analysis.charts.figure import Sheet, finished
from agentcanary_analysis.charts.theme import palette
from agentcanary_analysis.figures import count, value
from agentcanary_analysis.histogram import INFINITE_BIN, edge
from agentcanary_analysis.metrics import Kind
from agentcanary_analysis.quantiles import histogram_quantile

_COARSE = 7  # bins of 2 % drawn as one: steps of about 15 %
_TICKS = [mantissa * 10.0**power for power in range(-6, 7) for mantissa in (1, 3)]


def latency_distributions(
    histograms: Mapping[str, Mapping[int, int]],
    *,
    quantile: float = 0.95,
    unit: str = "s",
    theme: str = "light",
    width: int = 360,
    title: str = "Latency of the first turn",
) -> alt.LayerChart:
    """The share of conversations by latency, both arms over each other, with a quantile of each.

    Args:
        histograms: Per arm (``stable``, ``canary``) the conversations per bin, see ``histogram``.
        quantile: Marked in each arm.
        unit: Of the values.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Empty where the page says it.

    Raises:
        ValueError: If no arm has a conversation that ended.
    """
    colours = palette(theme)
    arms = {arm: {number: n for number, n in histograms.get(arm, {}).items() if n} for arm in (Arm.STABLE, Arm.CANARY)}
    ended = [number for bins in arms.values() for number in bins if number < INFINITE_BIN]
    if not ended:
        raise ValueError("a distribution needs one conversation that ended at least, got none")
    marks: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    first, last = min(ended) // _COARSE, max(ended) // _COARSE
    for arm, bins in arms.items():
        total = sum(bins.values())
        if not total:
            continue
        coarse = dict.fromkeys(range(first - 1, last + 2), 0)
        for number, n in bins.items():
            if number < INFINITE_BIN:
                coarse[number // _COARSE] += n
        rows += [
            {
                "arm": arm.value,
                # A bin ends at its edge, so a coarse one begins where the one before it ends.
                "at": edge(step * _COARSE - 1),
                "share": n / total,
                "written": f"{count(n)} of {count(total)}",
            }
            for step, n in coarse.items()
        ]
        at = histogram_quantile(bins, quantile)
        # Where a timeout is the quantile there is no place for it on the axis; the text says so.
        marks.append(
            {"arm": arm.value, "at": at if math.isfinite(at) else None, "written": value(at, Kind.QUANTILE, unit)}
        )
    top = max(row["share"] for row in rows)
    for place, mark in enumerate(marks):
        mark["height"], mark["label_at"] = top * 1.08, top * (1.32 - 0.13 * place)
        mark["label"] = f"{mark['arm']} p{quantile * 100:g} = {mark['written']}"
    ends = [edge((first - 1) * _COARSE), edge((last + 2) * _COARSE)]
    x_scale = alt.Scale(type="log", domain=ends, nice=False)
    ticks = [tick for tick in _TICKS if ends[0] <= tick <= ends[1]]
    axis = alt.Axis(
        title=f"Latency ({unit}, logarithmic)", values=ticks, labelExpr="format(datum.value, '~r')", grid=False
    )
    domain, colour_range = ["stable", "canary"], [colours.stable, colours.canary]
    colour = alt.Color("arm:N", scale=alt.Scale(domain=domain, range=colour_range), legend=None)
    dash = alt.StrokeDash("arm:N", scale=alt.Scale(domain=domain, range=[[1, 0], [5, 3]]), legend=None)

    def x(field: str = "at") -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=axis)

    def y(field: str) -> alt.Y:
        share = shares("Share of conversations", tickCount=4)
        return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, top * 1.4], nice=False), axis=share, stack=None)

    sheet = Sheet()
    base = sheet.over(rows).encode(x=x(), color=colour)
    quantiles = sheet.over(marks).encode(color=colour)
    tip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("at:Q", title=f"From ({unit})", format=".3g"),
        alt.Tooltip("share:Q", title="Share", format=".1%"),
        alt.Tooltip("written:N", title="Conversations"),
    ]
    layers: list[alt.Chart] = [
        base.mark_area(interpolate="step-after", opacity=0.16).encode(y=y("share")),
        base.mark_line(interpolate="step-after", strokeWidth=1.8).encode(y=y("share"), strokeDash=dash, tooltip=tip),
        quantiles.transform_filter("datum.at != null")
        .mark_rule(strokeWidth=1.8)
        .encode(x=x(), y=y("height"), strokeDash=dash),
        quantiles.mark_text(align="right", fontWeight=600).encode(
            x=alt.value("width"), y=y("label_at"), text="label:N"
        ),
    ]
    described = [f"{mark['arm']}: p{quantile * 100:g} of {mark['written']}" for mark in marks]
    never = {arm: bins.get(INFINITE_BIN, 0) for arm, bins in arms.items() if bins.get(INFINITE_BIN)}
    described += [f"{count(n)} of {arm} never ended" for arm, n in never.items()]
    return finished(
        sheet,
        layers,
        theme=theme,
        title=title,
        description=f"Latency. {'; '.join(described)}.",
        width=width,
        height=200,
    )
