"""What other rollout tools are told, and when they are halted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentcanary import Canary
from agentcanary.rollout import Phase
from tests.agentcanary.api.conftest import TOKENS, Client, begin

STATES: list[tuple[dict[str, Any], str, float]] = [
    ({}, "hold", 0.5),
    ({"phase": Phase.PROGRESSING, "reason": "waits"}, "hold", 0.5),
    ({"phase": Phase.PROMOTED, "ended_at": 5.0}, "promote", 1.0),
    ({"phase": Phase.ROLLED_BACK, "ended_at": 5.0, "reason": "harm is proven: error_rate"}, "rollback", 0.0),
    ({"phase": Phase.PROGRESSING, "stopped_at": 5.0, "stop_reason": "a violation"}, "rollback", 0.0),
]
PASSES = {
    "hold": {"confirm-rollout", "rollout", "confirm-traffic-increase"},
    "promote": {"confirm-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion"},
    "rollback": {"rollback"},
}
BODY = {"name": "support", "namespace": "agents", "phase": "Progressing", "metadata": {}}


def put(canary: Canary, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store hold a rollout in some state."""
    begin(canary)
    rollout = canary.store.current("support")
    assert rollout is not None
    state = replace(rollout, **changes)
    monkeypatch.setattr(canary.store, "current", lambda _: state)


@pytest.mark.parametrize(("changes", "verdict", "value"), STATES)
async def test_argo_reads_the_verdict_as_a_word_and_as_a_number(
    canary: Canary, ask: Client, changes: dict[str, Any], verdict: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(canary, changes, monkeypatch)
    answer = await ask("GET", "/gates/argo")
    assert answer.status_code == 200
    assert (answer.json()["verdict"], answer.json()["value"]) == (verdict, value)
    assert answer.json()["rollout"]["canary"] == "support-v2"


@pytest.mark.parametrize(("changes", "verdict", "value"), STATES)
async def test_flagger_is_halted_by_what_the_verdict_does_not_allow(
    canary: Canary, ask: Client, changes: dict[str, Any], verdict: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(canary, changes, monkeypatch)
    hooks = ("confirm-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "rollback")
    answers = {hook: await ask("POST", f"/gates/flagger/{hook}", json=BODY) for hook in hooks}
    assert {hook for hook, answer in answers.items() if answer.status_code == 200} == PASSES[verdict]
    halted = [answer for answer in answers.values() if answer.status_code != 200]
    assert {(answer.status_code, answer.json()["verdict"]) for answer in halted} == {(409, verdict)}


async def test_without_a_rollout_nothing_is_decided(canary: Canary, ask: Client) -> None:
    answer = (await ask("GET", "/gates/argo")).json()
    assert (answer["verdict"], answer["phase"], answer["rollout"]) == ("hold", "none", None)
    assert (await ask("POST", "/gates/flagger/confirm-promotion", json=BODY)).status_code == 409


async def test_flaggers_token_may_stand_in_its_metadata(canary: Canary, ask: Client) -> None:
    def body(**metadata: Any) -> dict[str, Any]:
        return BODY | {"metadata": metadata}

    async def status(sent: Any) -> int:
        return (await ask("POST", "/gates/flagger/rollout", scope=None, json=sent)).status_code

    assert await status(body(token=TOKENS["READ"])) == 200
    nobody: list[Any] = [body(), body(token=""), body(token="no-such-token-0123456789"), body(token=7), []]
    for wrong in [*nobody, {"metadata": []}]:
        assert await status(wrong) == 401
    assert await status(body(token=TOKENS["RECORD"])) == 403


async def test_a_gate_without_a_token_is_closed_and_an_unknown_hook_is_named(canary: Canary, ask: Client) -> None:
    assert (await ask("GET", "/gates/argo", scope=None)).status_code == 401
    assert (await ask("GET", "/gates/argo", scope="RECORD")).status_code == 403
    unknown = await ask("POST", "/gates/flagger/explode", json=BODY)
    assert unknown.status_code == 404
    assert "known are confirm-rollout, rollout" in unknown.json()["detail"]
