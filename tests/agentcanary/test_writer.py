"""One pass of the recorder's thread: into the store, or onto the disk and from there into the store, each once."""

from __future__ import annotations

import errno
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentcanary.assignment import Assignment, Buckets, Reason, RolloutView
from agentcanary.backlog import Waiting, decode, encode
from agentcanary.errors import StoreError
from agentcanary.journal import Journal
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.share import Share
from agentcanary.store import Batch, Worker, coalesce
from agentcanary.writer import Settings, Writer
from agentcanary_analysis.aggregates import Arm

VIEW = RolloutView(agent="support", rollout="r-1", stable="v1", canary="v2", epoch=0, weight=0.5, open=True)


class Clock:
    speed = 1.0

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def turn(unit: str, at: float = 1_000_000.0, arm: Arm = Arm.STABLE) -> list[Record]:
    assignment = Assignment(VIEW, unit, arm, VIEW.version(arm), Reason.SPLIT, 0, Buckets(0.3, 7), None, True)
    name = f"turn-{unit}-{at}"
    return [
        TurnStarted(name, assignment, at),
        TurnEnded(name, assignment, at, at + 1.0, 1.0, None, TurnOutcome.OK),
    ]


def violation(unit: str = "c-1") -> Outcome:
    return Outcome(
        id=f"o-{unit}", agent="support", conversation_id=unit, name="safety_violation", value=1.0, at=1_000_001.0
    )


@dataclass
class Shelf:
    """A store in memory that can be broken."""

    batches: dict[str, Batch] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    workers: dict[str, Worker] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    broken: bool = False
    broken_after_commit: bool = False
    refuses: str | None = None
    settled: set[str] = field(default_factory=set)

    def add(self, batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        if self.broken:
            raise StoreError("broken")
        if any(row.unit == self.refuses for row in batch.conversations):
            raise OverflowError("a number that is too large")
        self.sent.append(batch_id)
        assert batch_id not in self.settled, "a settled batch was sent again"
        self.settled.update(settled)
        self.batches[batch_id] = batch
        if self.broken_after_commit:
            raise StoreError("the answer was lost")

    def heartbeat(self, worker: Worker) -> None:
        if self.broken:
            raise StoreError("broken")
        self.workers[worker.id] = worker

    def leave(self, worker_id: str) -> None:
        self.left.append(worker_id)

    @property
    def units(self) -> list[str]:
        return sorted(row.unit for batch in self.batches.values() for row in batch.conversations)


@dataclass
class Bench:
    """A recorder's thread without its thread: passes are made by hand, times are set by hand."""

    folder: Path
    shelf: Shelf
    clock: Clock
    seconds: float = 1000.0
    cpu: float = 0.0
    failures: list[tuple[str, BaseException | None]] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)

    def writer(self, queue: deque[Record], **changes: object) -> Writer:
        settings = {
            "store": self.shelf,
            "clock": self.clock,
            "folder": self.folder,
            "worker_id": "w",
            "agent": "support",
            "config_hash": "abc",
            "max_batch": 4,
            "max_queue": 8,
            "max_journal": 2**30,
            "share": 0.1,
            "heartbeat_every": 1.0,
            "degraded": lambda kind, error: self.failures.append((kind, error)),
            "totals": lambda: {"pin_lookup": 3},
        }
        made = Writer(
            Settings(**(settings | changes)),  # type: ignore[arg-type] # changed by name
            queue,
            wall=lambda: self.seconds,
            monotonic=lambda: self.seconds,
            cpu=lambda: self.cpu,
            used=lambda: self.seconds,
        )
        self.writers.append(made)
        return made

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.failures]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "journals", Shelf(), Clock())
    yield made
    for writer in made.writers:
        writer.close()


def test_a_pass_empties_the_queue_into_the_store_in_batches(bench: Bench) -> None:
    queue = deque(record for number in range(3) for record in turn(f"c-{number}"))
    writer = bench.writer(queue)
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-0", "c-1", "c-2"]
    assert bench.shelf.sent == [f"{writer.name}:1", f"{writer.name}:2"]
    assert not queue
    assert bench.failures == []


def test_nothing_is_written_to_the_disk_while_the_store_takes_it(bench: Bench) -> None:
    writer = bench.writer(deque(turn("c-1")))
    writer.write(whole=True)
    assert [path.suffix for path in bench.folder.iterdir()] == [".lock"]


def test_what_the_store_does_not_take_waits_on_the_disk_and_keeps_its_id(bench: Bench) -> None:
    queue = deque(turn("c-1"))
    writer = bench.writer(queue)
    bench.shelf.broken = True
    assert not writer.write(whole=True)
    assert writer.journal_bytes > 0
    assert "recorder_store" in bench.kinds
    bench.shelf.broken = False
    queue.extend(turn("c-2"))
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-1", "c-2"]
    assert bench.shelf.sent == [f"{writer.name}:2", f"{writer.name}:1"]
    assert writer.journal_bytes == 0


def test_a_store_that_fails_is_asked_again_after_a_second_and_not_before(bench: Bench) -> None:
    queue: deque[Record] = deque()
    writer = bench.writer(queue)
    bench.shelf.broken = True
    for seconds in (0.0, 0.1, 0.9, 1.1):
        bench.seconds = 1000.0 + seconds
        queue.extend(turn(f"c-{seconds}"))
        writer.write(whole=False)
    asked = [kind for kind in bench.kinds if kind == "recorder_store"]
    bench.shelf.broken = False
    bench.seconds += 2.0
    assert len(asked) == 2
    assert writer.write(whole=False)
    assert len(bench.shelf.units) == 4


def test_a_lost_answer_sends_the_batch_again_under_the_same_id(bench: Bench) -> None:
    writer = bench.writer(deque(turn("c-1")))
    bench.shelf.broken_after_commit = True
    writer.write(whole=True)
    bench.shelf.broken_after_commit = False
    writer.write(whole=True)
    assert bench.shelf.sent == [f"{writer.name}:1"] * 2
    assert bench.shelf.units == ["c-1"]


def test_a_batch_is_settled_only_when_it_can_never_come_back(bench: Bench) -> None:
    queue = deque(turn("c-1"))
    writer = bench.writer(queue)
    bench.shelf.broken = True
    writer.write(whole=True)
    queue.extend(turn("c-2"))
    writer.write(whole=True)
    bench.shelf.broken = False
    waited = {f"{writer.name}:1", f"{writer.name}:2"}
    # The first of two that wait is stored; while the second is on the disk, a crash would bring back both.
    sending = writer._stored
    taken: list[str] = []

    def once(waiting: Waiting) -> bool:
        taken.append(waiting.batch_id)
        return len(taken) == 1 and sending(waiting)

    writer._stored = once  # type: ignore[method-assign] # the store breaks between two batches
    writer.write(whole=True)
    writer._stored = sending  # type: ignore[method-assign]
    queue.extend(turn("c-3"))
    writer.write(whole=True)
    assert not waited & bench.shelf.settled
    queue.extend(turn("c-4"))
    writer.write(whole=True)
    assert waited <= bench.shelf.settled


def test_the_thread_takes_its_share_of_the_processor_and_leaves_the_rest_on_the_disk(bench: Bench) -> None:
    queue: deque[Record] = deque()
    writer = bench.writer(queue)
    add = bench.shelf.add

    def costly(batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        bench.cpu += 0.05
        add(batch_id, batch, settled)

    bench.shelf.add = costly  # type: ignore[method-assign] # takes time
    stored, backlog = [], []
    for number in range(40):
        bench.seconds += 0.1
        queue.extend(turn(f"c-{number}"))
        writer.write(whole=False)
        stored.append(len(bench.shelf.units))
        backlog.append(writer.journal_bytes)
    # Ten per cent of a second is two batches of 50 ms; old backlog makes the share a little larger.
    assert 8 <= stored[-1] <= 11
    assert backlog[-1] > backlog[10] > 0
    assert bench.failures == []
    assert writer.write(whole=True)
    assert len(bench.shelf.units) == 40


def test_an_old_backlog_makes_the_share_larger() -> None:
    allowances = []
    for waited in (0.0, 10.0, 20.0, 10_000.0):
        share = Share(0.1, now=50.0, used=0.0)
        share.spend(0.1)
        share.refill(50.5, 0.5, waited)
        allowances.append(share.allowance)
    assert allowances == pytest.approx([0.05, 0.075, 0.1, 0.45])


def test_an_idle_process_has_time_to_spare() -> None:
    share = Share(0.03, now=0.0, used=0.0)
    share.refill(1.0, used=0.5, waited=0.0)
    assert share.allowance == 0.25
    share.refill(2.0, used=1.5, waited=0.0)
    assert share.allowance == 0.03


def test_neither_a_quiet_hour_nor_a_long_pass_decides_about_the_next_minute() -> None:
    share = Share(0.1, now=0.0, used=0.0)
    share.refill(3600.0, 3600.0, 0.0)
    assert share.allowance == 0.1
    share.spend(60.0)
    assert share.allowance == -0.1
    with pytest.raises(ValueError, match="share must be a share of one processor"):
        Share(10.0, now=0.0, used=0.0)


def test_time_that_is_reported_as_flushed_stands_still_while_something_waits(bench: Bench) -> None:
    queue: deque[Record] = deque()
    writer = bench.writer(queue)
    assert writer.flushed_until == 1_000_000.0 - 1.0
    bench.clock.now += 10.0
    writer.write(whole=False)
    assert writer.flushed_until == 1_000_009.0
    bench.shelf.broken = True
    queue.extend(turn("c-1"))
    bench.clock.now += 10.0
    writer.write(whole=False)
    bench.clock.now += 10.0
    bench.seconds += 10.0
    writer.write(whole=False)
    assert writer.flushed_until == 1_000_009.0
    bench.shelf.broken = False
    bench.seconds += 10.0
    writer.write(whole=False)
    assert writer.flushed_until == 1_000_029.0


def test_a_heartbeat_says_what_the_worker_is_and_since_when_it_reached_the_store(bench: Bench) -> None:
    writer = bench.writer(deque())
    writer.write(whole=False)
    bench.clock.now, bench.seconds = 1_000_100.0, 1100.0
    writer.write(whole=False)
    worker = bench.shelf.workers[writer.name]
    assert (worker.agent, worker.config_hash, worker.degraded) == ("support", "abc", {"pin_lookup": 3})
    assert (worker.started_at, worker.reachable_since, worker.heartbeat_at) == (1_000_000.0, 1_000_000.0, 1_000_100.0)
    bench.shelf.broken = True
    bench.clock.now, bench.seconds = 1_000_200.0, 1200.0
    writer.write(whole=False)
    bench.shelf.broken = False
    bench.clock.now, bench.seconds = 1_000_300.0, 1300.0
    writer.write(whole=False)
    assert bench.shelf.workers[writer.name].reachable_since == 1_000_300.0


def test_a_safety_violation_is_on_the_disk_before_anything_else_and_stored_with_what_came_before(bench: Bench) -> None:
    queue = deque(turn("c-1"))
    writer = bench.writer(queue)
    writer.save_now(violation())
    assert [path.suffix for path in bench.folder.iterdir()].count(".journal") == 1
    bench.cpu += 100.0
    writer.write(whole=False)
    batches = list(bench.shelf.batches.values())
    assert [len(batch.outcomes) for batch in batches] == [0, 1]
    assert bench.shelf.units == ["c-1"]
    assert writer.write(whole=True)
    assert [path.suffix for path in bench.folder.iterdir()].count(".journal") == 0


def test_a_safety_violation_does_not_wait_for_the_backlog(bench: Bench) -> None:
    queue: deque[Record] = deque()
    writer = bench.writer(queue)
    bench.shelf.broken = True
    for number in range(5):
        queue.extend(turn(f"c-{number}"))
        writer.write(whole=False)
    bench.shelf.broken = False
    writer._affordable = lambda: False  # type: ignore[method-assign] # no time for anything that can wait
    writer.save_now(violation())
    writer.write(whole=False)
    assert [len(batch.outcomes) for batch in bench.shelf.batches.values()] == [1]
    assert bench.shelf.units == []


def test_a_safety_violation_that_the_store_does_not_take_waits_on_the_disk(bench: Bench) -> None:
    writer = bench.writer(deque())
    bench.shelf.broken = True
    writer.save_now(violation())
    writer.write(whole=False)
    writer.close()
    bench.shelf.broken = False
    following = bench.writer(deque())
    assert following.write(whole=True)
    assert [len(batch.outcomes) for batch in bench.shelf.batches.values()] == [1]


def test_the_journal_of_a_dead_worker_is_adopted(bench: Bench) -> None:
    dead = bench.writer(deque(turn("c-1")))
    bench.shelf.broken = True
    dead.write(whole=True)
    dead.close()
    assert bench.shelf.left == []
    bench.shelf.broken = False
    writer = bench.writer(deque())
    assert writer.write(whole=True)
    assert bench.shelf.sent == [f"{dead.name}:1"]
    # Nothing more comes from it: nobody need wait for its heartbeat.
    assert bench.shelf.left == [dead.name]
    assert [path.name for path in bench.folder.iterdir()] == [f"{writer.name}.lock"]


def test_time_stands_still_while_an_adopted_journal_waits(bench: Bench) -> None:
    dead = bench.writer(deque(turn("c-1")))
    bench.shelf.broken = True
    dead.write(whole=True)
    dead.close()
    writer = bench.writer(deque())
    bench.clock.now += 60.0
    writer.write(whole=False)
    assert writer.flushed_until == 1_000_000.0 - 1.0


def test_a_record_that_is_none_does_not_take_the_others_with_it(bench: Bench) -> None:
    queue = deque([*turn("c-1"), TurnStarted("t", None, 1.0), *turn("c-2")])  # type: ignore[arg-type] # broken
    writer = bench.writer(queue, max_batch=100)
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-1", "c-1", "c-2", "c-2"]
    assert bench.kinds == ["recorder_refused"]
    assert writer.counters["refused"] == 1


def test_a_row_that_no_store_takes_does_not_block_the_others(bench: Bench) -> None:
    writer = bench.writer(deque([*turn("c-1"), *turn("c-2"), *turn("c-3")]), max_batch=100)
    bench.shelf.refuses = "c-2"
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-1", "c-3"]
    assert bench.kinds == ["recorder_refused"]


def test_without_a_disk_batches_wait_in_memory_and_what_is_too_much_is_counted(bench: Bench) -> None:
    bench.folder.write_text("a file where a folder should be")
    queue = deque(record for number in range(8) for record in turn(f"c-{number}"))
    writer = bench.writer(queue)
    bench.shelf.broken = True
    assert not writer.write(whole=True)
    # Two batches of four records are all that max_queue=8 allows.
    assert writer.counters["dropped"] == 4
    assert bench.kinds.count("recorder_dropped") == 2
    assert "recorder_journal" in bench.kinds
    bench.shelf.broken = False
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-0", "c-1", "c-2", "c-3"]


def test_a_journal_that_is_too_long_makes_the_store_take_everything_at_once(bench: Bench) -> None:
    queue: deque[Record] = deque()
    writer = bench.writer(queue, max_journal=100)
    writer._affordable = lambda: False  # type: ignore[method-assign] # no time for anything that can wait
    for number in range(3):
        queue.extend(turn(f"c-{number}"))
        writer.write(whole=False)
    assert bench.shelf.units == ["c-1", "c-2"]


def test_damaged_bytes_in_an_adopted_journal_are_reported(bench: Bench) -> None:
    journal = Journal(bench.folder, "dead")
    journal.append(encode(Waiting("dead:1", 0.0, coalesce(turn("c-1")))))
    journal.append(b"not a batch")
    journal.append(encode(Waiting("dead:3", 0.0, coalesce(turn("c-3")))))
    journal.close()
    writer = bench.writer(deque())
    assert writer.write(whole=True)
    assert bench.shelf.units == ["c-1", "c-3"]
    assert bench.kinds == ["recorder_journal"]


def test_a_writer_that_stored_everything_leaves_nothing_behind(bench: Bench) -> None:
    writer = bench.writer(deque(turn("c-1")))
    writer.write(whole=True)
    writer.close()
    assert bench.shelf.left == [writer.name]
    assert list(bench.folder.iterdir()) == []


def test_what_spills_under_pressure_is_not_lost(bench: Bench) -> None:
    queue = deque(record for number in range(6) for record in turn(f"c-{number}"))
    writer = bench.writer(queue)
    writer.spill()
    assert len(queue) == 8
    assert bench.kinds == ["recorder_overload"]
    assert writer.write(whole=True)
    assert len(bench.shelf.units) == 6


def test_a_batch_is_read_from_the_journal_as_it_was_written() -> None:
    waiting = Waiting("w:1", 5.0, coalesce([*turn("c-1"), violation()]))
    assert decode(encode(waiting)) == waiting


class Evil:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return errno.errorcode.get, (1,)


@pytest.mark.parametrize("entry", [b"", b"x", pickle.dumps(Evil()), pickle.dumps(("w:1", 1.0)), pickle.dumps(None)])
def test_bytes_that_are_no_batch_are_refused_and_run_nothing(entry: bytes) -> None:
    with pytest.raises(ValueError, match="not a batch"):
        decode(entry)


@pytest.mark.parametrize("name", ["", "a/b", "a\x00"])
def test_a_worker_id_must_be_able_to_name_a_file(bench: Bench, name: str) -> None:
    with pytest.raises(ValueError, match="part of a file's name"):
        bench.writer(deque(), worker_id=name)
