"""Colours and type of all charts, for light and for dark surfaces. Pure, standard library only.

Text has a contrast of at least 4.5 to its surface (WCAG 2.2, 1.4.3), marks at least 3 (1.4.11). No colour carries a
meaning alone: arms differ in their dashes, statuses in their signs and words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Its widths are those of Arial, which the renderer brings along: texts end where they were measured to end.
FONT = "Arial, Liberation Sans, Helvetica, sans-serif"


class Theme(StrEnum):
    """The surface on which a chart is shown."""

    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of one theme.

    Attributes:
        surface: Behind everything.
        ink: Titles and labels.
        faint: Axis labels and what is said besides.
        line: Grid and axes.
        stable: The stable arm.
        canary: The canary arm.
        harm: Evidence of harm, and the side of a boundary that is not acceptable.
        safe: Evidence of safety.
        status: Colour of each status of a check, by its name.
    """

    surface: str
    ink: str
    faint: str
    line: str
    stable: str
    canary: str
    harm: str
    safe: str
    status: Mapping[str, str]


_PALETTES = {
    Theme.LIGHT: Palette(
        surface="#ffffff",
        ink="#1c2430",
        faint="#5a6675",
        line="#dfe4ea",
        stable="#2f6db3",
        canary="#a65a06",
        harm="#b3321f",
        safe="#0f7a5c",
        status={
            "harmed": "#b3321f",
            "suspect": "#8a5a00",
            "safe": "#0f7a5c",
            "undecided": "#46566b",
            "no_data": "#6b6478",
        },
    ),
    Theme.DARK: Palette(
        surface="#151a21",
        ink="#e8edf3",
        faint="#9aa7b6",
        line="#2d3642",
        stable="#6ea8ee",
        canary="#f0a33f",
        harm="#f2816d",
        safe="#4cc9a0",
        status={
            "harmed": "#f2816d",
            "suspect": "#e5b54a",
            "safe": "#4cc9a0",
            "undecided": "#a9b8ca",
            "no_data": "#b3aac4",
        },
    ),
}


def palette(theme: Theme | str) -> Palette:
    """The colours of a theme.

    Args:
        theme: ``light`` or ``dark``.

    Raises:
        ValueError: If there is no such theme.

    >>> palette("light").surface, palette("dark").surface
    ('#ffffff', '#151a21')
    """
    try:
        return _PALETTES[Theme(theme)]
    except ValueError:
        raise ValueError(f"a chart's theme is light or dark, got {theme!r}") from None


def css_variables(theme: Theme | str) -> str:
    """The colours of a theme as CSS declarations, for a page that shows ``to_svg(chart, variables=True)``.

    >>> css_variables("light").splitlines()[0]
    '--chart-surface: #ffffff;'
    """
    return "\n".join(f"{variable}: {colour};" for variable, colour in _named(palette(theme)).items())


def variable_of() -> dict[str, str]:
    """The CSS variable of every colour of every theme, by its hexadecimal code.

    >>> variable_of()["#1c2430"], variable_of()["#e8edf3"]
    ('--chart-ink', '--chart-ink')
    """
    return {
        # The first name wins where two roles share a colour, which they do in all themes or in none.
        colour: variable
        for theme in Theme
        for variable, colour in reversed(_named(palette(theme)).items())
    }


def _named(colours: Palette) -> dict[str, str]:
    roles = ("surface", "ink", "faint", "line", "stable", "canary", "harm", "safe")
    named = {f"--chart-{role}": str(getattr(colours, role)) for role in roles}
    return named | {f"--chart-{status.replace('_', '-')}": colour for status, colour in colours.status.items()}


def vega_config(colours: Palette) -> dict[str, Any]:
    """The Vega-Lite configuration that every chart shares.

    >>> vega_config(palette("dark"))["background"]
    '#151a21'
    """
    return {
        "background": colours.surface,
        "font": FONT,
        "padding": 8,
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "color": colours.ink,
            "fontSize": 14,
            "fontWeight": 600,
            "offset": 12,
            "frame": "bounds",
            "subtitleColor": colours.faint,
            "subtitleFontSize": 12,
            "subtitlePadding": 5,
        },
        "axis": {
            "domain": False,
            "ticks": False,
            "gridColor": colours.line,
            "labelColor": colours.faint,
            "labelFontSize": 11,
            "labelPadding": 6,
            "titleColor": colours.faint,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "text": {"color": colours.ink, "fontSize": 12},
        "legend": {"labelColor": colours.ink, "labelFontSize": 12, "titleColor": colours.faint, "orient": "top"},
    }
