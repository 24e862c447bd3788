"""Forcing an arm: by a signed token that expires, or from a trusted peer; nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcanary.security import Forcing
from agentcanary_analysis.aggregates import Arm

SECRET = "0123456789abcdef"
NOW = 1_750_000_000.0


def request(value: str | bytes | None = None, *, cookie: str | None = None, client: Any = None) -> dict[str, Any]:
    headers = [(b"host", b"agent")]
    if value is not None:
        headers.append((b"x-canary", value if isinstance(value, bytes) else value.encode()))
    if cookie is not None:
        headers.append((b"cookie", cookie.encode()))
    return {"type": "http", "headers": headers, "client": client}


def forcing(**more: Any) -> Forcing:
    return Forcing("support", **{"secret": SECRET, **more})


@pytest.mark.parametrize("arm", list(Arm))
def test_a_token_forces_its_arm_until_it_expires(arm: Arm) -> None:
    token = forcing().token("ann", arm, expires_at=NOW + 60, now=NOW)
    assert forcing().forced(request(token), now=NOW) is arm
    assert forcing().forced(request(cookie=f"a=b; x-canary={token}; c=d"), now=NOW + 59) is arm
    assert forcing().forced(request(token), now=NOW + 60) is None
    assert forcing().forced(request(cookie=f"x-canary={token}"), now=NOW + 60) is None


def test_a_token_holds_for_its_agent_and_its_secret_only() -> None:
    token = forcing().token("ann", Arm.CANARY, expires_at=NOW + 60, now=NOW)
    assert Forcing("sales", secret=SECRET).forced(request(token), now=NOW) is None
    assert Forcing("support", secret=SECRET[::-1]).forced(request(token), now=NOW) is None
    assert Forcing("support", secret=None).forced(request(token), now=NOW) is None


def test_a_token_that_was_changed_anywhere_forces_nothing() -> None:
    token = forcing().token("ann", Arm.CANARY, expires_at=NOW + 60, now=NOW)
    for place in range(len(token)):
        # The last character of base64 has bits that mean nothing; they may differ.
        changed = token[:place] + ("A" if token[place] != "A" else "Q") + token[place + 1 :]
        if place < len(token) - 1:
            assert forcing().forced(request(changed), now=NOW) is None, place


@pytest.mark.parametrize("seconds", [0.0, -1.0, 30 * 86_400.0 + 1, float("inf"), float("nan")])
def test_a_token_that_expires_too_late_or_at_once_is_not_made(seconds: float) -> None:
    with pytest.raises(ValueError, match="within 30 days"):
        forcing().token("ann", Arm.CANARY, expires_at=NOW + seconds, now=NOW)


def test_the_plain_header_is_believed_only_where_that_is_configured() -> None:
    assert forcing().forced(request("true"), now=NOW) is None
    assert forcing(trust_header=True).forced(request("true"), now=NOW) is Arm.CANARY
    assert forcing(trust_header=True).forced(request("TRUE"), now=NOW) is None
    assert forcing(trust_header=True).forced(request(cookie="x-canary=true"), now=NOW) is None


@pytest.mark.parametrize(
    ("client", "arm"),
    [
        (("10.1.2.3", 4000), Arm.CANARY),
        (("::ffff:10.1.2.3", 4000), Arm.CANARY),
        (("fd00::7", 4000), Arm.CANARY),
        (("11.1.2.3", 4000), None),
        (("testclient", 4000), None),
        (("", 0), None),
        (None, None),
    ],
)
def test_a_trusted_peer_is_believed_by_its_address(client: Any, arm: Arm | None) -> None:
    trusting = forcing(trusted_peers=("10.0.0.0/8", "fd00::/8"))
    assert trusting.forced(request("true", client=client), now=NOW) is arm
    assert trusting.forced(request(client=client), now=NOW) is None


@settings(deadline=None)
@given(st.binary(max_size=2000), st.text(max_size=100))
def test_whatever_is_sent_nothing_is_raised_and_nothing_is_forced(header: bytes, cookie: str) -> None:
    strict = forcing(trusted_peers=("10.0.0.0/8",))
    assert strict.forced(request(header), now=NOW) is None
    assert strict.forced(request(cookie=f"x-canary={cookie}".encode("utf-8", "replace").decode()), now=NOW) is None
