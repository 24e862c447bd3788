"""Forgetting a conversation: what goes, what stays, and that it does not come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from agentcanary.store import Store
from agentcanary.store.schema import metadata
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell
from agentcanary_analysis.metrics import ERROR_RATE

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make

PERSON = "customer-4711"


def everything(store: Store) -> str:
    """All rows of all tables, as text."""
    with store._database.read() as connection:
        tables = metadata.sorted_tables
        return "\n".join(str(tuple(row)) for table in tables for row in connection.execute(select(table)))


def errors(counted: Aggregates, arm: Arm) -> tuple[int, float]:
    tallies = counted.tallies.get(Cell(ERROR_RATE.name, 0, arm), {}).values()
    return sum(tally.units for tally in tallies), sum(tally.total for tally in tallies)


def lived(store: Store, make: Make, *, rollout: str = "r-1", at: float = 10.0, arm: Arm = Arm.CANARY) -> None:
    """A conversation with a turn, outcomes, a pin and an alias."""
    from agentcanary.outcomes import TurnOutcome

    assignment = make.assignment(PERSON, arm, rollout=rollout)
    store.apply(f"turn-{rollout}", make.turn(assignment, at, outcome=TurnOutcome.ERROR))
    store.apply(f"o-{rollout}", [make.outcome(PERSON, at + 2.0, 4.0, name="satisfaction", id=f"{PERSON}-rating")])
    store.put_pin("support", rollout, PERSON, assignment.pin, make.start + at)
    store.put_alias("support", "thread_of_4711", PERSON, make.start + at)


def test_nothing_is_left_of_a_conversation_outside_of_rollouts_or_in_an_ended_one(store: Store, make: Make) -> None:
    for rollout in ("", "r-0"):
        lived(store, make, rollout=rollout)
    done = store.forget("support", PERSON, make.start + 100.0)
    assert done.deleted == {"aliases": 1, "conversations": 2, "outcomes": 1, "pins": 2}
    assert (done.nameless, done.mentions, done.nothing) == (0, {}, False)
    assert store.conversation("support", PERSON) is None
    assert "4711" not in everything(store)


def test_by_an_alias_the_whole_conversation_is_forgotten(store: Store, make: Make) -> None:
    lived(store, make, rollout="")
    assert store.forget("support", "thread_of_4711", make.start + 100.0).deleted["conversations"] == 1
    assert "4711" not in everything(store)


def test_another_agents_conversation_of_the_same_id_is_another_one(store: Store, make: Make) -> None:
    store.apply("b", make.turn(make.assignment(PERSON, rollout="", agent="sales"), 10.0))
    assert store.forget("support", PERSON, make.start + 100.0).nothing
    assert store.conversation("sales", PERSON) is not None


def test_what_is_counted_stays_counted_and_the_person_goes(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    lived(store, make)
    store.count(rollout, make.plan.metrics, make.start + 200.0)
    before = errors(store.aggregates(rollout), Arm.CANARY)
    done = store.forget("support", PERSON, make.start + 200.0)
    assert (done.counted, done.nameless, done.deleted["conversations"]) == (("r-1",), 0, 1)
    assert before == errors(store.aggregates(rollout), Arm.CANARY) == (1, 1.0)
    assert "4711" not in everything(store)


def test_what_is_not_counted_yet_is_counted_without_its_name_and_goes_then(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    lived(store, make)
    store.count(rollout, make.plan.metrics, make.start + 20.0)
    done = store.forget("support", PERSON, make.start + 20.0)
    assert (done.nameless, done.deleted["conversations"]) == (1, 0)
    assert "4711" not in everything(store)
    assert store.prune_nameless() == 0
    store.count(rollout, make.plan.metrics, make.start + 200.0)
    # It was harmed and asked to be forgotten: it counts against the version that served it all the same.
    assert errors(store.aggregates(rollout), Arm.CANARY) == (1, 1.0)
    assert store.prune_nameless() == 1
    assert "forgotten-" not in everything(store)
    assert errors(store.aggregates(rollout), Arm.CANARY) == (1, 1.0)


def test_a_safety_violation_counts_without_the_name_for_as_long_as_its_rollout_runs(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    lived(store, make)
    store.apply("v", [make.outcome(PERSON, 20.0, name="safety_violation", id=f"{PERSON}-violation")])
    store.count(rollout, make.plan.metrics, make.start + 200.0)
    assert store.aggregates(rollout).safety.canary == 1
    store.forget("support", PERSON, make.start + 200.0)
    store.prune_nameless()
    store.prune(make.start + 10_000.0)
    assert store.aggregates(rollout).safety.canary == 1
    stopped = store.current("support")
    assert stopped is not None
    assert stopped.stopped_at is not None
    # Why it stopped names the outcome by the id that its sender gave it; people read that.
    assert PERSON not in everything(store).replace(stopped.stop_reason, "")


def test_what_is_still_on_its_way_does_not_bring_them_back(store: Store, make: Make) -> None:
    lived(store, make, rollout="")
    late = [
        *make.turn(make.assignment(PERSON, rollout=""), 30.0),
        make.outcome(PERSON, 40.0),
        make.outcome("thread_of_4711", 40.0),
        *make.turn(make.assignment("somebody else", rollout=""), 30.0),
    ]
    store.forget("support", PERSON, make.start + 100.0)
    store.apply("late", late)
    assert store.conversation("support", PERSON) is None
    assert store.conversation("support", "somebody else") is not None
    store.apply("judge", [make.outcome(PERSON, 500.0, id="a judge that took its time")])
    assert "4711" not in everything(store)


def test_who_comes_back_begins_anew(store: Store, make: Make) -> None:
    lived(store, make, rollout="")
    store.forget("support", PERSON, make.start + 100.0)
    store.apply("new", make.turn(make.assignment(PERSON, rollout=""), 200.0))
    store.apply("outcome", [make.outcome(PERSON, 201.0)])
    known = store.conversation("support", PERSON)
    assert known is not None
    assert [part.started_at for part in known.parts] == [make.start + 200.0]
    assert len(known.outcomes) == 1


def test_words_that_people_wrote_are_found_and_not_changed(store: Store, make: Make) -> None:
    from agentcanary.rollout import Audit

    why = f"{PERSON} complained"
    audit = Audit(at=make.start, actor="ann", action="create", reason=why, before="", after="pending")
    store.start(make.rollout(), audit)
    assert store.forget("support", PERSON, make.start).mentions == {"audit": 1}
    assert store.audit("r-1")[0].reason == why


def test_no_byte_of_them_is_left_in_the_file(new_store: Callable[[], Store], make: Make, tmp_path: Path) -> None:
    store = new_store()
    store.apply("others", [r for n in range(50) for r in make.turn(make.assignment(f"c-{n}", rollout=""), 1.0)])
    for number in range(5):
        store.apply(f"more-{number}", make.turn(make.assignment(PERSON, rollout=""), float(number)))
    lived(store, make, rollout="")
    store.forget("support", PERSON, make.start + 100.0)
    store.compact()
    path = Path(store.name.removeprefix("sqlite:///"))
    store.close()
    left = [file.name for file in path.parent.glob(f"{path.name}*") if b"4711" in file.read_bytes()]
    assert left == []
