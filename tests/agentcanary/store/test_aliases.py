"""Ids that servers make: the first writer wins, outcomes reach the conversation, and retention takes them along."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make


def test_an_alias_stands_for_its_unit_in_its_agent_only(store: Store) -> None:
    assert store.alias("support", "resp_1") is None
    assert store.put_alias("support", "resp_1", "n-1", 1.0) == "n-1"
    assert store.alias("support", "resp_1") == "n-1"
    assert store.alias("sales", "resp_1") is None


def test_the_first_writer_of_an_alias_wins(store: Store) -> None:
    store.put_alias("support", "resp_1", "n-1", 1.0)
    assert store.put_alias("support", "resp_1", "n-2", 2.0) == "n-1"
    assert store.alias("support", "resp_1") == "n-1"


def test_an_alias_that_no_database_takes_is_stored_all_the_same(store: Store) -> None:
    store.put_alias("support", "a\x00\ud800", "n\x00", 1.0)
    assert store.alias("support", "a\x00\ud800") == "n?"


def test_an_outcome_under_an_alias_is_about_the_conversation(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("n-1"), 0.0))
    store.put_alias("support", "thread_1", "n-1", make.start)
    store.apply("b-2", [make.outcome("thread_1", 5.0), make.outcome("other", 6.0)])
    known = store.conversation("support", "thread_1")
    assert known is not None
    assert known.unit == "n-1"
    assert [outcome.conversation_id for outcome in known.outcomes] == ["n-1"]


def test_a_violation_reported_under_an_alias_stops_the_canary(store: Store, make: Make) -> None:
    store.start(make.rollout())
    store.apply("b-1", make.turn(make.assignment("n-1", Arm.CANARY), 0.0))
    store.put_alias("support", "thread_1", "n-1", make.start)
    store.apply("b-2", [make.outcome("thread_1", 5.0, name="safety_violation")])
    rollout = store.current("support")
    assert rollout is not None
    assert rollout.stopped_at is not None


def test_aliases_are_kept_as_long_as_their_conversation(new_store: Callable[[], Store], make: Make) -> None:
    store = new_store()
    store.apply("b-1", make.turn(make.assignment("n-1"), 0.0))
    store.apply("b-2", make.turn(make.assignment("n-2"), 500.0))
    store.put_alias("support", "resp_1", "n-1", make.start)
    store.put_alias("support", "resp_2", "n-2", make.start)
    store.prune(make.start + 100.0)
    assert store.alias("support", "resp_1") is None
    assert store.alias("support", "resp_2") == "n-2"
