"""A report as one HTML file that opens without a network, and as what a notebook shows."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from agentcanary_analysis.analysis_result import AnalysisResult
from agentcanary_analysis.charts import Theme, css_variables, describe, image_source, to_svg
from agentcanary_analysis.report.course import Course
from agentcanary_analysis.report.methods import methods
from agentcanary_analysis.report.pictures import Picture, forest_picture, further_pictures
from agentcanary_analysis.report.words import (
    STATUSES,
    VERDICTS,
    headline,
    moment,
    told,
    told_budget,
    told_course,
    told_excluded,
    told_split,
)

_WIDE = 640


def page(result: AnalysisResult, course: Course | None = None) -> str:
    """The whole report in one file: styles and charts are in it, scripts are not.

    Args:
        result: What was found.
        course: How the rollout went, if it was one.
    """
    return _rendered(
        "report.html.jinja",
        **_words(result, course),
        colours={theme.value: css_variables(theme) for theme in Theme},
        forest=_drawn(forest_picture(result, theme=Theme.LIGHT)),
        figures=[_drawn(picture) for picture in further_pictures(result, course, theme=Theme.LIGHT)],
    )


def cell(result: AnalysisResult, course: Course | None = None) -> str:
    """What a notebook shows: the verdict, its reasons, the checks and the forest plot.

    Notebooks drop styles and inline SVG where they do not trust; so the plot is an image that the cell holds itself.
    """
    picture = forest_picture(result, theme=Theme.LIGHT, width=_WIDE)
    image = None
    if picture is not None:
        image = {"source": image_source(picture.chart), "says": describe(picture.chart)}
    return _rendered("notebook.html.jinja", **_words(result, course), image=image)


def _words(result: AnalysisResult, course: Course | None) -> dict[str, Any]:
    return {
        "result": result,
        "course": course,
        "headline": headline(result, course),
        "verdict": VERDICTS[result.verdict],
        "statuses": STATUSES,
        "rows": [told(check) for check in result.checks],
        "split": told_split(result.sample_ratio),
        "excluded": told_excluded(result),
        "budget": told_budget(result),
        "methods": methods(result),
        "went": "" if course is None else told_course(course),
        "moment": moment,
    }


def _drawn(picture: Picture | None) -> dict[str, Any] | None:
    if picture is None:
        return None
    # The drawing escapes what it shows and holds no script: it may stand in the page as it is.
    svg = Markup(to_svg(picture.chart, transparent=True, variables=True))
    return {"heading": picture.heading, "caption": picture.caption, "svg": svg}


def _rendered(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("agentcanary_analysis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
