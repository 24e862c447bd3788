"""A calibration's charts, by the definitions that reports and notebooks share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agentcanary.calibration.result import meaning
from agentcanary_analysis.metrics import Kind

if TYPE_CHECKING:
    import altair as alt

    from agentcanary.calibration.findings import MetricFindings
    from agentcanary.calibration.result import Calibration
    from agentcanary_analysis.charts import ProfilePoint
    from agentcanary_analysis.variance import Rhythm

PICTURES = ("detection", "hours", "weekdays")
_NORMAL = 1.96


def picture(calibration: Calibration, view: str, *, metric: str | None, theme: str) -> alt.LayerChart:
    """A chart of a calibration; see ``Calibration.plot``."""
    from agentcanary_analysis.charts import Detected, by_hour, by_weekday, detection_curve

    if view not in PICTURES:
        raise ValueError(f"there is no chart {view!r}; charts are {', '.join(PICTURES)}")
    judged = [one for one in calibration.metrics if one.limit is not None]
    found = calibration.metric(metric) if metric is not None else judged[0]
    if view == "detection":
        points = [
            Detected(
                ratio=one.ratio,
                share=one.rolled_back.share,
                low=one.rolled_back.low,
                high=one.rolled_back.high,
                replays=one.rolled_back.replays,
            )
            for one in (calibration.detection[0], *found.detection)
        ]
        return detection_curve(points, name=found.metric.name, theme=theme)
    rhythm = found.hours if view == "hours" else found.weekdays
    if rhythm is None:
        raise ValueError(f"the history is too short for {found.metric.name} by {view}")
    draw = by_hour if view == "hours" else by_weekday
    kind = Kind.PROPORTION if found.metric.kind is Kind.QUANTILE else found.metric.kind
    return draw(_points(found, rhythm), name=meaning(found), kind=kind, theme=theme)


def _points(found: MetricFindings, rhythm: Rhythm) -> list[ProfilePoint]:
    from agentcanary_analysis.charts import ProfilePoint

    shares = found.metric.kind in (Kind.PROPORTION, Kind.QUANTILE)
    points = []
    for slot, (value, units) in enumerate(zip(rhythm.values.tolist(), rhythm.units.tolist(), strict=True)):
        reach = _NORMAL * math.sqrt(rhythm.mean * (1 - rhythm.mean) / units) if shares and units else None
        points.append(
            ProfilePoint(
                slot=slot,
                value=value if units else None,
                low=None if reach is None else max(value - reach, 0.0),
                high=None if reach is None else min(value + reach, 1.0),
                conversations=int(units),
            )
        )
    return points
