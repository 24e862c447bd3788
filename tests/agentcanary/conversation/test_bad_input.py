"""Whatever a client sends: the application gets it byte for byte, on stable, counted by what was wrong."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.assignment import Reason
from agentcanary.conversation import PRESETS, Problem, finder
from agentcanary.middleware import CanaryMiddleware
from agentcanary.watching import Watching

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
PLACES: list[tuple[str, object]] = [
    ("header", "x-conversation-id"),
    ("query", "conversation"),
    ("cookie", "conversation"),
    ("composite", [("json", "user"), ("json", "conversation_id")]),
    ("json", "conversation_id"),
    ("form", "conversation_id"),
]


def serve(
    host: FakeHost,
    body: bytes,
    content_type: bytes | None,
    *headers: tuple[bytes, bytes],
    cuts: tuple[int, ...] = (),
    query: bytes = b"",
    path: str = "/chat",
) -> list[Any]:
    """What the application receives of a request."""
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    sent = [
        {"type": "http.request", "body": body[low:high], "more_body": number < len(edges) - 2}
        for number, (low, high) in enumerate(itertools.pairwise(edges))
    ]
    waiting = [dict(message) for message in sent]
    received: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while True:
            received.append(await receive())
            if not received[-1].get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(_: Any) -> None:
        return

    named = [] if content_type is None else [(b"content-type", content_type)]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": [*named, *headers]}
    asyncio.run(CanaryMiddleware(app, canary=host)(scope, receive, send))
    assert received == sent
    return received


@pytest.mark.parametrize(
    ("body", "content_type", "headers", "query", "problem"),
    [
        (b'{"conversation_id": "c', JSON, (), b"", Problem.MALFORMED_JSON),
        (b'{"conversation_id": "c"}' + b" " * 2_000_000, JSON, (), b"", Problem.BODY_TOO_LARGE),
        (b'{"conversation_id": "c"}', b"text/plain", (), b"", Problem.WRONG_CONTENT_TYPE),
        (b'{"conversation_id": {}}', JSON, (), b"", Problem.WRONG_TYPE),
        (b'{"conversation_id": ""}', JSON, (), b"", Problem.EMPTY),
        (b'{"conversation_id": "' + b"x" * 257 + b'"}', JSON, (), b"", Problem.TOO_LONG),
        (b'{"conversation_id": "a", "conversation_id": "b"}', JSON, (), b"", Problem.IDS_DISAGREE),
        (b"conversation_id=a&conversation_id=b", FORM, (), b"", Problem.IDS_DISAGREE),
        (b"", None, ((b"x-conversation-id", b"a"), (b"x-conversation-id", b"b")), b"", Problem.IDS_DISAGREE),
        (b"", None, (), b"conversation=a&conversation=b", Problem.IDS_DISAGREE),
        (b"", None, ((b"x-conversation-id", b"a\x00b"),), b"", Problem.UNPRINTABLE),
        (b"", None, (), b"conversation=a%00b", Problem.UNPRINTABLE),
        (b'{"conversation_id": "a\\u0000b"}', JSON, (), b"", Problem.UNPRINTABLE),
        (gzip.compress(b'{"conversation_id": "c"}'), JSON, ((b"content-encoding", b"gzip"),), b"", Problem.COMPRESSED),
        (b"", None, (), b"", Problem.ABSENT),
    ],
    ids=[
        "malformed JSON", "huge body", "wrong content type", "wrong type", "empty", "too long", "two keys",
        "two fields", "two headers", "two parameters", "NUL in a header", "NUL in a query", "NUL in JSON",
        "compressed", "nothing",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cuts", [(), (1, 5, 9)], ids=["whole", "chunked"])
def test_each_kind_of_bad_input_reaches_stable_and_is_counted_by_its_reason(
    host: FakeHost,
    body: bytes,
    content_type: bytes | None,
    headers: tuple[tuple[bytes, bytes], ...],
    query: bytes,
    problem: Problem,
    cuts: tuple[int, ...],
) -> None:
    host.finder = finder(PLACES)
    serve(host, body, content_type, *headers, query=query, cuts=cuts)
    (ended,) = host.ended
    assert (ended.assignment.version, ended.assignment.reason) == ("support-v1", Reason.NO_CONVERSATION)
    assert ended.assignment.unit == ""
    assert dict(host.without) == {problem.value: 1}
    assert host.kinds == []


KEYS = st.sampled_from(["user", "conversation_id", "threadId", "id", "params"])
WRONG: list[object] = [{}, [1], "a\x00", None, True, 1.5]
DOCUMENTS = st.dictionaries(KEYS, st.sampled_from(WRONG) | st.integers() | st.text(max_size=6), max_size=3)
BODIES = st.one_of(
    st.binary(max_size=80),
    DOCUMENTS.map(lambda document: json.dumps(document).encode()),
    st.text(alphabet="conversation_id=&ab%0\x00", max_size=40).map(str.encode),
    DOCUMENTS.map(lambda document: gzip.compress(json.dumps(document).encode())),
)
TYPES = st.sampled_from(
    [JSON, FORM, b"multipart/form-data; boundary=x", b"multipart/form-data", b"text/plain", b"", b"\xff", None]
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"x-conversation-id", b"cookie", b"content-encoding", b"content-length", b"mcp-session-id"]),
        st.sampled_from([b"a", b"b", b"", b"\x00", b"\xff", b"gzip", b"99999999999999999", b"conversation=\x00; x"]),
    ),
    max_size=3,
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(BODIES, TYPES, HEADERS, st.lists(st.integers(0, 90), max_size=3), st.sampled_from([None, *PRESETS]))
def test_nothing_that_is_sent_is_changed_or_lost_or_breaks_a_request(
    host: FakeHost,
    body: bytes,
    content_type: bytes | None,
    headers: list[tuple[bytes, bytes]],
    cuts: list[int],
    preset: str | None,
) -> None:
    host = type(host)(host.clock, type(host.store)())
    if preset is None:
        host.finder = finder(PLACES)
    else:
        host.finder, host.watching = finder([], presets=[preset]), Watching([preset])
    try:
        serve(host, body, content_type, *headers, cuts=tuple(cuts), path="/v1/responses")
    finally:
        host.pins.close()
        host.aliases.close()
    (ended,) = host.ended
    assert host.kinds == []
    if ended.assignment.reason is Reason.NO_CONVERSATION:
        assert ended.assignment.version == "support-v1"
        assert sum(host.without.values()) == 1
    else:
        assert ended.assignment.unit.replace("\x1f", "").isprintable()
