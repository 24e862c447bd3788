"""Who may ask the API what: every route, every scope."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from agentcanary import Canary
from agentcanary.rollout import Phase

from .conftest import TOKENS, Client, begin

ROUTES = [
    ("GET", "/rollouts", "READ"),
    ("GET", "/rollouts/newest", "READ"),
    ("POST", "/rollouts/newest/rollback", "OPERATE"),
    ("POST", "/outcomes", "RECORD"),
    ("PUT", "/outcomes/x/confirmation", "RECORD"),
    ("DELETE", "/outcomes/x", "RECORD"),
]
ALLOWS = {"READ": {"READ"}, "OPERATE": {"READ", "OPERATE"}, "RECORD": {"RECORD"}}
OUTCOME = {"conversation_id": "c-1", "name": "safety_violation", "value": 1}


async def test_without_a_token_every_route_is_closed(canary: Canary, ask: Client, known: str) -> None:
    rollout = begin(canary)
    for method, path, needed in ROUTES:
        for headers in (
            {},
            {"authorization": "Bearer " + TOKENS[needed][:-1]},
            {"authorization": "Basic " + TOKENS[needed]},
            {"cookie": f"token={TOKENS[needed]}"},
        ):
            answer = await ask(
                method, path, scope=None, headers=headers, params={"token": TOKENS[needed]}, json=OUTCOME
            )
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="agentcanary"'
            assert answer.headers["content-type"] == "application/problem+json"
            assert set(answer.json()) == {"type", "title", "status", "detail"}
    assert canary.store.rollout(rollout).phase is Phase.PENDING
    found = canary.store.conversation("support", known)
    assert found is not None
    assert found.outcomes == ()


async def test_a_token_opens_only_what_its_scope_says(canary: Canary, ask: Client) -> None:
    for method, path, needed in ROUTES:
        for scope in TOKENS:
            answer = await ask(method, path, scope=scope, json={})
            assert (answer.status_code == 403) == (needed not in ALLOWS[scope]), (path, scope)
            assert answer.status_code != 401


async def test_without_any_token_the_api_says_in_the_log_that_it_is_closed(
    make: Callable[..., Canary], monkeypatch: pytest.MonkeyPatch
) -> None:
    for scope in TOKENS:
        monkeypatch.delenv(f"AGENTCANARY_{scope}_TOKEN")
    canary = make()
    with capture_logs() as logs:
        closed = Client(canary)
    assert [entry["event"] for entry in logs] == ["agentcanary.api_closed"]
    for method, path, _ in ROUTES:
        assert (await closed(method, path, scope="OPERATE", json={})).status_code == 401


async def test_nothing_that_is_answered_or_stored_shows_a_token(canary: Canary, ask: Client) -> None:
    rollout = begin(canary)
    shown = ""
    for method, path, _ in ROUTES:
        for scope in TOKENS:
            answer = await ask(method, path, scope=scope, json={"reason": "look"})
            shown += answer.text + str(answer.headers)
    shown += repr(canary.store.audit(rollout))
    assert not [token for token in TOKENS.values() if token in shown]
