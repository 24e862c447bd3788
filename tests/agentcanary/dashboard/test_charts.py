"""Charts of a page: drawn by a process of their own, once for the same data, and never in the way of a page."""

from __future__ import annotations

import io
import os
import re
import sys
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from agentcanary.dashboard import drawing
from agentcanary.dashboard.artist import Artist
from agentcanary.dashboard.pictures import Picture, pictures
from agentcanary.dashboard.source import Source
from agentcanary.status.history import EvidenceHistory, evenly
from agentcanary.status.status_data import status_data
from agentcanary.store import Store

from .conftest import GUARD, OPERATOR, Desk

SPLIT = Picture(
    slot="split",
    data={"kind": "split", "splits": [{"weight": 0.1, "stable": 900, "canary": 100}]},
    key="k1",
    alternative="The split.",
)


def found(desk: Desk) -> dict[str, Picture]:
    source = Source(store=desk.store, clock=desk.clock, guard=GUARD, agent="support", config=desk.config)
    seen = source.seen(desk.rollout.id)
    return pictures(status_data(seen.situation), seen)


def test_a_page_has_the_charts_that_its_data_allow(desk: Desk) -> None:
    drawn = found(desk)
    assert set(drawn) == {
        "checks", "criteria", "evidence-all", "evidence-error_rate", "evidence-p95_latency", "latency", "split",
    }  # fmt: skip
    assert all(picture.alternative for picture in drawn.values())
    assert {slot: picture.key for slot, picture in found(desk).items()} == {
        slot: picture.key for slot, picture in drawn.items()
    }


def test_every_kind_of_chart_is_drawn_for_both_themes_without_inline_style(desk: Desk) -> None:
    for slot, picture in found(desk).items():
        if slot in ("criteria", "evidence-error_rate"):
            continue  # of the kind of another one
        for theme in ("light", "dark") if slot == "split" else ("light",):
            svg = drawing.draw(picture.data, theme=theme, width=340)
            assert svg["svg"].startswith("<svg")
            assert "style=" not in svg["svg"]
            assert "<script" not in svg["svg"]
            assert len(svg["words"]) > 20


# Answers as the drawing process does, with the number of its process; ends when it is told to draw nothing.
STAND_IN = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["data"]["kind"] == "nothing":
        break
    if asked["data"]["kind"] == "wrong":
        print(json.dumps({"error": "cannot"}), flush=True)
    else:
        print(json.dumps({"svg": f"<svg>{os.getpid()}</svg>", "words": asked["theme"]}), flush=True)
"""


def test_a_chart_is_drawn_once_for_the_same_data_and_look() -> None:
    artist = Artist((sys.executable, "-c", STAND_IN))
    drawn = artist.draw(SPLIT, theme="light", width=340)
    assert drawn is not None
    assert str(os.getpid()) not in drawn.svg
    assert artist.draw(SPLIT, theme="light", width=340) is drawn
    assert artist.kept(SPLIT, theme="dark", width=340) is None
    assert artist.words(SPLIT) == "light"
    other = artist.draw(replace(SPLIT, key="k2"), theme="light", width=340)
    assert other == drawn
    artist.close()


def test_a_drawing_process_that_ended_is_started_again_and_a_chart_that_cannot_be_is_told() -> None:
    artist = Artist((sys.executable, "-c", STAND_IN))
    first = artist.draw(SPLIT, theme="light", width=340)
    with capture_logs() as logs:
        for kind in ("wrong", "nothing"):
            broken = replace(SPLIT, key=kind, data={"kind": kind})
            assert artist.draw(broken, theme="light", width=340) is None
            assert artist.words(broken) == "The split."
    assert [entry["event"] for entry in logs] == ["agentcanary.chart_not_drawn"] * 2
    again = artist.draw(replace(SPLIT, key="k3"), theme="light", width=340)
    assert again is not None
    assert again != first
    artist.close()


def test_a_drawing_process_that_cannot_be_started_is_told() -> None:
    artist = Artist(("/no/such/program",))
    with capture_logs() as logs:
        assert artist.draw(SPLIT, theme="light", width=340) is None
    assert "FileNotFoundError" in logs[0]["error"]


def test_the_drawing_process_ends_with_its_parent_and_when_nobody_asks() -> None:
    read, write = os.pipe()
    with os.fdopen(read) as asked, os.fdopen(write, "w") as ask:
        answers = io.StringIO()
        ask.write('{"data": {"kind": "nothing"}, "theme": "light", "width": 340}\n')
        ask.flush()
        drawing.serve(asked, answers, idle=0.01)
        assert "no chart is called" in answers.getvalue()
        ask.close()
        drawing.serve(asked, answers, idle=60)
    assert answers.getvalue().count("\n") == 1


def test_a_chart_is_an_answer_of_its_own(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    text = browser.get(f"/canary/rollout/{desk.rollout.id}").text
    addresses = re.findall(r'src="([^"]+split\.light\.560\.svg\?v=[^"]+)"', text)
    assert len(addresses) == 1
    # Drawn by the process that the pages really start.
    answer = browser.get(addresses[0])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "immutable" in answer.headers["cache-control"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    old = browser.get(addresses[0].partition("?")[0])
    assert old.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name",
    ["none.light.340.svg", "split.pink.340.svg", "split.light.9999.svg", "split.light.svg", "split", "..%2f..%2fx"],
)
def test_a_chart_that_is_not_there_is_refused(desk: Desk, name: str) -> None:
    answer = desk.browser(OPERATOR).get(f"/canary/rollout/{desk.rollout.id}/chart/{name}")
    assert answer.status_code == 404


def test_looks_are_read_once_and_chosen_evenly(desk: Desk) -> None:
    reads: list[int] = []

    class Counted(Store):
        def looks_at(self, rollout: str, times):  # type: ignore[no-untyped-def] # as in the store
            reads.append(len(times))
            return super().looks_at(rollout, times)

    store = Counted(desk.config.store)
    history = EvidenceHistory().read(store, desk.rollout)
    assert [look.at for look in history.looks] == store.look_times(desk.rollout.id)
    assert set(history.looks[-1].strengths) == {"", "error_rate", "p95_latency"}
    again = history.read(store, desk.rollout)
    assert again.looks == history.looks
    assert reads == [len(history.looks)]
    store.close()
    times = [float(number) for number in range(1_000)]
    chosen = evenly(times, 100)
    assert 50 <= len(chosen) <= 101
    assert chosen[-1] == 999
    # Most of what was chosen stays chosen when a look is added.
    assert len(set(evenly([*times, 1000.0], 100)) & set(chosen)) >= len(chosen) - 1
