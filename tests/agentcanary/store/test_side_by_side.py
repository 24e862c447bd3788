"""PostgreSQL writes batches side by side: what SQLite's single writer makes impossible must not happen there either."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from agentcanary.assignment import Pin
from agentcanary.outcomes import Record
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.metrics import ERROR_RATE

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make

pytestmark = pytest.mark.needs("postgresql")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture(params=["postgresql"])
def new_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    server = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("postgresql_template")
    return lambda: server.url(server.new_database(template))


class Held:
    """Lets a batch do everything but commit, until it is released."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = threading.Event()
        self.released = threading.Event()
        count = store._ingest._count_reports

        def wait(connection: object, batch_id: str, reports: object) -> None:
            count(connection, batch_id, reports)  # type: ignore[arg-type] # passed on
            if batch_id == "held":
                self.written.set()
                assert self.released.wait(10.0)

        monkeypatch.setattr(store._ingest, "_count_reports", wait)


def waits(future: Future[None]) -> bool:
    """True when it cannot end yet: it waits for a lock."""
    return not threading.Event().wait(0.2) and not future.done()


def test_a_count_waits_for_a_batch_under_way_that_belongs_to_its_cohort(
    store: Store, make: Make, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.apply("before", make.turn(make.assignment("c-1"), 1.0))
    held = Held(store, monkeypatch)
    batch = pool.submit(store.apply, "held", make.turn(make.assignment("c-2"), 2.0))
    assert held.written.wait(10.0)
    count = pool.submit(store.count, rollout, [ERROR_RATE], make.start + 5000.0)
    assert waits(count)
    held.released.set()
    batch.result(10.0)
    count.result(10.0)
    assert store.aggregates(rollout).assigned == {(0, Arm.STABLE): 2}
    # What comes now joins the next cohort.
    store.apply("after", make.turn(make.assignment("c-3"), 3.0))
    store.count(rollout, [ERROR_RATE], make.start + 6000.0)
    assert store.aggregates(rollout).assigned == {(0, Arm.STABLE): 3}


@pytest.mark.parametrize("first", ["turn", "violation"])
def test_a_violation_and_its_turn_that_are_stored_at_once_cannot_miss_each_other(
    store: Store, make: Make, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    store.start(make.rollout())
    records: dict[str, list[Record]] = {
        "turn": make.turn(make.assignment("c-1", Arm.CANARY), 1.0),
        "violation": [make.outcome("c-1", 1.5, name="safety_violation")],
    }
    held = Held(store, monkeypatch)
    one = pool.submit(store.apply, "held", records.pop(first))
    assert held.written.wait(10.0)
    other = pool.submit(store.apply, "other", records.popitem()[1])
    assert waits(other)
    held.released.set()
    one.result(10.0)
    other.result(10.0)
    rollout = store.current("support")
    assert rollout is not None
    assert rollout.stopped_at is not None
    assert rollout.revision == 1


def test_batches_of_the_same_conversations_never_wait_in_a_circle(
    store: Store, make: Make, pool: ThreadPoolExecutor
) -> None:
    store.start(make.rollout())
    units = [f"c-{number}" for number in range(200)]

    def write(worker: int) -> None:
        for number in range(6):
            order = units if worker % 2 else units[::-1]
            records = [record for unit in order for record in make.turn(make.assignment(unit), number + worker / 10)]
            reports = [make.outcome(unit, 1.0, 0.0, name="safety_violation", id=f"o-{unit}") for unit in order[:20]]
            store.apply(f"{worker}:{number}", [*records, *reports])

    for future in [pool.submit(write, worker) for worker in range(4)]:
        future.result(60.0)
    known = store.conversation("support", "c-7")
    assert known is not None
    assert known.parts[0].turns == 24
    # A report that two workers send in the same moment may count twice; none is lost.
    assert 20 <= store.aggregates(make.rollout()).safety.reports < 80


def test_one_batch_sent_by_two_at_once_is_added_once(store: Store, make: Make, pool: ThreadPoolExecutor) -> None:
    turns = [make.turn(make.assignment(f"c-{number}"), 1.0) for number in range(20)]
    for number, turn in enumerate(turns):
        for future in [pool.submit(store.apply, f"b-{number}", turn) for _ in range(4)]:
            future.result(10.0)
    assert store.live_conversations("support", "r-1", Arm.STABLE, now=make.start + 2.0, idle_after=60.0) == 20
    known = store.conversation("support", "c-7")
    assert known is not None
    assert known.parts[0].turns == 1


def test_of_two_counts_at_once_one_is_refused(store: Store, make: Make, pool: ThreadPoolExecutor) -> None:
    rollout = make.rollout()
    store.start(rollout)
    turns = [record for number in range(300) for record in make.turn(make.assignment(f"c-{number}"), 1.0)]
    store.apply("b-1", turns)
    counts = [pool.submit(store.count, rollout, [ERROR_RATE], make.start + 5000.0) for _ in range(4)]
    refused = sum(count.exception(10.0) is not None for count in counts)
    assert refused < 4
    assert store.aggregates(rollout).assigned == {(0, Arm.STABLE): 300}


def test_a_value_that_no_column_takes_is_refused_for_good(store: Store) -> None:
    with pytest.raises(ValueError, match="a value cannot be stored"):
        store.put_pin("support", "r-1", "c-1", Pin(Arm.CANARY, 2**40), 1.0)
