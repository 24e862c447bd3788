"""Whatever is sent to the API, the cookie and the forcing header: an answer, and never a failure of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary import Canary
from agentcanary.config import parse_config
from agentcanary.conversation import SignedCookie, UnusableIdError
from agentcanary.outcome_shapes import SHAPES

TOKEN = "ac_a-token-of-many-characters"
YAML = "agent: support\nstable: v1\ncanary: v2\ncontroller: false\n"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["c-1", "satisfaction", "HUMAN", "1.0", "items.feedback"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["conversation_id", "name", "value", "id", "kind", "data", "specversion", "source", "results", "reason"]
            )
            | st.text(max_size=10),
            inner,
            max_size=6,
        )
    ),
    max_leaves=15,
)
bodies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())
paths = st.sampled_from(
    ["/outcomes", "/outcomes/x", "/outcomes/x/confirmation", "/rollouts", "/rollouts/newest", "/rollouts/newest/pause"]
) | st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), max_size=30).map(lambda text: f"/{text}")
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
headers = st.dictionaries(
    st.sampled_from(["content-type", "ce-specversion", "ce-source", "ce-id", "content-encoding", "x-canary", "accept"]),
    header_text | st.sampled_from(["application/json", "application/cloudevents+json", "1.0", "identity"]),
    max_size=4,
)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTCANARY_TOKEN", TOKEN)
        made = Canary(parse_config(YAML, filename=str(folder / "canary.yaml")), notifiers=[])
    made.start_blocking()
    with made.conversation("c-1"):
        pass
    assert made.recorder.flush_and_wait(5.0)
    yield made
    made.stop_blocking()


async def send(canary: Canary, method: str, path: str, body: bytes, more: dict[str, str], query: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=canary.api(), raise_app_exceptions=True)
    # As clients write it: percent-encoded, whatever it is; httpx refuses anything else before it is sent.
    target = quote(path, errors="replace") + (f"?shape={quote(query, safe='', errors='replace')}" if query else "")
    async with httpx.AsyncClient(transport=transport) as client:
        named = {"content-type": "application/json", **more, "authorization": f"Bearer {TOKEN}"}
        url = httpx.URL("http://agent").copy_with(raw_path=target.encode())
        return await client.request(method, url, content=body, headers=named)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    paths,
    bodies,
    headers,
    st.sampled_from(["", *SHAPES]) | header_text,
)
def test_no_request_makes_the_api_fail(
    canary: Canary, method: str, path: str, body: bytes, more: dict[str, str], query: str
) -> None:
    answer = asyncio.run(send(canary, method, path, body, more, query))
    assert answer.status_code < 500 or answer.status_code == 503
    if answer.status_code >= 400:
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == answer.status_code
        assert TOKEN not in answer.text


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.text(max_size=100))
def test_no_cookie_makes_us_fail_or_is_believed(value: bytes, text: str) -> None:
    cookie = SignedCookie("0123456789abcdef")
    for sent in (value, b"agentcanary=" + value, f"agentcanary={text}".encode("utf-8", "surrogatepass")):
        try:
            assert cookie({"headers": [(b"cookie", sent)]}) is None
        except UnusableIdError:
            continue
