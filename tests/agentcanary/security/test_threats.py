"""Threats that no other test is about, and that the threat model names a real test for each."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from agentcanary import Canary, CanaryMiddleware
from agentcanary.assignment import bucket
from agentcanary.config import parse_config
from agentcanary.conversation import SignedCookie, UnusableIdError
from agentcanary.rollout import Audit
from agentcanary.security import Forcing, new_salt
from agentcanary.state_machine import new_rollout
from agentcanary.testing import FrozenClock
from agentcanary_analysis.aggregates import Arm, Cell

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "docs" / "threat_model.md"
TOKEN = "ac_a-token-of-many-characters"
SECRETS = {
    "cookie_secret": "cookie-secret-0123456789",
    "id_secret": "id-secret-0123456789",
    "tester_secret": "tester-secret-0123456789",
}
YAML = """
agent: support
stable: v1
canary: v2
controller: false
notify: [webhook: "https://hooks.example.com/T0/hook-secret-0123456789"]
security:
  testers: true
{secrets}
canary_stages:
  - {{name: half, weight: 0.5, duration_minutes: 30}}
  - {{name: full, weight: 1.0, duration_minutes: 0}}
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Canary]:
    monkeypatch.setenv("AGENTCANARY_TOKEN", TOKEN)

    def make() -> Canary:
        text = YAML.format(secrets="\n".join(f"  {name}: {value}" for name, value in SECRETS.items()))
        config = parse_config(text, filename=str(tmp_path / "canary.yaml"))
        return Canary(config, notifiers=[], clock=FrozenClock())

    return make


@pytest.fixture
def canary(make: Callable[..., Canary]) -> Any:
    made = make()
    made.start_blocking()
    yield made
    made.stop_blocking()


def begin(canary: Canary, salt: bytes) -> str:
    now, config = canary.clock() - 600.0, canary.config
    rollout = new_rollout("support", config.stable, "v2", config.plan, now=now, new_salt=salt)
    canary.store.start(rollout, Audit(at=now, actor="t", action="create", reason="r", before="", after="pending"))
    canary.controller.tick()
    canary.snapshots.poll()
    return rollout.id


async def ask(canary: Canary, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=canary.api())
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        return await client.request(method, path, headers={"authorization": f"Bearer {TOKEN}"}, **more)


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", MODEL.read_text(encoding="utf-8"))


def test_the_threat_model_names_real_tests() -> None:
    named = named_tests()
    assert len(named) >= 25
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        missing += [] if name in functions else [f"{path}::{name}"]
    assert missing == []


def test_every_threat_in_the_model_names_a_test() -> None:
    rows = [line for line in MODEL.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) >= 20
    assert [row for row in rows if "::test_" not in row] == []


def test_no_secret_is_in_logs_answers_audit_errors_or_representations(canary: Canary) -> None:
    salt = new_salt()
    with capture_logs() as logs:
        rollout = begin(canary, salt)

        async def talk() -> str:
            said = ""
            for method, path in (("GET", "/rollouts"), ("GET", "/rollouts/newest"), ("GET", "/rollouts/none")):
                said += (await ask(canary, method, path)).text
            answer = await ask(canary, "POST", "/rollouts/newest/pause", json={"reason": "look"})
            return said + answer.text + (await ask(canary, "POST", "/outcomes", json={})).text

        said = asyncio.run(talk())
    forced = canary.forcing
    assert forced is not None
    said += str(logs) + repr(canary.store.audit(rollout)) + repr(canary.config) + repr(vars(forced))
    said += repr(canary.view()[0]) + repr(canary.cookie) + repr(canary.store.rollout(rollout))
    shown = [name for name, secret in SECRETS.items() if secret in said]
    assert shown == []
    for secret in (TOKEN, "hook-secret", salt.hex(), repr(salt)[2:-1], canary.store.secret("cookie").hex()):
        assert secret not in said


def test_nobody_without_the_salt_can_pick_ids_that_land_on_the_canary() -> None:
    weight, ids = 0.05, [f"c-{number}" for number in range(40_000)]
    mine, theirs = new_salt(), new_salt()
    picked = [unit for unit in ids if bucket(theirs, unit).assignment < weight]
    landed = sum(bucket(mine, unit).assignment < weight for unit in picked)
    # Some 2,000 ids, chosen by another salt, at 5 %: within five standard deviations of 9.7.
    assert abs(landed - weight * len(picked)) < 5 * (weight * (1 - weight) * len(picked)) ** 0.5


def test_a_forwarded_address_in_a_header_makes_nobody_a_trusted_peer() -> None:
    forcing = Forcing("support", secret=None, trusted_peers=("10.0.0.0/8",))
    headers = [(b"x-canary", b"true"), (b"x-forwarded-for", b"10.0.0.1"), (b"x-real-ip", b"10.0.0.1")]
    assert forcing.forced({"headers": headers, "client": ("203.0.113.9", 1)}, now=0.0) is None
    assert forcing.forced({"headers": headers, "client": ("10.0.0.1", 1)}, now=0.0) is Arm.CANARY


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_cookie_that_was_changed_is_none(place: int) -> None:
    cookie = SignedCookie("0123456789abcdef")
    value = cookie.header("c-1234567890", secure=True)[1].partition(b";")[0]
    name, _, signed = value.partition(b"=")
    place %= len(signed) - 1
    changed = signed[:place] + (b"A" if signed[place : place + 1] != b"A" else b"Q") + signed[place + 1 :]
    with pytest.raises(UnusableIdError):
        cookie({"headers": [(b"cookie", name + b"=" + changed)]})
    other = SignedCookie("another secret of length")
    with pytest.raises(UnusableIdError):
        other({"headers": [(b"cookie", value)]})


def test_our_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    header = SignedCookie("0123456789abcdef").header("c-1", secure=True)[1].decode()
    flags = {flag.strip() for flag in header.split(";")[1:]}
    assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/"} == flags


def test_a_flood_of_feedback_counts_as_one_conversation(canary: Canary) -> None:
    clock: Any = canary.clock
    rollout_id = begin(canary, b"a salt of a rollout in a test")
    clock.advance(60.0)  # past the hand-over
    canary.snapshots.poll()
    for name in ("flooded", *(f"quiet-{number}" for number in range(20))):
        with canary.conversation(name):
            pass
    for number in range(3000):
        canary.record("flooded", "task_completion", 0, id=f"flood-{number}")
    assert canary.recorder.flush_and_wait(20.0)
    clock.advance(7200.0)
    canary.recorder.flush_and_wait(5.0)
    rollout = canary.store.rollout(rollout_id)
    metrics = [metric for metric in rollout.plan.metrics if metric.name == "task_completion_rate"]
    canary.store.count(rollout, metrics, clock())
    tallies = canary.store.aggregates(rollout).tallies
    cells = [tallies.get(Cell("task_completion_rate", 0, arm), {}) for arm in Arm]
    assert sum(tally.units for cell in cells for tally in cell.values()) == 21
    assert sum(tally.observed for cell in cells for tally in cell.values()) == 1
    canary.controller.tick()
    after = canary.store.rollout(rollout_id)
    assert (after.phase.ended, after.stopped_at) == (False, None)


async def test_feedback_without_a_credential_changes_nothing(canary: Canary) -> None:
    rollout = begin(canary, b"a salt of a rollout in a test")
    with canary.conversation("c-1"):
        pass
    transport = httpx.ASGITransport(app=canary.api())
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        for number in range(200):
            body = {"conversation_id": "c-1", "name": "safety_violation", "value": 1, "id": str(number)}
            assert (await client.post("/outcomes", json=body)).status_code == 401
    assert canary.recorder.flush_and_wait(5.0)
    known = canary.store.conversation("support", "c-1")
    assert known is not None
    assert known.outcomes == ()
    assert canary.store.rollout(rollout).stopped_at is None


HOSTILE = ["'; DROP TABLE conversations; --", '" OR 1=1', "%", "_", "<script>alert(1)</script>", "\\", "é\u202e"]


def test_an_id_is_only_ever_a_value(canary: Canary) -> None:
    for unit in HOSTILE:
        with canary.conversation(unit):
            canary.record(unit, unit, 1, id=unit, label=unit)
    assert canary.recorder.flush_and_wait(5.0)
    for unit in HOSTILE:
        known = canary.store.conversation("support", unit)
        assert known is not None
        assert [outcome.name for outcome in known.outcomes] == [unit]
    assert canary.store.forget("support", "%", canary.clock()).deleted["conversations"] == 1
    assert canary.store.known_units("support", HOSTILE) == set(HOSTILE) - {"%"}


async def test_a_request_for_the_api_is_no_turn_and_makes_no_conversation_known(canary: Canary) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount("/canary", canary.api())])
    transport = httpx.ASGITransport(app=CanaryMiddleware(app, canary=canary))
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        body = {"conversation_id": "invented", "name": "satisfaction", "value": 1}
        for _ in range(2):
            answer = await client.post("/canary/outcomes", json=body, headers={"authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == 422
    assert canary.recorder.flush_and_wait(5.0)
    assert canary.store.conversation("support", "invented") is None


def test_journals_and_exports_are_for_their_owner_only(canary: Canary, tmp_path: Path) -> None:
    canary.record("c-1", "safety_violation", 1)
    files = [path for path in tmp_path.rglob("*.lock") if ".journals" in str(path)]
    assert files
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
