"""Outcomes over HTTP: one, many, in CloudEvents; late, twice, corrected, deleted; and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentcanary import Canary, Outcome
from agentcanary.errors import StoreError

from .conftest import Client, begin, turn

RATED = {"conversation_id": "c-1", "name": "satisfaction", "value": 4, "id": "r-1"}


def stored(canary: Canary, conversation: str = "c-1") -> list[Outcome]:
    assert canary.recorder.flush_and_wait(5.0)
    found = canary.store.conversation("support", conversation)
    return [] if found is None else list(found.outcomes)


async def test_one_outcome_is_recorded_with_all_its_fields(canary: Canary, ask: Client, known: str) -> None:
    sent = {
        **RATED,
        "label": "good",
        "kind": "llm",
        "explanation": "polite\nand right",
        "turn_id": "t-1",
        "confirmed": False,
        "agent": "support",
    }
    answer = await ask("POST", "/outcomes", scope="RECORD", json=sent)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "refused": []})
    (outcome,) = stored(canary)
    assert (outcome.id, outcome.value, outcome.label, outcome.kind.value) == ("r-1", 4.0, "good", "LLM")
    assert (outcome.explanation, outcome.turn_id, outcome.confirmed) == ("polite\nand right", "t-1", False)
    assert outcome.at == canary.clock()


async def test_of_a_list_what_is_wrong_is_refused_by_its_place(canary: Canary, ask: Client, known: str) -> None:
    sent = [RATED, 7, {**RATED, "id": "r-2", "value": "4"}, {**RATED, "conversation_id": "c-9"}, {**RATED, "id": "r-3"}]
    answer = await ask("POST", "/outcomes", scope="RECORD", json=sent)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 2)
    refused = {one["index"]: one["reason"] for one in answer.json()["refused"]}
    assert set(refused) == {1, 2, 3}
    assert "value must be a finite number" in refused[2]
    assert "no turn with this agent" in refused[3]
    assert [outcome.id for outcome in stored(canary)] == ["r-1", "r-3"]


EVENT = {"specversion": "1.0", "type": "rating", "source": "/judge", "id": "7", "time": "2001-01-01T00:00:00Z"}
PLAIN = {"conversation_id": "c-1", "name": "satisfaction", "value": 4}
CLOUD_EVENTS: dict[str, tuple[str, dict[str, str], Any]] = {
    "structured": ("application/cloudevents+json", {}, {**EVENT, "data": PLAIN}),
    "structured, as plain JSON": ("application/json", {}, {**EVENT, "data": PLAIN}),
    "batch": ("application/cloudevents-batch+json", {}, [{**EVENT, "data": PLAIN}]),
    "binary": ("application/json", {f"ce-{key}": value for key, value in EVENT.items()}, PLAIN),
}


@pytest.mark.parametrize(("kind", "headers", "body"), CLOUD_EVENTS.values(), ids=CLOUD_EVENTS)
async def test_a_cloud_event_is_counted_once_and_dated_by_its_arrival(
    canary: Canary, ask: Client, known: str, kind: str, headers: dict[str, str], body: object
) -> None:
    for _ in range(2):
        answer = await ask(
            "POST", "/outcomes", scope="RECORD", headers={"content-type": kind, **headers}, content=json.dumps(body)
        )
        assert answer.json() == {"accepted": 1, "refused": []}
    (outcome,) = stored(canary)
    assert (outcome.id, outcome.at) == ("/judge#7", canary.clock())


async def test_a_later_delivery_corrects_and_a_deletion_leaves_it_missing(
    canary: Canary, ask: Client, known: str
) -> None:
    clock: Any = canary.clock
    await ask("POST", "/outcomes", scope="RECORD", json=RATED)
    clock.advance(3600.0)
    await ask("POST", "/outcomes", scope="RECORD", json={**RATED, "value": 2})
    assert [outcome.value for outcome in stored(canary)] == [2.0]
    clock.advance(60.0)
    assert (await ask("DELETE", "/outcomes/r-1", scope="RECORD")).status_code == 204
    (outcome,) = stored(canary)
    assert outcome.value is None
    assert (await ask("DELETE", "/outcomes/r-9", scope="RECORD")).status_code == 404


async def test_outcomes_of_unknown_and_foreign_conversations_are_refused(canary: Canary, ask: Client) -> None:
    foreign = {**RATED, "conversation_id": "theirs"}
    answer = await ask("POST", "/outcomes", scope="RECORD", json=foreign)
    assert answer.status_code == 422
    assert answer.json()["refused"][0]["index"] == 0
    turn(canary, "ours")
    sales = {**RATED, "conversation_id": "ours", "agent": "sales"}
    answer = await ask("POST", "/outcomes", scope="RECORD", json=sales)
    assert answer.status_code == 422
    assert stored(canary, "theirs") == stored(canary, "ours") == []


async def test_a_judge_that_is_faster_than_the_recorder_is_waited_for(canary: Canary, ask: Client) -> None:
    with canary.conversation("c-2"):
        pass
    answer = await ask("POST", "/outcomes", scope="RECORD", json={**RATED, "conversation_id": "c-2"})
    assert answer.json()["accepted"] == 1


async def test_without_the_store_a_safety_violation_is_taken_and_the_rest_is_sent_again(
    canary: Canary, ask: Client, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(agent: str, units: object) -> frozenset[str]:
        raise StoreError("the store is away")

    monkeypatch.setattr(canary.store, "known_units", away)
    unsafe = {"conversation_id": "c-1", "name": "safety_violation", "value": 1, "id": "v-1"}
    answer = await ask("POST", "/outcomes", scope="RECORD", json=[RATED, unsafe])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert [outcome.id for outcome in stored(canary)] == ["v-1"]
    assert (await ask("POST", "/outcomes", scope="RECORD", json=[{**unsafe, "id": "v-2"}])).status_code == 202
    assert [outcome.id for outcome in stored(canary)] == ["v-1", "v-2"]


BODIES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "empty": (400, {}, b""),
    "no JSON": (400, {}, b"{"),
    "not UTF-8": (400, {}, b'{"value": "\xff"}'),
    "NaN": (400, {}, b'{"value": NaN}'),
    "a number of ten thousand digits": (400, {}, b'{"value": ' + b"9" * 10_000 + b"}"),
    "nested a hundred thousand times": (400, {}, b"[" * 100_000),
    "an empty list": (422, {}, b"[]"),
    "text": (422, {}, b'"satisfaction"'),
    "too many": (422, {}, json.dumps([RATED] * 1001).encode()),
    "too large": (413, {}, b" " * 1_048_577),
    "compressed": (415, {"content-encoding": "gzip"}, b"\x1f\x8b"),
    "a form": (415, {"content-type": "application/x-www-form-urlencoded"}, b"value=1"),
    "no type": (415, {"content-type": ""}, b"{}"),
    "a shape that nobody knows": (422, {"x-shape": "nobody"}, b"{}"),
}


async def test_a_bad_body_is_refused_with_its_reason(canary: Canary, ask: Client, known: str) -> None:
    found, answers = {}, []
    for name, (_, more, body) in BODIES.items():
        headers = {"content-type": "application/json", **more}
        path = "/outcomes?shape=nobody" if headers.pop("x-shape", "") else "/outcomes"
        answer = await ask("POST", path, scope="RECORD", headers=headers, content=body)
        found[name] = answer.status_code
        answers.append(answer)
    assert found == {name: status for name, (status, _, _) in BODIES.items()}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert stored(canary) == []


async def test_a_body_without_an_announced_length_is_capped_too(canary: Canary, ask: Client) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    answer = await ask(
        "POST", "/outcomes", scope="RECORD", headers={"content-type": "application/json"}, content=endless()
    )
    assert answer.status_code == 413


FIELDS: list[tuple[str, object, str]] = [
    ("conversation_id", "", "conversation_id must have 1 to"),
    ("conversation_id", "x" * 1025, "conversation_id must have 1 to"),
    ("conversation_id", "a\x00b", "printable"),
    ("conversation_id", {"$ne": ""}, "must be text, got an object"),
    ("name", None, "name is missing"),
    ("name", "a\nb", "printable"),
    ("value", [1], "finite number"),
    ("value", 10**400, "finite number"),
    ("kind", "GOD", "kind must be code, human, llm"),
    ("confirmed", 1, "true or false"),
    ("score", 4, "'score' is no field of an outcome"),
]


async def test_a_bad_field_is_named(canary: Canary, ask: Client, known: str) -> None:
    for field, value, said in FIELDS:
        answer = await ask("POST", "/outcomes", scope="RECORD", json={**RATED, field: value})
        assert answer.status_code == 422, (field, value)
        assert said in answer.json()["detail"], answer.json()
    assert stored(canary) == []


async def test_a_value_that_is_not_sent_is_no_zero(canary: Canary, ask: Client, known: str) -> None:
    without = {key: value for key, value in RATED.items() if key != "value"}
    assert (await ask("POST", "/outcomes", scope="RECORD", json=without)).status_code == 422
    assert (await ask("POST", "/outcomes", scope="RECORD", json={**RATED, "value": None})).status_code == 202
    assert [outcome.value for outcome in stored(canary)] == [None]


UNSAFE = {"conversation_id": "c-1", "results": [{"flagged": True, "categories": {}, "category_scores": {}}]}


async def test_a_classifiers_hit_stops_nothing_until_a_person_confirms_it(canary: Canary, ask: Client) -> None:
    clock: Any = canary.clock
    rollout = begin(canary)
    canary.controller.tick()
    canary.snapshots.poll()
    clock.advance(60.0)
    unit = next(unit for unit in map("c-{}".format, range(100)) if served_by_canary(canary, unit))
    sent = {**UNSAFE, "id": "modr-1", "conversation_id": unit}
    answer = await ask("POST", "/outcomes?shape=openai-moderation", scope="RECORD", json=sent)
    assert answer.json()["accepted"] == 1
    assert [outcome.confirmed for outcome in stored(canary, unit)] == [False]
    assert canary.store.rollout(rollout).stopped_at is None
    clock.advance(60.0)
    path = "/outcomes/openai-moderation:modr-1:0/confirmation"
    body = {"violation": True, "explanation": "I have read it"}
    assert (await ask("PUT", path, scope="RECORD", json=body)).status_code == 200
    (outcome,) = stored(canary, unit)
    assert (outcome.confirmed, outcome.kind.value) == (True, "HUMAN")
    assert outcome.explanation == "record_token: I have read it"
    assert canary.store.rollout(rollout).stopped_at is not None
    assert canary.view()[0].taken_back


async def test_a_classifiers_hit_that_is_none_counts_as_none(canary: Canary, ask: Client, known: str) -> None:
    clock: Any = canary.clock
    await ask("POST", "/outcomes?shape=openai-moderation", scope="RECORD", json={**UNSAFE, "id": "modr-2"})
    clock.advance(60.0)
    path = "/outcomes/openai-moderation:modr-2:0/confirmation"
    assert (await ask("PUT", path, scope="RECORD", json={"violation": False})).status_code == 200
    assert [(outcome.value, outcome.confirmed) for outcome in stored(canary)] == [(0.0, False)]
    assert (await ask("PUT", path, scope="RECORD", json={"violation": "no"})).status_code == 422
    nobody = await ask("PUT", "/outcomes/none/confirmation", scope="RECORD", json={"violation": True})
    assert nobody.status_code == 404


def served_by_canary(canary: Canary, unit: str) -> bool:
    with canary.conversation(unit) as turn:
        on_canary = turn.version == "support-v2"
    assert canary.recorder.flush_and_wait(5.0)
    return on_canary
