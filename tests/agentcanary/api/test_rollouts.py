"""Rollouts over HTTP: the same data as the command line, the same actions, and only for whom they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcanary import Canary
from agentcanary.cli import app as command_line
from agentcanary.rollout import Phase
from agentcanary.state_machine import new_rollout

from .conftest import YAML, Client, begin


async def test_the_list_and_one_rollout_are_what_the_command_line_says(
    canary: Canary, ask: Client, tmp_path: Path
) -> None:
    rollout = begin(canary)
    file = tmp_path / "canary.yaml"
    file.write_text(YAML)
    for path, command in (("/rollouts", ["rollouts"]), (f"/rollouts/{rollout}", ["status", "--no-exit-code"])):
        answer = await ask("GET", path)
        printed = CliRunner().invoke(command_line, [*command, "--json", "--config", str(file)])
        assert printed.exit_code == 0, printed.output
        said, shown = answer.json(), json.loads(printed.stdout)
        if isinstance(said, dict):
            # The command line has a clock of its own.
            for moving in ("at", "next", "warnings", "workers"):
                del said[moving], shown[moving]
        assert said == shown
        assert answer.headers["cache-control"] == "no-store"


async def test_newest_stands_for_the_newest(canary: Canary, ask: Client) -> None:
    assert (await ask("GET", "/rollouts/newest")).status_code == 404
    rollout = begin(canary)
    assert (await ask("GET", "/rollouts/newest")).json()["rollout"]["id"] == rollout


async def test_an_action_is_done_with_its_reason_and_the_tokens_name(canary: Canary, ask: Client) -> None:
    rollout = begin(canary)
    answer = await ask("POST", f"/rollouts/{rollout}/rollback", scope="OPERATE", json={"reason": " it is Friday "})
    assert answer.status_code == 200
    assert answer.json()["rollout"]["phase"] == "rolled_back"
    entry = canary.store.audit(rollout)[-1]
    assert (entry.actor, entry.action, entry.reason) == ("operate_token", "rollback", "it is Friday")


async def test_every_action_goes_through_the_state_machine(canary: Canary, ask: Client) -> None:
    rollout = begin(canary)

    async def act(name: str, of: str = "newest") -> tuple[int, str]:
        answer = await ask("POST", f"/rollouts/{of}/{name}", scope="OPERATE", json={"reason": name})
        return answer.status_code, answer.json().get("rollout", {}).get("phase", answer.json().get("detail"))

    status, why = await act("pause")
    assert (status, "only a progressing rollout" in why) == (409, True)
    canary.controller.tick()
    assert await act("pause") == (200, "paused")
    assert await act("resume") == (200, "progressing")
    assert await act("advance") == (200, "progressing")
    assert await act("promote") == (200, "promoted")
    assert await act("rollback") == (200, "rolled_back")
    assert await act("restart") == (200, "pending")
    assert (await act("rollback", rollout))[0] == 409
    assert canary.store.rollout(rollout).phase is Phase.ROLLED_BACK


async def test_a_rollout_of_another_agent_is_not_there(canary: Canary, ask: Client) -> None:
    foreign = new_rollout("sales", "a", "b", canary.config.plan, now=canary.clock(), new_salt=b"x" * 32)
    canary.store.start(foreign)
    assert (await ask("GET", "/rollouts")).json() == []
    assert (await ask("GET", f"/rollouts/{foreign.id}")).status_code == 404
    answer = await ask("POST", f"/rollouts/{foreign.id}/rollback", scope="OPERATE", json={"reason": "x"})
    assert answer.status_code == 404
    assert canary.store.rollout(foreign.id).phase is Phase.PENDING


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "reason must be"),
        ({"reason": "   "}, "reason must be"),
        ({"reason": 7}, "reason must be"),
        ({"reason": "a\x00b"}, "reason must be"),
        ({"reason": "x" * 1001}, "reason must be"),
        ({"reason": "x", "actor": "somebody else"}, "'actor' is not known here"),
        ({"reason": "x", "during_drain": "yes"}, "during_drain must be"),
        ([], "must be an object"),
    ],
)
async def test_a_bad_action_changes_nothing(canary: Canary, ask: Client, body: object, said: str) -> None:
    rollout = begin(canary)
    answer = await ask("POST", f"/rollouts/{rollout}/rollback", scope="OPERATE", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert canary.store.rollout(rollout).phase is Phase.PENDING


async def test_an_unknown_action_is_named(canary: Canary, ask: Client) -> None:
    answer = await ask("POST", f"/rollouts/{begin(canary)}/explode", scope="OPERATE", json={"reason": "x"})
    assert (answer.status_code, "'explode' is unknown" in answer.json()["detail"]) == (404, True)
