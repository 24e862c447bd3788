"""The OpenFeature provider, asked by the real OpenFeature client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.track import TrackingEventDetails

from agentcanary import Canary
from agentcanary.config import parse_config
from agentcanary.errors import StoreError
from agentcanary.openfeature import CanaryProvider
from agentcanary.state_machine import Action, ActionKind, advance, new_rollout
from agentcanary.testing import FrozenClock
from agentcanary.transitions import enter

YAML = """
agent: support
stable: support-v1
canary: support-v2
controller: false
canary_stages:
  - {name: small, weight: 0.2, duration_minutes: 30}
  - {name: half, weight: 0.5, duration_minutes: 30}
  - {name: full, weight: 1.0, duration_minutes: 0}
"""
SALT = b"a salt of a rollout in a test"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], Canary]]:
    made: list[Canary] = []
    clock = FrozenClock()

    def make() -> Canary:
        canary = Canary(parse_config(YAML, filename=str(tmp_path / "canary.yaml")), notifiers=[], clock=clock)
        made.append(canary)
        return canary

    yield make
    for canary in made:
        canary.stop_blocking()
    api.clear_providers()


@pytest.fixture
def canary(make: Callable[[], Canary]) -> Canary:
    """A worker that splits new conversations at 20 %."""
    canary = make()
    now, config = canary.clock() - 600.0, canary.config
    rollout = new_rollout("support", config.stable, "support-v2", config.plan, now=now, new_salt=SALT)
    canary.store.start(enter(rollout, 0, now, "test", "", {}).rollout)
    canary.start_blocking()
    canary.snapshots.poll()
    return canary


@pytest.fixture
def client(canary: Canary) -> OpenFeatureClient:
    return client_of(canary)


def client_of(canary: Canary) -> OpenFeatureClient:
    api.set_provider_and_wait(CanaryProvider(canary), domain=str(id(canary)))
    return api.get_client(domain=str(id(canary)))


def about(conversation: str) -> EvaluationContext:
    return EvaluationContext(targeting_key=conversation)


def to_half(canary: Canary) -> None:
    """The next stage, seen by a worker, its hand-over behind it."""
    rollout = canary.store.current("support")
    assert rollout is not None
    action = Action(kind=ActionKind.ADVANCE, actor="test", reason="the next stage")
    transition = advance(rollout, action, now=canary.clock() - 60.0)
    canary.store.save(transition, expected_revision=rollout.revision, now=canary.clock() - 60.0)
    canary.snapshots.poll()


def test_the_share_of_the_canary_is_the_weight_and_all_forms_agree(canary: Canary, client: OpenFeatureClient) -> None:
    arms = []
    for number in range(400):
        context = about(f"c-{number}")
        text = client.get_string_details("support", "none", context)
        value = client.get_object_value("support", {}, context)
        assert isinstance(value, dict)
        assert value["version"] == text.value
        assert client.get_boolean_value("support", False, context) is (text.value == "support-v2") is value["canary"]
        assert text.value == {"stable": "support-v1", "canary": "support-v2"}[text.variant or ""]
        arms.append(text.variant)
    # 400 draws at 20 %: within four standard deviations of 8.
    assert 48 <= arms.count("canary") <= 112


def test_the_answer_is_the_middlewares_whoever_is_asked_first(canary: Canary, client: OpenFeatureClient) -> None:
    for number in range(60):
        unit = f"c-{number}"
        if number % 2:
            asked = client.get_string_value("support", "none", about(unit))
            with canary.conversation(unit) as turn:
                assert turn.version == asked
        else:
            with canary.conversation(unit) as turn:
                served = turn.version
                assert client.get_string_value("support", "none") == served
            assert client.get_string_value("support", "none", about(unit)) == served


def test_no_conversation_changes_its_version_when_the_weight_rises_also_in_another_worker(
    canary: Canary, client: OpenFeatureClient, make: Callable[[], Canary]
) -> None:
    before = {f"c-{n}": client.get_string_value("support", "none", about(f"c-{n}")) for n in range(100)}
    to_half(canary)
    other = make()
    other.start_blocking()
    other.snapshots.poll()
    second = client_of(other)
    for asked in (client, second):
        assert before == {unit: asked.get_string_value("support", "none", about(unit)) for unit in before}
    new = [second.get_string_details("support", "none", about(f"new-{n}")).variant for n in range(100)]
    # 100 draws at 50 %: within four standard deviations of 5.
    assert 30 <= new.count("canary") <= 70


def test_reasons_and_metadata_follow_the_conventions(canary: Canary, client: OpenFeatureClient) -> None:
    first = client.get_string_details("support", "none", about("c-1"))
    again = client.get_string_details("support", "none", about("c-1"))
    assert (first.reason, again.reason) == (Reason.SPLIT, Reason.CACHED)
    assert first.flag_metadata["rollout"] == canary.view()[0].rollout
    assert first.flag_metadata["weight"] == 0.2
    rollout = canary.store.current("support")
    assert rollout is not None
    units = (f"c-{n}" for n in range(100))
    served = next(u for u in units if client.get_boolean_value("support", False, about(u)))
    action = Action(kind=ActionKind.ROLLBACK, actor="test", reason="it is bad")
    rollout = canary.store.rollout(rollout.id)
    transition = advance(rollout, action, now=canary.clock())
    canary.store.save(transition, expected_revision=rollout.revision, now=canary.clock())
    canary.snapshots.poll()
    assert client.get_string_details("support", "none", about("somebody new")).value == "support-v1"
    assert client.get_string_details("support", "none", about(served)).variant == "canary"


@pytest.mark.parametrize(
    ("flag", "context", "code"),
    [
        ("sales", about("c-1"), ErrorCode.FLAG_NOT_FOUND),
        ("support", EvaluationContext(), ErrorCode.TARGETING_KEY_MISSING),
        ("support", None, ErrorCode.TARGETING_KEY_MISSING),
    ],
)
def test_what_cannot_be_answered_gives_the_default(
    client: OpenFeatureClient, flag: str, context: EvaluationContext | None, code: ErrorCode
) -> None:
    found = client.get_string_details(flag, "my default", context)
    assert (found.value, found.reason, found.error_code) == ("my default", Reason.ERROR, code)


def test_a_version_is_no_number(client: OpenFeatureClient) -> None:
    assert client.get_integer_details("support", 7, about("c-1")).error_code is ErrorCode.TYPE_MISMATCH
    assert client.get_float_details("support", 7.5, about("c-1")).value == 7.5


def test_without_the_store_everybody_new_is_on_stable(
    canary: Canary, client: OpenFeatureClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreError("the store is away")

    monkeypatch.setattr(canary.store, "pin", away)
    found = {client.get_string_value("support", "none", about(f"c-{n}")) for n in range(50)}
    assert found == {"support-v1"}
    assert canary.degraded.totals["openfeature"] == 50


def test_tracking_events_are_outcomes(canary: Canary, client: OpenFeatureClient) -> None:
    details = TrackingEventDetails(4.0, {"outcome_id": "rating-1", "kind": "HUMAN", "label": "good"})
    client.track("satisfaction", about("c-1"), details)
    client.track("task_completion", about("c-1"))
    client.track("task_completion")
    assert canary.recorder.flush_and_wait(5.0)
    known = canary.store.conversation("support", "c-1")
    assert known is not None
    found = {outcome.name: outcome for outcome in known.outcomes}
    assert (found["satisfaction"].id, found["satisfaction"].value, found["satisfaction"].label) == (
        "rating-1",
        4.0,
        "good",
    )
    assert found["task_completion"].value == 1.0
    assert canary.degraded.totals["openfeature_track"] == 1


async def test_the_event_loop_is_not_blocked_for_the_answer(client: OpenFeatureClient) -> None:
    text = await client.get_string_value_async("support", "none", about("c-1"))
    assert await client.get_boolean_value_async("support", False, about("c-1")) is (text == "support-v2")
    value = await client.get_object_value_async("support", {}, about("c-1"))
    assert isinstance(value, dict)
    assert value["version"] == text


def test_where_agentcanary_is_switched_off_stable_serves(
    make: Callable[[], Canary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCANARY_DISABLED", "1")
    found = client_of(make()).get_string_details("support", "none", about("c-1"))
    assert (found.value, found.reason) == ("support-v1", Reason.DISABLED)
