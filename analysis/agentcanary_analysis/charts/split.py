"""The split of the conversations, and the weight over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import altair as alt

from agentcanary_analysis.charts.axes import shares, times
from agentcanary_analysis.charts.data import Split
from agentcanary_analysis.charts.figure import Sheet, finished
from agentcanary_analysis.charts.theme import palette
from agentcanary_analysis.figures import count
from agentcanary_analysis.proportion_intervals import wilson_interval
from agentcanary_analysis.proportions import Proportion

_ROW = 56
_LEVEL = 0.999  # as rare as the alarm: a split that is in order stays inside


def sample_ratio(
    splits: Sequence[Split], *, theme: str = "light", width: int = 360, title: str = "Is the split what was asked for"
) -> alt.LayerChart:
    """The canary's share of the conversations against the share asked for, one row a weight.

    Args:
        splits: One a weight; those without conversations are left out.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Empty where the page says it.

    Raises:
        ValueError: If no split has a conversation.
    """
    some = [split for split in splits if split.stable + split.canary]
    if not some:
        raise ValueError("a split needs one conversation at least, got none")
    colours = palette(theme)
    rows: list[dict[str, Any]] = []
    sentences = []
    for number, split in enumerate(some):
        total = split.stable + split.canary
        low, high = wilson_interval(Proportion(split.canary, total), confidence=_LEVEL)
        share = split.canary / total
        numbers = f"{share * 100:.1f} % ({count(split.canary)} of {count(total)}"
        sentences.append(f"Where {split.weight * 100:g} % was asked for, the canary has {numbers} conversations).")
        rows.append(
            {
                "middle": number + 0.5,
                "top": number + 0.3,
                "bottom": number + 0.7,
                "weight": split.weight,
                "share": share,
                "low": low,
                "high": high,
                "name": f"asked for {split.weight * 100:g} %",
                "said": f"{numbers})",
            }
        )
    most = min(max(max(row["high"], row["weight"]) for row in rows) * 1.2, 1.0)
    down = alt.Scale(domain=[len(rows), 0], nice=False)
    axis = shares("Share of the canary, 99.9 % intervals")

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, most], nice=False), axis=axis)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=down, axis=None)

    tip = [
        alt.Tooltip("weight:Q", title="Asked for", format=".1%"),
        alt.Tooltip("share:Q", title="Canary", format=".2%"),
        alt.Tooltip("said:N", title="Conversations"),
    ]
    sheet = Sheet()
    base = sheet.over(rows)
    layers: list[alt.Chart] = [
        base.mark_rule(strokeWidth=3, strokeCap="round", color=colours.canary).encode(
            x=x("low"), x2="high", y=y("middle"), tooltip=tip
        ),
        base.mark_rule(strokeWidth=2, color=colours.ink).encode(x=x("weight"), y=y("top"), y2="bottom", tooltip=tip),
        base.mark_point(size=80, filled=True, opacity=1, color=colours.canary, stroke=colours.surface).encode(
            x=x("share"), y=y("middle"), tooltip=tip
        ),
        base.mark_text(align="left", baseline="bottom", dy=-12, fontWeight=600).encode(
            x=alt.value(0), y=y("middle"), text="name:N"
        ),
        base.mark_text(align="right", baseline="bottom", dy=-12, color=colours.faint).encode(
            x=alt.value("width"), y=y("middle"), text="said:N"
        ),
    ]
    return finished(
        sheet,
        layers,
        theme=theme,
        title=title,
        description=" ".join(sentences),
        width=width,
        height=_ROW * len(rows),
    )


def weight_over_time(
    steps: Sequence[tuple[float, float]],
    *,
    until: float,
    theme: str = "light",
    width: int = 360,
    title: str = "Weight over time",
) -> alt.LayerChart:
    """The canary's share of new conversations as the rollout went.

    Args:
        steps: Unix time in seconds and the weight from then on, the oldest first.
        until: Unix time in seconds at which the picture ends.
        theme: ``light`` or ``dark``.
        width: Of the picture, in pixels.
        title: Empty where the page says it.

    Raises:
        ValueError: If there are no steps, they are not in order, or a weight is no share.
    """
    if not steps:
        raise ValueError("a weight over time needs one step at least, got none")
    if any(later < earlier for (earlier, _), (later, _) in pairwise([*steps, (until, 0.0)])):
        raise ValueError(f"steps come in the order of their times and end before until={until}, got {list(steps)}")
    for _, weight in steps:
        if not 0 <= weight <= 1:
            raise ValueError(f"a weight is a share in [0, 1], got {weight} (write 0.05 for 5 %)")
    colours = palette(theme)
    rows = [{"at": at * 1000, "weight": weight} for at, weight in [*steps, (until, steps[-1][1])]]
    x = times("at", "Time")
    y = alt.Y(
        "weight:Q",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=shares("Weight of the canary", values=[0, 0.25, 0.5, 0.75, 1]),
    )
    tip = [
        alt.Tooltip("at:T", title="From", format="%Y-%m-%d %H:%M"),
        alt.Tooltip("weight:Q", title="Weight", format=".1%"),
    ]
    sheet = Sheet()
    base = sheet.over(rows).encode(x=x, y=y)
    begun = sheet.over(rows[:-1]).encode(x=x, y=y, tooltip=tip)
    layers: list[alt.Chart] = [
        base.mark_area(interpolate="step-after", color=colours.canary, opacity=0.18),
        base.mark_line(interpolate="step-after", color=colours.canary, strokeWidth=2),
        begun.mark_point(size=45, filled=True, opacity=1, color=colours.canary),
    ]
    ladder = ", then ".join(f"{weight * 100:g} %" for _, weight in steps)
    return finished(
        sheet,
        layers,
        theme=theme,
        title=title,
        description=f"Weight of the canary: {ladder}.",
        width=width,
        height=150,
    )
