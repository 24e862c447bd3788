"""The charts of reports, notebooks and the dashboard: one Altair definition each, drawn without a network. Pure.

Each function takes plain values and ``theme`` (``light``, ``dark``), ``width`` in pixels and ``title``; ``to_svg`` and
``to_png`` draw what it gives, ``describe`` says it in words. Needs the extra ``charts``.
"""

from __future__ import annotations

from agentcanary_analysis.charts.data import Compared, Detected, ProfilePoint, Split, compared
from agentcanary_analysis.charts.evidence import evidence_over_time
from agentcanary_analysis.charts.figure import Figure, describe, image_source, to_png, to_svg
from agentcanary_analysis.charts.forest import forest
from agentcanary_analysis.charts.latency import latency_distributions
from agentcanary_analysis.charts.profiles import by_hour, by_weekday, detection_curve
from agentcanary_analysis.charts.split import sample_ratio, weight_over_time
from agentcanary_analysis.charts.theme import Palette, Theme, css_variables, palette

__all__ = [
    "Compared",
    "Detected",
    "Figure",
    "Palette",
    "ProfilePoint",
    "Split",
    "Theme",
    "by_hour",
    "by_weekday",
    "compared",
    "css_variables",
    "describe",
    "detection_curve",
    "evidence_over_time",
    "forest",
    "image_source",
    "latency_distributions",
    "palette",
    "sample_ratio",
    "to_png",
    "to_svg",
    "weight_over_time",
]
