"""Segments: told like outcomes, counted beside the whole, and never deciding."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.assignment import assign, bucket, must_store
from agentcanary.canary import Canary
from agentcanary.config import parse_config
from agentcanary.looking import counted_metrics
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Rollout, view_of
from agentcanary.segments import MOST_NAMES, MOST_VALUES, Room, Segment, counted_as, read_counted, segment, segments_of
from agentcanary.state_machine import Look, advance, new_rollout
from agentcanary.status.reading import counted, situation
from agentcanary.status.status_data import status_data
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm, Cell
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.verdict import Findings

T0 = 1_767_600_000.0
PLAN = Plan(
    stages=(
        Stage(name="half", weight=0.5, duration=60, checks=(parse_check("error_rate_increase < 0.10"),)),
        Stage(name="full", weight=1.0, duration=0),
    )
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/segments.sqlite3")
    yield made
    made.close()


def begun(store: Store) -> Rollout:
    pending = new_rollout("support", "v1", "v2", PLAN, now=T0, new_salt=b"salt")
    store.start(pending)
    started = advance(pending, Look(findings=Findings()), now=T0)
    return store.save(started, expected_revision=0, now=T0)


def serve(store: Store, rollout: Rollout, told: dict[int, list[tuple[str, str]]], *, conversations: int = 200) -> None:
    """Conversations of one turn each; those that are named are told to belong to segments, in this order."""
    rng = random.Random(3)
    view = view_of("support", rollout, stable="v1", canary="v2", handover=0.0)
    records: list[Record] = []
    for number in range(conversations):
        at, unit = T0 + 10 + number, f"c{number}"
        given_ = assign(view, unit, bucket(view.salt, unit), now=at, fresh=True)
        if must_store(given_):
            store.put_pin("support", view.rollout, unit, given_.pin, at)
        outcome = TurnOutcome.ERROR if rng.random() < 0.1 else TurnOutcome.OK
        records += [TurnStarted(unit, given_, at), TurnEnded(unit, given_, at, at + 1, 1.0, 0.5, outcome)]
        for position, (name, value) in enumerate(told.get(number, ())):
            records.append(
                Outcome(
                    id=f"{name}-{number}-{position}",
                    agent="support",
                    conversation_id=unit,
                    name=Segment(name, value).outcome,
                    value=1.0,
                    at=at + position,
                )
            )
    store.apply("batch", records)


def count(store: Store, rollout: Rollout) -> None:
    store.count(rollout, counted_metrics(PLAN), T0 + 86_400)


def units(store: Store, rollout: Rollout, of: Segment) -> dict[Arm, int]:
    found = store.segments(rollout)[of]
    return {arm: found.tally("error_rate", 0, arm).units for arm in Arm}


def test_each_segment_is_counted_like_the_whole(store: Store) -> None:
    rollout = begun(store)
    serve(store, rollout, {number: [("language", "de" if number % 4 else "en")] for number in range(200)})
    count(store, rollout)
    whole = store.aggregates(rollout)
    parts = store.segments(rollout)
    assert list(parts) == [Segment("language", "de"), Segment("language", "en")]
    for metric in ("error_rate", "p95_latency"):
        for arm in Arm:
            total = whole.tally(metric, 0, arm)
            tallies = [part.tally(metric, 0, arm) for part in parts.values()]
            assert sum(tally.units for tally in tallies) == total.units
            assert sum(tally.total for tally in tallies) == pytest.approx(total.total)
    assert sum(part.tally("error_rate", 0, Arm.CANARY).units for part in parts.values()) > 50
    bins = [part.histogram("p95_latency", 0, Arm.STABLE) for part in parts.values()]
    assert sum(sum(one.values()) for one in bins) == sum(whole.histogram("p95_latency", 0, Arm.STABLE).values())


def test_the_whole_and_its_verdict_know_nothing_of_segments(tmp_path: Path) -> None:
    found = []
    for told in ({}, {number: [("tenant", f"t{number % 7}")] for number in range(200)}):
        store = Store(f"sqlite:///{tmp_path}/{len(told)}.sqlite3")
        rollout = begun(store)
        serve(store, rollout, told)
        count(store, rollout)
        known = counted(store, rollout)
        found.append((known.aggregates, known.findings))
        assert all(isinstance(cell, Cell) and "@" not in cell.metric for cell in known.aggregates.tallies)
        store.close()
    assert found[0] == found[1]


def test_a_conversation_is_counted_under_what_was_told_last_before_it_came_of_age(store: Store) -> None:
    rollout = begun(store)
    serve(store, rollout, {0: [("language", "de"), ("language", "en")], 1: [("language", "en")]})
    count(store, rollout)
    assert sum(units(store, rollout, Segment("language", "en")).values()) == 2
    assert Segment("language", "de") not in store.segments(rollout)
    late = Outcome(
        id="late", agent="support", conversation_id="c2", name="segment.language=fr", value=1.0, at=T0 + 90_000
    )
    store.apply("late", [late])
    store.count(rollout, counted_metrics(PLAN), T0 + 2 * 86_400)
    assert Segment("language", "fr") not in store.segments(rollout)


def test_many_values_are_counted_together_and_many_names_not_at_all(store: Store) -> None:
    rollout = begun(store)
    serve(store, rollout, {number: [("tenant", f"t{number}")] for number in range(50)})
    count(store, rollout)
    found = store.segments(rollout)
    assert len(found) == MOST_VALUES + 1
    assert sum(units(store, rollout, Segment("tenant", "other")).values()) == 50 - MOST_VALUES
    room = Room([])
    assert len(room.of({f"n{number}": "x" for number in range(9)})) == MOST_NAMES


def test_status_shows_each_segment_beside_the_whole(store: Store) -> None:
    rollout = begun(store)
    serve(store, rollout, {number: [("language", "de" if number % 4 else "en")] for number in range(200)})
    count(store, rollout)
    (group,) = status_data(situation(store, rollout, now=T0 + 86_400))["segments"]
    assert group["name"] == "language"
    assert [(row["value"], row["stable"] + row["canary"]) for row in group["rows"]] == [("de", 150), ("en", 50)]
    assert [line["metric"] for line in group["rows"][0]["metrics"]] == ["error_rate"]
    line = group["rows"][0]["metrics"][0]
    assert line["stable"]["events"] <= line["stable"]["n"]
    assert line["interval"]["low"] < line["relative_change"] < line["interval"]["high"]


def test_an_application_tells_a_segment(tmp_path: Path) -> None:
    canary = Canary(parse_config("agent: support\nstable: v1\n", str(tmp_path / "canary.yaml")), notifiers=[])
    told: list[Record] = []
    canary.put = told.append
    canary.recorder.put = told.append  # type: ignore[method-assign,assignment] # what is told is looked at, not stored
    canary.segment("c1", language="de", tenant="acme")
    names = [record.name for record in told if isinstance(record, Outcome)]
    assert names == ["segment.language=de", "segment.tenant=acme"]
    with pytest.raises(ValueError, match="name has up to 32"):
        canary.segment("c1", Language="de")
    with pytest.raises(ValueError, match="must be 1 to 64 printable characters"):
        canary.segment("c1", language="")
    assert len(told) == 2


@pytest.mark.parametrize("value", ["", " de", "de ", "a\nb", "x" * 65, "a\x00"])
def test_a_value_that_cannot_be_shown_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        segment("language", value)


@given(metric=st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), value=st.text(min_size=1, max_size=64))
def test_what_is_counted_is_read_as_it_was_written(metric: str, value: str) -> None:
    of = Segment("language", value)
    assert read_counted(counted_as(metric, of)) == (metric, of)
    assert read_counted(metric) is None
    assert segments_of([(of.outcome, 1.0)]) == {"language": value}
