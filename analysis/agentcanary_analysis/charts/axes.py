"""Axes that are written alike in all charts: shares, times, numbers of conversations."""

from __future__ import annotations

from typing import Any

import altair as alt

_SHARES = "format(datum.value * 100, '~r') + ' %'"
_CLOCK = (
    "utchours(datum.value) == 0 && utcminutes(datum.value) == 0"
    " ? utcFormat(datum.value, '%b %-d') : utcFormat(datum.value, '%H:%M')"
)
_COUNTS = "datum.value >= 1e6 ? format(datum.value / 1e6, '~r') + ' M' : format(datum.value, ',~r')"


def shares(title: str, **more: Any) -> alt.Axis:
    """An axis of shares in percent."""
    return alt.Axis(title=title, labelExpr=_SHARES, **{"tickCount": 5, **more})


def counts(title: str) -> alt.Axis:
    """An axis of numbers of conversations."""
    return alt.Axis(title=title, labelExpr=_COUNTS, grid=False, tickCount=5)


def times(field: str, title: str) -> alt.X:
    """An x axis of times in UTC, from milliseconds since 1970."""
    axis = alt.Axis(title=f"{title} (UTC)", labelExpr=_CLOCK, grid=False, tickCount=5, labelOverlap=True)
    return alt.X(f"{field}:T", scale=alt.Scale(type="utc"), axis=axis)
