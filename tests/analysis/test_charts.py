"""Charts: valid, readable, safe to put into any page, and told in words too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import cache
from xml.etree import ElementTree

import altair as alt
import pytest

from agentcanary_analysis.analysis_result import EvidencePoint, Scale
from agentcanary_analysis.charts import (
    Compared,
    Detected,
    Figure,
    ProfilePoint,
    Split,
    Theme,
    by_hour,
    by_weekday,
    compared,
    css_variables,
    describe,
    detection_curve,
    evidence_over_time,
    forest,
    latency_distributions,
    palette,
    sample_ratio,
    to_png,
    to_svg,
    weight_over_time,
)
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.metrics import Direction, Kind

T0 = 1_790_000_000.0
NASTY = "v2</text><script>alert(1)</script>&\"'"
CHECKS = (
    Compared(name="errors", status=Status.HARMED, change=0.6, low=0.3, high=1.0, level=0.95, margin=0.2),
    Compared(
        name=NASTY,
        status=Status.SAFE,
        change=-0.004,
        low=-0.011,
        high=0.004,
        level=0.95,
        margin=-0.026,
        direction=Direction.DOWN_IS_WORSE,
        arms="85.1 % → 84.7 %",
    ),
    Compared(name="p95", status=Status.UNDECIDED, change=0.1, low=-0.12, high=math.inf, level=0.95, margin=0.3),
    Compared(name="safety", status=Status.NO_DATA, reason="nobody reported"),
)
LOOKS = [
    EvidencePoint(
        at=T0 + 600 * number,
        conversations=50 * number,
        scale=Scale.LOG_E,
        harm=0.02 * number,
        safe=-0.5 * number,
        harm_boundary=math.log(80),
        safe_boundary=math.log(20),
    )
    for number in range(1, 400)
]
SCHEDULED = [
    EvidencePoint(
        at=None,
        conversations=1000 * number,
        scale=Scale.P_VALUE,
        harm=harm,
        safe=None,
        harm_boundary=boundary,
        safe_boundary=boundary,
    )
    for number, (harm, boundary) in enumerate([(0.4, 0.001), (0.02, 0.01), (0.0, 0.03)], start=1)
]
ARMS = {
    "stable": {bin_of(0.2 * step): 100 - step for step in range(1, 60)},
    "canary": {bin_of(0.25 * step): 30 for step in range(1, 60)} | {INFINITE_BIN: 500},
}

CHARTS: dict[str, Callable[..., alt.LayerChart]] = {
    "forest": lambda **look: forest(CHECKS, **look),
    "evidence": lambda **look: evidence_over_time(LOOKS, name=NASTY, **look),
    "scheduled looks": lambda **look: evidence_over_time(SCHEDULED, name="errors", **look),
    "latency": lambda **look: latency_distributions(ARMS, **look),
    "split": lambda **look: sample_ratio(
        [Split(weight=0.05, stable=950, canary=50), Split(weight=0.5, stable=480, canary=520)], **look
    ),
    "weight": lambda **look: weight_over_time([(T0, 0.05), (T0 + 3600, 0.5)], until=T0 + 9000, **look),
    "hours": lambda **look: by_hour(
        [ProfilePoint(slot=hour, value=0.05, low=0.04, high=0.06, conversations=10) for hour in range(24)],
        name="error_rate",
        **look,
    ),
    "days": lambda **look: by_weekday(
        [ProfilePoint(slot=day, value=2.0 + day, conversations=10) for day in range(7)],
        name="p95_latency",
        kind=Kind.QUANTILE,
        unit="s",
        **look,
    ),
    "detection": lambda **look: detection_curve(
        [Detected(ratio=ratio, share=1 - 1 / ratio**3, low=0.0, high=1.0, replays=400) for ratio in (1.0, 1.5, 3.0)],
        name="error_rate",
        margin=0.2,
        **look,
    ),
}


@cache
def drawing(name: str) -> tuple[alt.LayerChart, str]:
    """A chart for a phone, and its drawing for a page that brings the colours."""
    chart = CHARTS[name](width=340)
    return chart, to_svg(chart, transparent=True, variables=True)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_valid_and_its_drawing_is_safe_in_any_page(name: str) -> None:
    chart, svg = drawing(name)
    chart.to_dict()  # validates against the schema of Vega-Lite
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == describe(chart)
    assert "<script" not in svg
    # Two drawings of one page share their ids, a strict content security policy forbids styles, and nothing is loaded.
    for forbidden in (" id=", " style=", "<style", "href=", "url(", "javascript:", "<image"):
        assert forbidden not in svg, forbidden
    assert set(re.findall(r"https?://[^\"]+", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize("name", CHARTS)
def test_a_page_gives_a_drawing_all_its_colours(name: str) -> None:
    _, svg = drawing(name)
    assert not re.findall(r'="#[0-9a-f]{3,8}"', svg)
    used = set(re.findall(r"var\((--chart-[a-z-]+)\)", svg))
    assert used
    for theme in Theme:
        assert used <= set(re.findall(r"--chart-[a-z-]+(?=:)", css_variables(theme)))


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_fits_a_phone_and_its_text_can_be_read_there(name: str) -> None:
    _, svg = drawing(name)
    assert float(ElementTree.fromstring(svg).get("width", "0")) <= 341
    sizes = re.findall(r'font-size="(\d+)px"', svg)
    assert sizes
    assert min(map(int, sizes)) >= 11


def test_the_two_themes_differ_in_colours_only() -> None:
    light, dark = (CHARTS["split"](theme=theme).to_dict(validate=False) for theme in Theme)
    assert light != dark

    def without_colours(chart: dict[str, object]) -> str:
        return re.sub(r"#[0-9a-f]{6}", "#", json.dumps(chart, sort_keys=True))

    assert without_colours(light) == without_colours(dark)


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", Theme)
def test_text_stands_out_from_its_surface(theme: Theme) -> None:
    colours = palette(theme)
    for name, colour in {
        "ink": colours.ink,
        "faint": colours.faint,
        "stable": colours.stable,
        "canary": colours.canary,
        "harm": colours.harm,
        "safe": colours.safe,
        **colours.status,
    }.items():
        # WCAG 2.2, success criterion 1.4.3 at level AA.
        assert _contrast(colour, colours.surface) >= 4.5, name


def test_a_theme_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="light or dark, got 'blue'"):
        palette("blue")


def test_the_forest_says_in_words_what_it_shows() -> None:
    words = describe(drawing("forest")[0])
    assert "errors: harmed; change +60 % (+30 % to +100 %), boundary +20 %" in words
    assert "p95: undecided; change +10 % (−12 % to without limit)" in words
    assert "safety: no data, nobody reported; no change can be given." in words


def test_what_lies_outside_the_forest_is_drawn_at_its_edge_and_marked() -> None:
    rows = drawing("forest")[0].datasets["rows0"]
    p95 = next(row for row in rows if row["name"] == "p95")
    assert p95["cut_high"] is True
    assert math.isfinite(p95["shown_high"])
    errors = next(row for row in rows if row["name"] == "errors")
    assert (errors["cut_low"], errors["cut_high"]) == (False, False)
    assert errors["shown_high"] == 1.0


def test_the_bad_side_of_a_boundary_is_where_the_metric_gets_worse() -> None:
    rows = {row["name"]: row for row in drawing("forest")[0].datasets["rows0"]}
    assert rows["errors"]["bad_to"] > rows["errors"]["margin"]
    assert rows[NASTY]["bad_to"] < rows[NASTY]["margin"]


LINE = {
    "check": "error_rate_increase < 0.10",
    "metric": "error_rate",
    "kind": "proportion",
    "status": "undecided",
    "reason": "",
    "boundary": {"ratio": 1.1, "floor": 0.005, "direction": "up_is_worse", "at": 0.06},
    "stable": {"n": 1000, "observed": 1000, "events": 50, "value": 0.05},
    "canary": {"n": 100, "observed": 100, "events": 9, "value": 0.09},
    "relative_change": 0.8,
    "interval": {"low": -0.1, "high": "inf", "level": 0.95, "method": "score"},
}


def test_a_line_of_json_is_read_with_the_boundary_that_the_floor_makes() -> None:
    found = compared(LINE)
    assert found.margin == pytest.approx(0.06 / 0.05 - 1)
    assert found.high == math.inf
    assert found.arms == "5.0 % → 9.0 %"


def test_without_a_stable_value_a_boundary_with_a_floor_has_no_place() -> None:
    nobody = {"n": 0, "observed": 0, "events": None, "value": None}
    assert compared(LINE | {"stable": nobody, "relative_change": None, "interval": None}).margin is None


def test_a_count_shows_how_many_in_how_many() -> None:
    count = LINE | {
        "kind": "count",
        "boundary": {"limit": 0},
        "stable": {"n": 9000, "observed": 9000, "events": 1, "value": 1},
        "canary": {"n": 1000, "observed": 1000, "events": 0, "value": 0},
        "relative_change": None,
        "interval": None,
    }
    found = compared(count)
    assert found.arms == "1 in 9,000 → 0 in 1,000"
    assert found.margin is None


def test_of_many_looks_some_are_drawn_and_always_the_last() -> None:
    rows = drawing("evidence")[0].datasets["rows0"]
    times = {row["at"] for row in rows}
    assert len(times) <= 101
    assert LOOKS[-1].at is not None
    assert LOOKS[-1].at * 1000 in times


def test_evidence_without_times_is_drawn_over_conversations() -> None:
    chart, svg = drawing("scheduled looks")
    assert "Conversations counted" in svg
    # A p-value of zero is as far up as the chart goes, and said as it is.
    assert "harm p = 0, proven at 0.03" in describe(chart)


def test_a_timeout_at_the_quantile_is_said_and_not_drawn() -> None:
    words = describe(drawing("latency")[0])
    assert "canary: p95 of never" in words
    assert "500 of canary never ended" in words


def test_notebooks_show_charts_without_loading_anything() -> None:
    chart, _ = drawing("weight")
    for shown in (chart, chart.interactive(), chart.properties(title="mine")):
        bundle = shown._repr_mimebundle_()
        assert isinstance(bundle, dict)
        assert set(bundle) == {"text/plain", "image/svg+xml"}
        assert bundle["text/plain"] == describe(chart)
    several = Figure(chart, drawing("split")[0])._repr_html_()
    assert several.count('<img src="data:image/svg+xml;base64,') == 2
    assert f'alt="{describe(chart)}"' in several
    assert "<script" not in several


def test_a_png_is_drawn_at_the_scale_asked_for() -> None:
    drawn = to_png(CHARTS["split"](width=340), scale=2)
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert 670 <= int.from_bytes(drawn[16:20]) <= 690


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: forest([]), "one check at least"),
        (lambda: evidence_over_time([], name="x"), "one look at least"),
        (lambda: evidence_over_time([LOOKS[0], SCHEDULED[0]], name="x"), "all e-values or all p-values"),
        (lambda: latency_distributions({"stable": {INFINITE_BIN: 3}}), "one conversation that ended"),
        (lambda: sample_ratio([Split(weight=0.1, stable=0, canary=0)]), "one conversation at least"),
        (lambda: Split(weight=5, stable=1, canary=1), "write 0.05 for 5 %"),
        (lambda: Split(weight=0.5, stable=-1, canary=1), "not be negative"),
        (lambda: weight_over_time([], until=T0), "one step at least"),
        (lambda: weight_over_time([(T0, 0.5)], until=T0 - 1), "in the order of their times"),
        (lambda: weight_over_time([(T0, 5.0)], until=T0 + 1), "write 0.05 for 5 %"),
        (lambda: by_hour([ProfilePoint(slot=24, value=1.0)], name="x"), "between 0 and 23, got 24"),
        (lambda: by_weekday([ProfilePoint(slot=0, value=None)], name="x"), "one value at least"),
        (lambda: detection_curve([], name="x"), "one point at least"),
        (lambda: forest(CHECKS, width=20), "200 to 4000 pixels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        draw()
