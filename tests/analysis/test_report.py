"""Reports: the same result in every format, safe and without a network."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from agentcanary_analysis import analyze
from agentcanary_analysis.analysis_result import (
    AnalysisMethod,
    AnalysisResult,
    ArmResult,
    CheckResult,
    EpochResult,
    EvidencePoint,
    Scale,
    SplitResult,
    Verdict,
)
from agentcanary_analysis.charts import describe
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.evidence import Interval, Status, Test
from agentcanary_analysis.history import Effect, generate_history
from agentcanary_analysis.metrics import ERROR_RATE, P95_LATENCY, SAFETY_VIOLATIONS, USER_SATISFACTION
from agentcanary_analysis.report import Course, Report, Step
from agentcanary_analysis.report.methods import methods

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T0 = 1_790_000_000.0
NASTY = "v2</title><script>alert(1)</script><img src=x onerror=alert(2)>|_*`"
ERRORS = CheckResult(
    check="error_rate_increase < 0.10",
    metric=ERROR_RATE,
    status=Status.HARMED,
    reason="harm is proven",
    boundary=parse_check("error_rate_increase < 0.10").boundary(ERROR_RATE),
    limit=0.1,
    stable=ArmResult(units=9000, observed=9000, value=0.05, events=450),
    canary=ArmResult(units=1000, observed=990, value=0.08, events=79),
    relative_change=0.6,
    interval=Interval(low=0.3, high=math.inf, level=0.95, method="score"),
    anytime=Interval(low=0.12, high=2.5, level=0.95, method="e-values"),
    test=Test(name="score test", p_value=0.00002),
    p_safe=0.9999,
    log_e_harm=4.0,
    log_e_safe=-9.0,
    notes=("no value from 10 conversations of the canary and 0 of stable",),
    over_time=tuple(
        EvidencePoint(
            at=T0 + 600 * look,
            conversations=100 * look,
            scale=Scale.LOG_E,
            harm=0.2 * look,
            safe=-0.4 * look,
            harm_boundary=3.0,
            safe_boundary=3.0,
        )
        for look in range(1, 21)
    ),
)
LATENCY = CheckResult(
    check="p95_latency_increase < 0.30",
    metric=P95_LATENCY,
    status=Status.UNDECIDED,
    reason="",
    boundary=parse_check("p95_latency_increase < 0.30").boundary(P95_LATENCY),
    limit=0.3,
    stable=ArmResult(units=9000, observed=9000, value=4.8),
    canary=ArmResult(units=1000, observed=1000, value=5.1),
    relative_change=0.0625,
    needs=1200,
    stable_histogram=dict.fromkeys(range(90), 100),
    canary_histogram=dict.fromkeys(range(90), 11),
)
RATINGS = CheckResult(
    check="satisfaction_regression < 0.05",
    metric=USER_SATISFACTION,
    status=Status.NO_DATA,
    reason="no counted conversation of canary has a value yet",
    boundary=parse_check("satisfaction_regression < 0.05").boundary(USER_SATISFACTION),
    limit=0.05,
    stable=ArmResult(units=9000, observed=12, value=4.25),
    canary=ArmResult(units=1000, observed=0, value=None),
)
SAFETY = CheckResult(
    check="safety_violations == 0",
    metric=SAFETY_VIOLATIONS,
    status=Status.SAFE,
    reason="",
    boundary=None,
    limit=0,
    stable=ArmResult(units=9000, observed=9000, value=1, events=1),
    canary=ArmResult(units=1000, observed=1000, value=0, events=0),
)
RESULT = AnalysisResult(
    verdict=Verdict.ROLLBACK,
    reasons=("error_rate_increase < 0.10: harm is proven",),
    method=AnalysisMethod.ANYTIME,
    alpha=0.05,
    alpha_promote=0.05,
    stable="support-v1",
    canary=NASTY,
    weight=None,
    checks=(ERRORS, LATENCY, RATINGS, SAFETY),
    sample_ratio=SplitResult(stable=9000, canary=1000, designed={0: 0.05, 1: 0.25}, p_value=0.4, log_e=-1.2),
    epochs=(
        EpochResult(number=0, weight=0.05, stable=7600, canary=400),
        EpochResult(number=1, weight=0.25, stable=1800, canary=600),
    ),
    excluded={"began before the rollout": 12, "forced": 0},
    notes=("a note",),
    source="outcomes.parquet",
)
COURSE = Course(
    agent="support",
    rollout="r-1",
    attempt=2,
    phase="rolled_back",
    began_at=T0,
    until=T0 + 9000,
    weights=((T0, 0.05), (T0 + 3600, 0.25)),
    steps=(Step(at=T0 + 9000, actor=NASTY, action="rollback", reason="harm is proven", after="rolled_back"),),
)


class Page(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def html() -> str:
    return Report(RESULT, COURSE).to_html()


def printed(report: Report, width: int = 200) -> str:
    console = Console(width=width, highlight=False, no_color=True)
    with console.capture() as capture:
        console.print(report)
    return capture.get()


def test_a_report_gives_what_was_found() -> None:
    report = Report(RESULT)
    assert report.verdict is Verdict.ROLLBACK
    assert report.checks == RESULT.checks
    assert report["error_rate"] is ERRORS
    assert report["safety_violations == 0"] is SAFETY
    with pytest.raises(KeyError, match="the checks are error_rate_increase"):
        report["latency"]


def test_the_frame_has_one_row_a_check_and_missing_stays_missing() -> None:
    frame = Report(RESULT).to_frame()
    assert list(frame["status"]) == ["harmed", "undecided", "no_data", "safe"]
    errors, latency, ratings, safety = (frame.loc[row] for row in range(4))
    assert (errors["stable"], errors["canary"], errors["canary_n"]) == (0.05, 0.08, 990)
    assert errors["boundary"] == pytest.approx(0.06)
    assert errors["high"] == math.inf
    assert pd.isna(errors["needs"])
    assert latency["needs"] == 1200
    assert np.isnan(ratings["canary"])
    assert np.isnan(latency["p_harm"])
    assert safety["boundary"] == 0


def test_the_frame_of_no_checks_is_empty_with_its_columns() -> None:
    frame = Report(replace(RESULT, checks=())).to_frame()
    assert len(frame) == 0
    assert frame["needs"].dtype == "Int64"


def test_json_is_that_of_the_result_with_the_evidence_over_time() -> None:
    data = json.loads(Report(RESULT, COURSE).to_json())
    without = RESULT.to_dict()
    assert {key: data[key] for key in without if key != "checks"} == {
        key: value for key, value in without.items() if key != "checks"
    }
    assert data["checks"][0]["interval"]["high"] == "inf"
    assert data["checks"][0]["over_time"][0] == {
        "at": T0 + 600,
        "conversations": 100,
        "scale": "log_e",
        "harm": 0.2,
        "safe": -0.4,
        "harm_boundary": 3.0,
        "safe_boundary": 3.0,
    }
    assert data["rollout"]["rollout"] == "r-1"
    assert "rollout" not in Report(RESULT).to_dict()


def test_every_format_tells_the_same(html: str) -> None:
    report = Report(RESULT, COURSE)
    text = Page(html).text
    markdown = report.to_markdown().replace("\\", "")
    for part in (
        "error_rate_increase < 0.10",
        "+60 % (95 %: +30 % to without limit)",
        "95 %: +12 % to × 3.5",
        "at most 6.0 %",
        "p < 0.0001 for harm (score test)",
        "harm E = 54.6, proven at 20",
        "8.0 % (79 of 990, 10 missing)",
        "no value from 10 conversations of the canary and 0 of stable",
        "about 1,200 more conversations",
        "no counted conversation of canary has a value yet",
        "1 in 9,000",
        "The canary has 1,000 of 10,000 conversations (10.0 %). Asked for: 5 %, 25 %. It is as asked for",
        "12: began before the rollout",
        "a note",
        "rollout r-1, attempt 2, rolled back",
    ):
        for form in (text, markdown, printed(report)):
            assert part in " ".join(form.split()), part
    for part in ("Roll back", "Lindon & Malek (2022)", "Grünwald, de Heide & Koolen (2024)", "harm is proven"):
        assert part in text
        assert part in markdown
    assert "0: forced" not in text


def test_the_verdict_comes_first_everywhere(html: str) -> None:
    report = Report(RESULT)
    assert report.to_markdown().startswith("# Roll back: support-v1 → v2")
    assert printed(report).splitlines()[2].startswith("ROLL BACK: error_rate_increase < 0.10")
    text = Page(html[html.index("<main>") :]).text
    assert text.index("Roll back") < text.index("error_rate_increase") < text.index("Methods")


def test_names_of_versions_and_people_are_text_and_nothing_else(html: str) -> None:
    page = Page(html)
    assert NASTY in page.text
    for tag, attributes in page.tags:
        assert tag not in {"script", "img", "iframe", "link", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        assert "href" not in attributes or attributes["href"].startswith("#")  # type: ignore[union-attr] # has a value
    cell = Page(Report(RESULT)._repr_html_() or "")
    assert [tag for tag, _ in cell.tags].count("img") == 1
    assert NASTY in cell.text
    # In Markdown a table cell ends at a bar and HTML begins at a bracket.
    markdown = Report(RESULT).to_markdown()
    assert "\\<script\\>" in markdown
    assert "<script>" not in markdown.replace("\\<", "")


def test_the_page_has_one_drawing_for_both_themes(html: str) -> None:
    assert html.count("<svg") == 5  # forest, evidence, latencies, split, weight
    assert "prefers-color-scheme: dark" in html
    assert len(html) < 100_000


def test_a_notebook_shows_the_checks_and_an_image_that_it_holds_itself() -> None:
    cell = Page(Report(RESULT)._repr_html_() or "")
    (image,) = [attributes for tag, attributes in cell.tags if tag == "img"]
    assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
    assert "harmed, harm is proven; change +60 %" in (image["alt"] or "")
    assert [tag for tag, _ in cell.tags].count("tr") == 5


def test_the_plot_is_the_forest_and_the_plots_are_the_rest() -> None:
    report = Report(RESULT, COURSE)
    assert "error_rate_increase < 0.10: harmed" in describe(report.plot())
    words = repr(report.plots())
    assert len(words.splitlines()) == 4
    for part in (
        "Evidence of error_rate",
        "p95 of",
        "Where 25 % was asked for",
        "Weight of the canary: 5 %, then 25 %",
    ):
        assert part in words
    with pytest.raises(ValueError, match="nothing was checked"):
        Report(replace(RESULT, checks=())).plot()


def test_without_the_extra_the_report_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    report = Report(RESULT)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'agentcanary\[charts\]'"):
        report.to_html()
    with pytest.raises(ModuleNotFoundError, match=r"agentcanary\[charts\]"):
        report.plot()
    assert report._repr_html_() is None
    assert report._repr_markdown_() == report.to_markdown()
    assert "ROLL BACK" in printed(report)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"p_value": None, "log_e": None, "designed": None, "reason": "nobody said it"}, "Nobody said it."),
        ({"alarm": True, "reason": "far fewer than asked for"}, "It is not as asked for (p = 0.4; E = 0.301"),
        ({"stable": 0, "canary": 0}, "No conversations were counted."),
    ],
)
def test_the_split_says_what_is_known(changed: dict[str, object], says: str) -> None:
    split = replace(RESULT.sample_ratio, **changed)  # type: ignore[arg-type] # fields of a split
    assert says in printed(Report(replace(RESULT, sample_ratio=split)))


@pytest.mark.parametrize("method", AnalysisMethod)
def test_methods_name_their_sources_for_what_was_done(method: AnalysisMethod) -> None:
    found = methods(replace(RESULT, method=method, cluster="user_id"))
    names = [one.name for one in found]
    assert "Clusters" in names
    assert "Sample ratio" in names
    assert len(set(names)) == len(names)
    assert all(one.sources for one in found[1:])
    without = methods(replace(RESULT, method=method, checks=(LATENCY,)))
    assert not [one.name for one in without if "proportion" in one.name or one.name == "Clusters"]


@pytest.mark.parametrize("method", list(AnalysisMethod))
def test_an_analysis_gives_a_report_with_everything(method: AnalysisMethod) -> None:
    frame = generate_history(
        days=7,
        conversations_per_day=700,
        rng=np.random.default_rng(5),
        canary="support-v2",
        weights=(0.1, 0.5),
        effect=Effect(errors=2.5),
    )
    checks = ["error_rate_increase < 0.10", "p95_latency_increase < 0.50", "safety_violations == 0"]
    report = analyze(frame, stable="support-v1", canary="support-v2", checks=checks, method=method.value)
    assert report.verdict is Verdict.ROLLBACK
    assert report["error_rate"].status is Status.HARMED
    assert "error_rate_increase < 0.10" in printed(report, width=80)
    if method is not AnalysisMethod.FIXED:
        assert "Evidence of error_rate_increase" in repr(report.plots())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=[*quiet, "--disable-sync", "--no-first-run"]
        )
        yield started
        started.close()


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_opens_it_without_a_network_and_nothing_overflows(
    html: str, tmp_path: Path, browser: Browser, scheme: str, width: int
) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type] # one of its literals
        viewport={"width": width, "height": 800},
        offline=True,
    )
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    assert requests == [file.as_uri()]
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter(one => {
            const box = one.getBoundingClientRect();
            return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
        }).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    drawn = page.locator("figure svg").first
    assert drawn.is_visible()
    # The page gave the drawing its colours: CSS variables that nobody defines would be black.
    colours = page.evaluate(
        "[...new Set([...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill))]"
    )
    assert len(colours) > 3
    ink = {"light": "rgb(28, 36, 48)", "dark": "rgb(232, 237, 243)"}[scheme]
    assert ink in colours
    context.close()
