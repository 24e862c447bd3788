"""Acting from a page: only who may, only from our own form, with a reason and a confirmation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.dashboard.view import ACTIONS, offered
from agentcanary.rollout import Phase
from agentcanary.state_machine import ActionKind, new_rollout

from .conftest import CONFIG, OPERATOR, READER, T0, Browser, Desk, desk_in, start


def press(browser: Browser, desk: Desk, kind: str, **changed: str) -> tuple[int, str]:
    """Fill in the form of an action and send it; what was answered at the end."""
    path = f"/canary/rollout/{desk.rollout.id}"
    form = {
        "form_token": browser.form_token(path),
        "phase": desk.rollout.phase.value,
        "stage": desk.rollout.current_stage.name,
        "reason": "it answers in the wrong language",
        "confirm": "yes",
    } | changed
    answer = browser.post(f"{path}/{kind}", data={name: value for name, value in form.items() if value})
    return answer.status_code, answer.text


def test_a_rollback_is_done_once_with_who_and_why(desk: Desk) -> None:
    status, text = press(desk.browser(OPERATOR), desk, "rollback")
    assert (status, desk.rollout.phase, desk.rollout.weight) == (200, Phase.ROLLED_BACK, 0.0)
    entry = desk.store.audit(desk.rollout.id)[-1]
    assert (entry.actor, entry.action, entry.reason) == ("anna", "rollback", "it answers in the wrong language")
    assert "Done: rollback" in text
    assert "it answers in the wrong language" in text
    assert [one.effect.event for one in desk.store.deliveries(desk.rollout.id)][:2] == ["rolled_back", "weight"]


# What is wrong with the form, and what is answered.
REFUSED: dict[str, tuple[dict[str, str], int, str]] = {
    "no reason": ({"reason": ""}, 422, "say why"),
    "only spaces": ({"reason": "  \n "}, 422, "say why"),
    "too long a reason": ({"reason": "x" * 1001}, 422, "1 to 1000"),
    "a reason that is not printable": ({"reason": "a\x00b"}, 422, "printable"),
    "no confirmation": ({"confirm": ""}, 422, "confirms"),
    "no form token": ({"form_token": ""}, 403, "not from this session"),
    "another form token": ({"form_token": "x.y"}, 403, "not from this session"),
}


@pytest.mark.parametrize(("changed", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_complete_does_nothing(desk: Desk, changed: dict[str, str], status: int, words: str) -> None:
    before = desk.rollout
    answered, text = press(desk.browser(OPERATOR), desk, "rollback", **changed)
    assert answered == status
    assert words in text
    assert desk.rollout == before


def test_a_token_that_may_only_read_is_offered_nothing_and_can_do_nothing(desk: Desk) -> None:
    browser = desk.browser(READER)
    before = desk.rollout
    text = browser.get(f"/canary/rollout/{before.id}").text
    assert 'name="reason"' not in text
    assert "scope operate" in text
    status, text = press(browser, desk, "rollback")
    assert status == 403
    assert "this needs operate" in text
    assert desk.rollout == before


def test_the_form_of_one_session_is_worth_nothing_in_another(desk: Desk) -> None:
    before = desk.rollout
    stolen = desk.browser(READER).form_token(f"/canary/rollout/{before.id}")
    assert press(desk.browser(OPERATOR), desk, "rollback", form_token=stolen)[0] == 403
    stolen = desk.browser(OPERATOR).form_token(f"/canary/rollout/{before.id}")
    assert press(desk.browser(OPERATOR), desk, "rollback", form_token=stolen)[0] == 403
    assert desk.rollout == before


# Headers that a browser sends with a form of another site, and of ours.
SITES = [
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"sec-fetch-site": "same-origin"}, 303),
    ({"sec-fetch-site": "none"}, 303),
    ({"origin": "http://pages.example"}, 303),
]


@pytest.mark.parametrize(("headers", "status"), SITES)
def test_a_form_of_another_site_does_nothing(desk: Desk, headers: dict[str, str], status: int) -> None:
    browser = desk.browser(OPERATOR)
    path = f"/canary/rollout/{desk.rollout.id}"
    form = {"form_token": browser.form_token(path), "reason": "why", "confirm": "yes"}
    answer = browser.post(f"{path}/pause", data=form, headers=headers, follow_redirects=False)
    assert answer.status_code == status
    assert desk.rollout.phase is (Phase.PAUSED if status == 303 else Phase.PROGRESSING)
    signed_in = desk.browser().post("/canary/login", data={"token": OPERATOR}, headers=headers, follow_redirects=False)
    assert signed_in.status_code == status


def test_an_action_needs_a_session(desk: Desk) -> None:
    path = f"/canary/rollout/{desk.rollout.id}/rollback"
    answer = desk.browser().post(path, data={"reason": "why", "confirm": "yes"}, follow_redirects=False)
    assert answer.status_code == 303
    assert "/login" in answer.headers["location"]
    bearer = {"authorization": f"Bearer {OPERATOR}"}
    assert desk.browser().post(path, data={"reason": "r"}, headers=bearer, follow_redirects=False).status_code == 303
    assert desk.rollout.phase is Phase.PROGRESSING


def test_an_action_by_address_alone_does_nothing(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    assert browser.get(f"/canary/rollout/{desk.rollout.id}/rollback").status_code in (404, 405)
    assert desk.rollout.phase is Phase.PROGRESSING


def test_a_page_offers_what_the_phase_allows(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)

    def shown() -> set[str]:
        text = browser.get(f"/canary/rollout/{desk.rollout.id}?part=1&at={desk.rollout.revision}").text
        return set(re.findall(r'id="do-([a-z]+)"', text))

    assert shown() == {"rollback", "pause", "advance", "promote"}
    assert press(browser, desk, "pause")[0] == 200
    assert shown() == {"rollback", "resume", "advance", "promote"}
    assert press(browser, desk, "resume")[0] == 200
    assert press(browser, desk, "advance")[0] == 200
    assert desk.rollout.current_stage.name == "half"
    assert press(browser, desk, "promote")[0] == 200
    assert shown() == {"rollback", "restart"}
    assert press(browser, desk, "rollback")[0] == 200
    assert shown() == {"restart"}
    status, text = press(browser, desk, "restart")
    assert status == 409
    assert "live conversations of the rollout" in text
    assert 'name="during_drain"' in browser.get(f"/canary/rollout/{desk.rollout.id}").text
    status, text = press(browser, desk, "restart", during_drain="yes")
    assert (status, desk.rollout.attempt, desk.rollout.phase) == (200, 2, Phase.PENDING)
    assert "attempt 2" in text


def test_what_the_phase_does_not_allow_is_refused_in_words(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    status, text = press(browser, desk, "resume")
    assert status == 409
    assert "cannot resume" in text
    assert press(browser, desk, "explode")[0] == 404


def test_an_advance_from_a_page_that_is_old_does_nothing(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    desk.act(ActionKind.ADVANCE)
    status, text = press(browser, desk, "advance", stage="initial")
    assert status == 409
    assert "changed meanwhile" in text
    assert desk.rollout.current_stage.name == "half"
    assert press(browser, desk, "rollback", stage="initial")[0] == 200


def test_only_the_newest_rollout_can_be_acted_on(desk: Desk) -> None:
    old = desk.act(ActionKind.ROLLBACK)
    desk.clock.advance(3600 * 30)
    desk.controller().tick()
    start(desk, "support-v3")
    browser = desk.browser(OPERATOR)
    assert "can only be read" in browser.get(f"/canary/rollout/{old.id}").text
    form = {"form_token": browser.form_token(), "reason": "why", "confirm": "yes"}
    answer = browser.post(f"/canary/rollout/{old.id}/restart", data=form)
    assert answer.status_code == 409
    assert "is not the newest" in answer.text


def test_a_step_inside_a_freeze_window_needs_a_tick_of_its_own(tmp_path: Path) -> None:
    desk = desk_in(tmp_path, CONFIG + "freeze: [{days: [tue]}]\n")
    start(desk)
    desk.clock.advance(86_400)
    browser = desk.browser(OPERATOR)
    assert 'name="during_freeze"' in browser.get(f"/canary/rollout/{desk.rollout.id}").text
    status, text = press(browser, desk, "advance")
    assert status == 409
    assert "frozen until Wed" in text
    assert press(browser, desk, "advance", during_freeze="yes")[0] == 200
    assert desk.rollout.current_stage.name == "half"
    desk.store.close()


def test_a_form_that_is_no_form_is_refused(desk: Desk) -> None:
    browser = desk.browser(OPERATOR)
    path = f"/canary/rollout/{desk.rollout.id}/rollback"
    assert browser.post(path, json={"reason": "why"}).status_code == 415
    large = {"form_token": browser.form_token(), "reason": "x" * 20_000}
    assert browser.post(path, data=large).status_code == 413
    many = {f"f{number}": "1" for number in range(50)}
    assert browser.post(path, data=many).status_code == 400
    assert desk.rollout.phase is Phase.PROGRESSING


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), kind=st.sampled_from([*ActionKind, "x"]))
def test_no_body_breaks_a_page(desk: Desk, body: bytes, kind: str) -> None:
    browser = desk.browser(OPERATOR)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = browser.post(f"/canary/rollout/{desk.rollout.id}/{kind}", content=body, headers=headers)
    assert answer.status_code in (400, 403, 404, 422)
    assert desk.rollout.phase is Phase.PROGRESSING


def test_every_action_has_words_and_is_allowed_somewhere(desk: Desk) -> None:
    assert set(ACTIONS) == set(ActionKind)
    pending = new_rollout("support", "v1", "v2", desk.config.plan, now=T0, new_salt=b"salt")
    assert [one.kind for one in offered(pending, now=T0, newest=True, live=None)] == ["rollback", "promote"]
    assert offered(pending, now=T0, newest=False, live=None) == []
