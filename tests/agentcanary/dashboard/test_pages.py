"""What the pages say, to whom, and with which headers."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentcanary.dashboard import Source, application
from agentcanary.dashboard.sessions import COOKIE
from agentcanary.outcomes import Outcome
from agentcanary.plan import Plan
from agentcanary.rollout import Rollout
from agentcanary.security import Guard
from agentcanary.segments import Segment
from agentcanary.state_machine import ActionKind, new_rollout
from agentcanary.store import Store
from agentcanary.testing import FrozenClock

from .conftest import CONFIG, GUARD, OPERATOR, READER, RECORDER, T0, Browser, Desk, desk_in, serve, start


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.all if name == tag]


def page_of(desk: Desk, token: str = OPERATOR, rollout: Rollout | None = None) -> str:
    shown = rollout or desk.rollout
    answer = desk.browser(token).get(f"/canary/rollout/{shown.id}")
    assert answer.status_code == 200
    return answer.text


def test_without_the_extra_it_says_what_to_install() -> None:
    # In a process of its own: modules that were imported twice would be two.
    program = "import sys; sys.modules['jinja2'] = None; from agentcanary.dashboard import application"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "AgentCanaryError: the pages need jinja2: pip install 'agentcanary[dashboard]'" in ended.stderr


def test_nobody_sees_anything_without_a_session(desk: Desk) -> None:
    browser = desk.browser()
    for path in ("/canary/", f"/canary/rollout/{desk.rollout.id}"):
        answer = browser.get(path, follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/canary/login?next=%2Fcanary%2F")
        assert "support" not in answer.text
    assert browser.get(f"/canary/rollout/{desk.rollout.id}?part=1", follow_redirects=False).status_code == 401
    chart = f"/canary/rollout/{desk.rollout.id}/chart/checks.light.340.svg"
    assert browser.get(chart, follow_redirects=False).status_code == 401


def test_the_login_leads_to_the_page_that_was_asked_for(desk: Desk) -> None:
    browser = desk.browser()
    path = f"/canary/rollout/{desk.rollout.id}"
    shown = browser.get(path)
    wanted = re.search(r'name="next" value="([^"]*)"', shown.text)
    assert wanted is not None
    answer = browser.post("/canary/login", data={"token": OPERATOR, "next": wanted[1]})
    assert urlsplit(str(answer.url)).path == path
    assert "HOLD" in answer.text.upper()


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example/",
        "//evil.example/",
        "/other",
        "/canary//evil.example",
        "javascript:alert(1)",
        "/\\evil",
        "",
    ],
)
def test_the_login_leads_to_no_other_site(desk: Desk, next_: str) -> None:
    answer = desk.browser().post("/canary/login", data={"token": OPERATOR, "next": next_}, follow_redirects=False)
    location = urlsplit(answer.headers["location"])
    assert (location.scheme, location.netloc) == ("", "")
    assert location.path.startswith("/canary/")


def test_an_unknown_token_and_one_that_may_not_read_open_nothing(desk: Desk) -> None:
    for token, status, words in (
        (OPERATOR + "x", 401, "not known"),
        ("", 401, "not known"),
        (RECORDER, 403, "scope read"),
    ):
        answer = desk.browser().post("/canary/login", data={"token": token}, follow_redirects=False)
        assert answer.status_code == status
        assert words in answer.text
        assert COOKIE not in answer.cookies
        assert not token or token not in answer.text


def test_the_session_cookie_is_strict_and_holds_no_token(desk: Desk) -> None:
    answer = desk.browser().post("/canary/login", data={"token": OPERATOR}, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert OPERATOR not in cookie
    for part in ("HttpOnly", "SameSite=lax", "Path=/canary", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    secure = Browser(desk.app)
    secure.base_url = "https://pages.example"
    answer = secure.post("/canary/login", data={"token": OPERATOR}, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


def test_a_session_ends_when_its_token_is_configured_no_more(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    assert browser.get("/canary/", follow_redirects=False).status_code == 200
    source = Source(store=desk.store, clock=desk.clock, guard=Guard(), agent="support")
    other = Browser(Starlette(routes=[Mount("/canary", application(source))]))
    other.cookies = browser.cookies
    assert other.get("/canary/", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("value", ["", "x", "a.b.c", "x" * 10_000])
def test_a_forged_session_is_none(desk: Desk, value: str) -> None:
    browser = desk.browser()
    browser.cookies.set(COOKIE, value)
    assert browser.get("/canary/", follow_redirects=False).status_code == 303


def test_signing_out_ends_the_session(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    token = browser.form_token()
    assert browser.post("/canary/logout", data={"form_token": "no"}).status_code == 403
    assert browser.post("/canary/logout", data={"form_token": token}, follow_redirects=False).status_code == 303
    assert browser.get("/canary/", follow_redirects=False).status_code == 303


def test_the_list_names_every_rollout_the_newest_first(desk: Desk) -> None:
    desk.act(ActionKind.ROLLBACK)
    desk.clock.advance(3600 * 30)
    desk.controller().tick()
    start(desk, "support-v3")
    text = desk.browser(READER).get("/canary/").text
    # Else the reason of a step that was taken reads as one that is still to come.
    assert f"last change: {desk.rollout.reason}" in text
    assert text.index("support-v3") < text.index("support-v2")
    for words in ("in progress", "rolled back", "20 % of new conversations", "because"):
        assert words in text


def test_a_list_without_rollouts_says_what_to_do(empty: Desk) -> None:
    assert "agentcanary start" in empty.browser(READER).get("/canary/").text


def test_a_page_has_everything_that_an_operator_needs(desk: Desk) -> None:
    text = page_of(desk)
    for words in (
        "support-v1", "support-v2", "hold", "20 %", "stage initial lasts", "left of 40m", "Conversations",
        "error_rate_increase &lt; 0.10", "Dry run", "task completion", "as asked for", "pin lookup", "3 times",
        "stage entered", "Audit log", "agentcanary", "started", "attempt 1", "confirmed of the canary", "An hour",
    ):  # fmt: skip
        assert words in text, words
    for section in (
        "verdict", "act", "stages", "checks", "evidence", "latency", "split", "health", "sent", "audit",
    ):  # fmt: skip
        assert f'id="{section}"' in text


def test_the_verdict_comes_first(desk: Desk) -> None:
    sections = [attributes["id"] for attributes in Elements(page_of(desk)).of("section")]
    assert sections[0] == "verdict"


def test_a_page_is_complete_without_a_script_and_needs_nothing_inline(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    for path in ("/canary/login", "/canary/", f"/canary/rollout/{desk.rollout.id}", "/canary/nothing"):
        found = Elements(browser.get(path).text)
        assert not found.of("style")
        for tag, attributes in found.all:
            assert "style" not in attributes, tag
            assert not [name for name in attributes if name.startswith("on")], tag
            if tag == "script":
                assert str(attributes["src"]).startswith("/canary/static/")
            for name in ("src", "href", "srcset", "action"):
                address = attributes.get(name)
                assert address is None or address.startswith(("/canary/", "#")), (tag, address)


def test_every_control_has_a_name_and_every_chart_an_alternative(desk: Desk) -> None:
    found = Elements(page_of(desk))
    labels = {attributes["for"] for attributes in found.of("label") if "for" in attributes}
    for tag in ("textarea", "progress"):
        assert found.of(tag)
        assert all(attributes["id"] in labels for attributes in found.of(tag))
    assert all(attributes["alt"] for attributes in found.of("img") if attributes.get("class") == "chart")
    assert len(found.of("img")) > 4
    ids = [attributes["id"] for _, attributes in found.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in found.all if tag == "h1"] == ["h1"]
    assert {attributes.get("lang") for attributes in found.of("html")} == {"en"}


POLICIES = (
    "default-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "object-src 'none'",
)


def test_every_answer_is_strict(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    for path in (
        "/canary/login",
        "/canary/",
        f"/canary/rollout/{desk.rollout.id}",
        "/canary/static/live.js",
        "/canary/x",
    ):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert all(part in policy for part in POLICIES), path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    assert browser.get("/canary/").headers["cache-control"] == "no-store"


HOSTILE = "<img src=x onerror=alert(1)>'\"&{{7*7}}"


def test_what_people_and_programs_write_is_escaped(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    rollout = new_rollout("support", HOSTILE, HOSTILE + "2", desk.config.plan, now=T0, new_salt=b"salt")
    desk.store.start(rollout)
    desk.clock.advance(1)
    stored = desk.act(ActionKind.ROLLBACK, actor=HOSTILE)
    browser = desk.browser(READER)
    for path in ("/canary/", f"/canary/rollout/{stored.id}", f"/canary/rollout/{quote(HOSTILE)}"):
        text = browser.get(path).text
        assert "<img src=x" not in text
        assert not [one for one in Elements(text).of("img") if "onerror" in one]
        assert "&lt;img src=x" in text
        # Templates do not read what they show.
        assert "{{7*7}}" in text
    desk.store.close()


def test_only_the_agents_own_rollouts_are_shown(desk: Desk) -> None:
    plan: Plan = desk.config.plan
    desk.store.start(new_rollout("sales", "v1", "v2", plan, now=T0, new_salt=b"other"))
    browser = desk.browser(OPERATOR)
    other = desk.store.rollouts("sales")[0]
    assert "sales" not in browser.get("/canary/").text
    assert browser.get(f"/canary/rollout/{other.id}").status_code == 404
    source = Source(store=desk.store, clock=desk.clock, guard=GUARD)
    every = Browser(Starlette(routes=[Mount("/canary", application(source))]))
    every.sign_in(OPERATOR)
    assert "sales" in every.get("/canary/").text
    assert every.get(f"/canary/rollout/{other.id}").status_code == 200


def test_what_is_not_there_is_a_page_for_people_and_a_problem_for_programs(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    answer = browser.get("/canary/rollout/none")
    assert (answer.status_code, "text/html" in answer.headers["content-type"]) == (404, True)
    assert "is not in the store" in answer.text
    answer = browser.get("/canary/rollout/none", headers={"accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_store_that_does_not_answer_is_told_without_a_traceback(desk: Desk, tmp_path: Path) -> None:
    broken = Store(f"sqlite:///{tmp_path}/no/such/folder/x.sqlite3")
    source = Source(store=broken, clock=FrozenClock(T0), guard=GUARD, agent="support")
    (tmp_path / "no").write_text("a file where a folder should be")
    browser = Browser(Starlette(routes=[Mount("/canary", application(source))]))
    answer = browser.get("/canary/login")
    assert answer.status_code == 503
    assert "The store does not answer" in answer.text
    assert "Traceback" not in answer.text


def test_the_part_that_changes_is_sent_only_when_it_changed(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    path = f"/canary/rollout/{desk.rollout.id}?part=1"
    first = browser.get(path)
    assert "<html" not in first.text
    assert 'id="verdict"' in first.text
    again = browser.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    desk.act(ActionKind.PAUSE)
    desk.clock.advance(60)
    # Another worker, without what the first one remembers; the session is good there too.
    other = Browser(desk_app(desk))
    other.cookies = browser.cookies
    answer = other.get(path, headers={"if-none-match": first.headers["etag"]})
    assert answer.status_code == 200
    assert "paused" in answer.text


def desk_app(desk: Desk) -> Starlette:
    source = Source(store=desk.store, clock=desk.clock, guard=GUARD, agent="support", config=desk.config)
    return Starlette(routes=[Mount("/canary", application(source))])


def test_static_files_have_another_address_when_they_change(desk: Desk) -> None:
    browser = desk.browser()
    found = Elements(browser.get("/canary/login").text)
    addresses = [str(one["href"]) for one in found.of("link")] + [str(one["src"]) for one in found.of("script")]
    for address in addresses:
        assert re.search(r"\?v=[0-9a-f]{12}$", address)
        assert browser.get(address).status_code == 200


def test_a_freeze_window_is_shown_until_when(tmp_path: Path) -> None:
    desk = desk_in(tmp_path, CONFIG + "freeze: [{days: [mon]}]\n")
    desk.store.start(new_rollout("support", "support-v1", "support-v2", desk.config.plan, now=T0, new_salt=b"salt"))
    text = page_of(desk)
    assert "frozen until Tue 2026-01-06 00:00 UTC" in text
    assert "waits to start" in text
    desk.store.close()


def test_the_pages_stand_wherever_they_are_mounted(desk: Desk) -> None:
    source = Source(store=desk.store, clock=desk.clock, guard=GUARD, agent="support")
    alone = Browser(application(source))
    answer = alone.post("/login", data={"token": OPERATOR}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    found = Elements(alone.get(f"/rollout/{desk.rollout.id}").text)
    assert all(str(one["action"]).startswith("/") for one in found.of("form"))
    assert alone.get(str(found.of("script")[0]["src"])).status_code == 200


def test_a_page_of_a_rollout_that_never_looked_says_so(empty: Desk) -> None:
    rollout = new_rollout("support", "support-v1", "support-v2", empty.config.plan, now=T0, new_salt=b"salt")
    empty.store.start(replace(rollout, created_at=T0))
    text = page_of(empty)
    said = ("waits to start", "No look was kept yet", "No conversation is counted yet", "None yet")
    for words in (*said, "not known: no worker is alive"):
        assert words in text


def test_segments_are_shown_beside_the_whole(desk: Desk) -> None:
    told = [
        Outcome(
            id=f"s{number}",
            agent="support",
            conversation_id=f"late{number}",
            name=Segment("language", "de<b>").outcome,
            value=1.0,
            at=desk.clock(),
        )
        for number in range(40)
    ]
    desk.store.apply("segments", told)
    serve(desk, 40, name="late", minutes=1.0)
    desk.clock.advance(600)
    serve(desk, 1, name="after", minutes=1.0)
    text = page_of(desk)
    assert 'id="segments"' in text
    assert "de&lt;b&gt;" in text
    assert re.search(r"[0-9]+ stable, [0-9]+ canary", text)
