"""Some fields of a JSON document: exactly what ``json.loads`` would give, or nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.conversation import JsonField, JsonReader, Problem, UnusableIdError, finder

TOP = [JsonField("id"), JsonField("session_id")]
DEEP = [JsonField("params.message.contextId"), JsonField("id"), JsonField("params.id")]
KEYS = st.sampled_from(["id", "session_id", "params", "message", "contextId", "x", "é"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
STYLES: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def outcome(place: JsonField, document: object) -> object:
    try:
        return place.find(document)
    except UnusableIdError as unusable:
        return unusable.problem


@quick
@given(st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, st.sampled_from(STYLES))
def test_each_field_is_what_json_gives(document: object, style: dict[str, Any]) -> None:
    text = json.dumps(document, **style).encode()
    for fields in (TOP, DEEP):
        read = JsonReader(fields).read(text)
        for place in fields:
            assert outcome(place, read) == outcome(place, json.loads(text)), place


@quick
@given(st.text(max_size=5), st.text(max_size=5), st.sampled_from(["", " "]), st.booleans())
def test_a_key_that_is_there_twice_is_refused_where_its_values_differ(
    one: str, other: str, space: str, deep: bool
) -> None:
    text = f'{{"id":{space}{json.dumps(one)},{space}"id":{space}{json.dumps(other)}}}'
    place = JsonField("params.id" if deep else "id")
    read = JsonReader([place]).read((f'{{"params":{text}}}' if deep else text).encode())
    expected = outcome(JsonField("id"), {"id": one}) if one == other else Problem.IDS_DISAGREE
    assert outcome(place, read) == expected


@quick
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,id\\u0069 1', max_size=40).map(str.encode))
def test_any_bytes_are_read_as_json_would_or_refused(text: bytes) -> None:
    try:
        expected: object = json.loads(text)
    except ValueError:
        expected = Problem.MALFORMED_JSON
    try:
        found: object = JsonReader(TOP).read(text)
    except UnusableIdError as unusable:
        assert unusable.problem is expected  # noqa: PT017 (the message is the point)
        return
    assert expected is not Problem.MALFORMED_JSON
    shown = outcome(TOP[0], found)
    assert shown is Problem.IDS_DISAGREE or shown == outcome(TOP[0], expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"id": "a", "x": NaN}', "a"),
        (b'{"id": "a", "x": "\\ud83d"}', "a"),
        (b'{"id": "a", "x": [1,]}', Problem.MALFORMED_JSON),
        (b'{"id": "a"} x', Problem.MALFORMED_JSON),
        (b'{"id": "a", "x": "\xff"}', Problem.MALFORMED_JSON),
        (b'{"id": 9007199254740993}', "9007199254740993"),
        (b'{"id": 1e3}', Problem.WRONG_TYPE),
        (b'{"id": "a\\u00e9"}', "aé"),
        (b'{"\\u0069d": "a"}', "a"),
        (b'{"id": "a", "x": ' + b"[" * 100_000, Problem.MALFORMED_JSON),
    ],
    ids=[
        "NaN", "lone surrogate", "trailing comma", "trailing text", "not UTF-8", "more digits than a float has",
        "a float", "an escaped letter of the id", "an escaped key", "deep",
    ],
)  # fmt: skip
def test_the_readers_agree_where_two_parsers_might_not(text: bytes, expected: object) -> None:
    try:
        found = outcome(TOP[0], JsonReader(TOP).read(text))
    except UnusableIdError as unusable:
        found = unusable.problem
    assert found == expected


@quick
@given(st.dictionaries(KEYS, VALUES, max_size=3), st.lists(st.integers(0, 100), max_size=4))
def test_any_json_body_is_handed_on_whole(document: dict[str, object], cuts: list[int]) -> None:
    body = json.dumps(document).encode()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[low:high], "more_body": number < len(edges) - 2}
        for number, (low, high) in enumerate(itertools.pairwise(edges))
    ]
    remaining = [dict(message) for message in messages]

    async def receive() -> dict[str, Any]:
        return remaining.pop(0)

    async def run() -> list[Any]:
        found = await finder().search(scope, receive)
        assert found.unit is None or 1 <= len(found.unit) <= 256
        return [await found.receive() for _ in messages]

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
    assert asyncio.run(run()) == messages
