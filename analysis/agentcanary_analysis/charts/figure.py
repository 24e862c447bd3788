"""A chart for people: SVG and PNG without a network, and its text alternative."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import altair as alt
import vl_convert

from agentcanary_analysis.charts.theme import palette, variable_of, vega_config

_OPENING = re.compile(r"<svg\b[^>]*>")
# Roles inside the picture would be read out one mark at a time; the description says it in a sentence.
_INNER_ROLES = re.compile(r'\s(?:role|aria-roledescription|aria-label|aria-hidden)="[^"]*"')
_COLOUR = re.compile(r'="(#[0-9a-f]{6})"')
# The renderer knows several; this is the one that the charts are written in.
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
# Marks that only carry a tooltip: a picture has none.
_UNSEEN = re.compile(r'<path\b[^>]*\sopacity="0"[^>]*(?:/>|></path>)')


class Sheet:
    """The rows that the layers of one chart are drawn from, held by name: the chart has everything in it, once."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def over(self, rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
        """A chart without marks over these rows."""
        name = f"rows{len(self.rows)}"
        self.rows[name] = [dict(row) for row in rows]
        return alt.Chart(alt.NamedData(name=name))


class Drawing(alt.LayerChart):
    """A chart that notebooks show as SVG: Altair's own way loads its scripts from elsewhere."""

    def _repr_mimebundle_(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """As notebooks ask for it."""
        return {"text/plain": describe(self), "image/svg+xml": to_svg(self)}


def finished(
    sheet: Sheet,
    layers: Sequence[alt.Chart],
    *,
    theme: str,
    title: str,
    description: str,
    width: int,
    height: int,
    subtitle: str = "",
) -> alt.LayerChart:
    """A chart with its title, its size, its theme and its text alternative.

    Args:
        sheet: Their rows.
        layers: The marks, from the back to the front.
        theme: ``light`` or ``dark``.
        title: What it shows; empty for a page that says it in a heading.
        description: The same in words, for those who do not see it.
        width: Of the whole picture, in pixels.
        height: Of the marks, in pixels.
        subtitle: What one must know to read it.
    """
    if not 200 <= width <= 4000:
        raise ValueError(f"a chart is 200 to 4000 pixels wide, got {width}")
    return Drawing(
        layer=list(layers),
        datasets=sheet.rows,
        title=alt.TitleParams(title, subtitle=subtitle) if title else alt.Undefined,
        description=description,
        width=width,
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        config=vega_config(palette(theme)),
    )


def describe(chart: alt.LayerChart) -> str:
    """What a chart shows, in words: its text alternative.

    >>> from agentcanary_analysis.charts import Split, describe, sample_ratio
    >>> describe(sample_ratio([Split(weight=0.1, stable=900, canary=100)]))
    'Where 10 % was asked for, the canary has 10.0 % (100 of 1,000 conversations).'
    """
    return str(chart.description)


def to_svg(chart: alt.LayerChart, *, transparent: bool = False, variables: bool = False) -> str:
    """The chart as an SVG element, made without a network; it holds no script and no inline style.

    Args:
        chart: From this package.
        transparent: True leaves the surface to the page.
        variables: True leaves the colours to the page, as CSS variables: one drawing for light and dark pages. See
            ``css_variables``.
    """
    spec = _spec(chart)
    if transparent:
        spec["background"] = "transparent"
    svg = _UNSEEN.sub("", _INNER_ROLES.sub("", vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE)))
    if variables:
        names = variable_of()
        svg = _COLOUR.sub(lambda found: f'="var({names[found[1]]})"' if found[1] in names else found[0], svg)
    opening = _OPENING.search(svg)
    if opening is None:
        raise RuntimeError(f"vl-convert made no SVG but {svg[:80]!r}")
    described = escape(describe(chart), quote=True)
    first = opening[0].removesuffix(">") + f' role="img" aria-label="{described}">'
    return svg[: opening.start()] + first + svg[opening.end() :]


def image_source(chart: alt.LayerChart) -> str:
    """The drawing as the source of an image, all in one."""
    return f"data:image/svg+xml;base64,{base64.b64encode(to_svg(chart).encode()).decode()}"


def to_png(chart: alt.LayerChart, *, scale: float = 2.0) -> bytes:
    """The chart as a PNG picture, made without a network.

    Args:
        chart: From this package.
        scale: Pixels of the picture for each pixel of the chart.
    """
    return vl_convert.vegalite_to_png(_spec(chart), vl_version=_VEGA_LITE, scale=scale)


def _spec(chart: alt.LayerChart) -> dict[str, Any]:
    # Validated by the tests: here it would double the time.
    spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec


class Figure:
    """Several charts that a notebook shows beside each other, as SVG: nothing is loaded from anywhere.

    Args:
        charts: From this package.

    Attributes:
        charts: The Altair charts.
    """

    def __init__(self, *charts: alt.LayerChart) -> None:
        self.charts = charts

    def __repr__(self) -> str:
        return "\n".join(describe(chart) for chart in self.charts)

    def _repr_html_(self) -> str:
        """As notebooks ask for it: images, because inline SVG is dropped where a notebook is not trusted."""
        return "\n".join(
            f'<img src="{image_source(chart)}" alt="{escape(describe(chart), quote=True)}">' for chart in self.charts
        )
