"""Reading streams while they pass: the same, however they are cut, and never kept."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.conversation import MadeValue
from agentcanary.protocols import (
    MAX_KEPT,
    NOTHING,
    PROTOCOLS,
    BodyReader,
    EventReader,
    Facts,
    FrameReader,
    Noticed,
)

AGUI = [PROTOCOLS["agui"]]
WORDS = {"type": "TEXT_MESSAGE_CONTENT", "delta": "RUN"}
FAILED = {"type": "RUN_ERROR", "message": "no", "code": "rate_limit"}
FINISHED = {"type": "RUN_FINISHED", "usage": [{"inputTokens": 10, "outputTokens": 2}, {"inputTokens": 1}]}
EVERYTHING = Facts("rate_limit", words=True, input_tokens=11.0, output_tokens=2.0)


def stream(*events: dict[str, Any], end: bytes = b"\n", name: bytes = b"") -> bytes:
    return b"".join(name + b"data: " + json.dumps(event).encode() + end + end for event in events)


def facts_of(reader: EventReader, chunks: list[bytes]) -> Facts:
    facts = NOTHING
    for chunk in chunks:
        noticed = reader.feed(chunk)
        facts = facts.then(noticed.facts) if noticed else facts
    return facts


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_stream_says_the_same_however_it_is_cut(cuts: list[int], end: bytes) -> None:
    text = stream(WORDS, WORDS, FINISHED, FAILED, WORDS, end=end)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    chunks = [text[low:high] for low, high in itertools.pairwise(edges)]
    assert facts_of(EventReader(AGUI), chunks) == EVERYTHING


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_stream_says_the_same_byte_by_byte(end: bytes) -> None:
    text = stream(WORDS, FINISHED, FAILED, end=end)
    assert facts_of(EventReader(AGUI), [text[at : at + 1] for at in range(len(text))]) == EVERYTHING


def test_an_event_may_have_a_name_several_lines_of_data_and_comments() -> None:
    text = b'\xef\xbb\xbf: hi\r\nevent: RunError\r\nid: 7\r\ndata: {"event":\r\ndata: "RunError"}\r\n\r\n'
    assert EventReader([PROTOCOLS["agno"]]).feed(text) == Noticed(Facts("RunError"))


def test_the_first_words_are_noticed_once() -> None:
    reader = EventReader(AGUI)
    assert reader.feed(stream(WORDS)) == Noticed(Facts(words=True))
    assert reader.feed(stream(WORDS)) is None


def test_a_text_that_speaks_of_an_error_is_none() -> None:
    reader = EventReader(AGUI)
    reader.feed(stream(WORDS))
    assert reader.feed(stream({"type": "TEXT_MESSAGE_CONTENT", "delta": 'Say "RUN_ERROR", and RUN_FINISHED'})) is None


@pytest.mark.parametrize("text", [b"data: [DONE]\n\n", b"data: {RUN_ERROR\n\n", b"RUN_ERROR\n\n", b"\n\n"], ids=repr)
def test_what_is_no_document_says_nothing(text: bytes) -> None:
    assert EventReader(AGUI).feed(text) is None


def test_an_event_that_is_not_ended_is_none() -> None:
    assert EventReader(AGUI).feed(b"data: " + json.dumps(FAILED).encode() + b"\n", last=True) is None


def test_an_event_of_any_size_is_not_kept_beyond_the_limit_and_the_next_is_read() -> None:
    reader = EventReader(AGUI)
    chunk = b"data: " + b"RUN_ERROR" * 10_000
    for _ in range(3 * MAX_KEPT // len(chunk)):
        assert reader.feed(chunk) is None
        assert sum(map(sys.getsizeof, reader._kept)) <= MAX_KEPT + len(chunk)
    assert reader.feed(b"x\n\n" + stream(FAILED)) == Noticed(Facts("rate_limit"))


def test_made_ids_are_looked_for_until_an_event_states_one() -> None:
    reader = EventReader([], [MadeValue("response.id")])
    assert reader.feed(stream({"type": "ping"})) is None
    assert reader.feed(stream({"response": {"id": "resp_1"}})) == Noticed(NOTHING, ("resp_1",))
    assert reader.feed(stream({"response": {"id": "resp_2"}})) is None


@pytest.mark.parametrize("cuts", [1, 3], ids=["whole", "in pieces"])
@pytest.mark.parametrize("stated", [True, False], ids=["length known", "length unknown"])
def test_a_body_is_read_with_its_last_bytes(cuts: int, stated: bool) -> None:
    text = json.dumps({"response": {"id": "r-1"}, "type": "RUN_ERROR"}).encode()
    reader = BodyReader(AGUI, [MadeValue("response.id")], length=len(text) if stated else None)
    size = -(-len(text) // cuts)
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    found = [reader.feed(chunk, last=not stated and chunk is chunks[-1]) for chunk in chunks]
    assert found == [None] * (cuts - 1) + [Noticed(Facts("RUN_ERROR"), ("r-1",))]
    assert reader.feed(b"", last=True) is None


def test_a_body_beyond_the_limit_is_passed_on_unread() -> None:
    reader = BodyReader(AGUI)
    assert reader.feed(b'{"type": "RUN_ERROR", "x": "' + b"x" * MAX_KEPT) is None
    assert reader.feed(b'"}', last=True) is None


def test_each_frame_is_a_document() -> None:
    reader = FrameReader(AGUI)
    assert reader.feed(b"RUN_ERROR") is None
    assert reader.feed(json.dumps(FAILED).encode()) == Noticed(Facts("rate_limit"))
