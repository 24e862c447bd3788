"""What was put is stored once, or waits on the disk until it is; nothing is lost in silence."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentcanary.assignment import Assignment, Buckets, Reason, RolloutView
from agentcanary.clock import SystemClock
from agentcanary.errors import StoreError
from agentcanary.observe import Turn
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.plan import Plan, Stage
from agentcanary.recorder import Recorder
from agentcanary.rollout import Phase, Rollout
from agentcanary.store import Batch, Store
from agentcanary_analysis.aggregates import Arm, Epoch

VIEW = RolloutView(agent="support", rollout="r-1", stable="v1", canary="v2", epoch=0, weight=0.5, open=True)
# Real seconds that something may take on a busy machine; nothing waits that long when all is well.
PATIENCE = 30.0


def turn(unit: str, at: float = 1_000_000.0, arm: Arm = Arm.STABLE) -> list[Record]:
    assignment = Assignment(VIEW, unit, arm, VIEW.version(arm), Reason.SPLIT, 0, Buckets(0.3, 7), None, True)
    name = f"turn-{unit}-{at}"
    return [
        TurnStarted(name, assignment, at),
        TurnEnded(name, assignment, at, at + 1.0, 1.0, None, TurnOutcome.OK),
    ]


def violation(unit: str) -> Outcome:
    return Outcome(
        id=f"o-{unit}", agent="support", conversation_id=unit, name="safety_violation", value=1.0, at=1_000_001.0
    )


class Switch:
    """A store that can be switched off, or made to wait."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.broken = False
        self.gate: threading.Event | None = None

    def add(self, batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        if self.gate is not None:
            self.gate.wait(PATIENCE)
        if self.broken:
            raise StoreError("switched off")
        self.store.add(batch_id, batch, settled)

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{path}")
    made.open()
    yield made
    made.close()


@pytest.fixture
def recorder(store: Store, tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def new(**changes: object) -> Recorder:
        settings = {"store": store, "clock": SystemClock(), "journal_path": tmp_path / "journals", "worker_id": "w"}
        made.append(Recorder(**(settings | {"agent": "support"} | changes)))  # type: ignore[arg-type] # by name
        return made[-1]

    yield new
    for one in made:
        one.close()


def turns(path: Path) -> dict[str, int]:
    """Turns stored of each conversation."""
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT unit, turns FROM conversations").fetchall())
    finally:
        connection.close()


def test_what_was_put_is_stored(recorder: Callable[..., Recorder], path: Path) -> None:
    one = recorder()
    for number in range(3000):
        for record in turn(f"c-{number % 1000}", number):
            one.put(record)
    assert one.flush_and_wait(PATIENCE)
    assert turns(path) == {f"c-{number}": 3 for number in range(1000)}
    assert one.counters["queue"] == 0


def test_it_is_stored_without_anybody_waiting_for_it(recorder: Callable[..., Recorder], path: Path) -> None:
    one = recorder()
    for record in turn("c-1"):
        one.put(record)
    deadline = time.monotonic() + PATIENCE
    while not turns(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert turns(path) == {"c-1": 1}


class Going:
    """A turn that goes on until it is told to end."""

    def __init__(self, sink: Recorder, unit: str) -> None:
        host = SimpleNamespace(clock=SystemClock(), put=sink.put, degraded=None, telemetry=None)
        started, _ = turn(unit)
        assert isinstance(started, TurnStarted)
        self.turn = Turn(host, started.assignment, time.perf_counter(), started.started_at, nothing, nothing)


async def nothing(*_: object) -> Any:
    raise AssertionError("no message is sent")


def rows(path: Path) -> dict[str, tuple[int, int, int]]:
    """Turns, open ones and errors of each conversation."""
    connection = sqlite3.connect(path)
    try:
        return {
            unit: (n, o, e)
            for unit, n, o, e in connection.execute("SELECT unit, turns, open, errors FROM conversations")
        }
    finally:
        connection.close()


def test_a_turn_is_stored_while_it_goes_on_and_again_when_it_has_ended(
    recorder: Callable[..., Recorder], path: Path
) -> None:
    one = recorder()
    going, short = Going(one, "long").turn, Going(one, "short").turn
    for begun in (going, short):
        one.put(begun)
    short.end(TurnOutcome.OK)
    assert one.flush_and_wait(PATIENCE)
    assert rows(path) == {"long": (1, 1, 0), "short": (1, 0, 0)}
    going.end(TurnOutcome.ERROR, "ValueError")
    assert one.flush_and_wait(PATIENCE)
    assert rows(path) == {"long": (1, 0, 1), "short": (1, 0, 0)}
    assert one.flush_and_wait(PATIENCE)
    assert rows(path)["long"] == (1, 0, 1), "an end counts once"


def test_a_turn_that_outlives_its_recorder_is_ended_all_the_same(recorder: Callable[..., Recorder], path: Path) -> None:
    one = recorder()
    going = Going(one, "long").turn
    one.put(going)
    one.close()
    assert rows(path) == {"long": (1, 1, 0)}
    going.end(TurnOutcome.ABORTED)
    assert one.flush_and_wait(PATIENCE)
    assert rows(path) == {"long": (1, 0, 0)}


def test_nothing_starts_before_the_first_record(recorder: Callable[..., Recorder], tmp_path: Path) -> None:
    before = threading.active_count()
    one = recorder()
    assert threading.active_count() == before
    assert not (tmp_path / "journals").exists()
    one.start()
    one.start()
    assert threading.active_count() == before + 1
    one.close()
    assert threading.active_count() == before


def test_closing_drains_and_a_later_record_starts_it_again(
    recorder: Callable[..., Recorder], store: Store, path: Path
) -> None:
    one = recorder()
    for number in range(2):
        for record in turn(f"c-{number}"):
            one.put(record)
        one.close()
        assert turns(path) == {f"c-{earlier}": 1 for earlier in range(number + 1)}
        assert store.workers() == []


def test_waiting_ends_when_the_store_is_back(
    recorder: Callable[..., Recorder], store: Store, path: Path, tmp_path: Path
) -> None:
    switch = Switch(store)
    switch.broken = True
    failures: list[str] = []
    one = recorder(store=switch, degraded=lambda kind, _error: failures.append(kind))
    for record in turn("c-1"):
        one.put(record)
    assert not one.flush_and_wait(0.3)
    assert one.counters["journal_bytes"] > 0
    assert set(failures) == {"recorder_store"}
    switch.broken = False
    assert one.flush_and_wait(PATIENCE)
    assert turns(path) == {"c-1": 1}
    assert list((tmp_path / "journals").glob("*.journal")) == []


def test_a_safety_violation_is_on_the_disk_when_put_returns(
    recorder: Callable[..., Recorder], store: Store, tmp_path: Path
) -> None:
    switch = Switch(store)
    switch.broken = True
    one = recorder(store=switch)
    one.put(violation("c-1"))
    (journal,) = (tmp_path / "journals").glob("*.journal")
    assert b"safety_violation" in journal.read_bytes()


def test_a_safety_violation_stops_the_rollout_at_once(recorder: Callable[..., Recorder], store: Store) -> None:
    plan = Plan(stages=(Stage(name="first", weight=0.5, duration=60.0), Stage(name="full", weight=1.0, duration=0.0)))
    epochs = (Epoch(number=0, weight=0.5, stage=0),)
    store.start(
        Rollout(
            id="r-1",
            agent="support",
            stable="v1",
            canary="v2",
            plan=plan,
            salt=b"s",
            phase=Phase.PROGRESSING,
            created_at=1.0,
            epochs=epochs,
        )
    )
    one = recorder(flush_every=PATIENCE)
    for record in turn("c-1", arm=Arm.CANARY):
        one.put(record)
    one.put(violation("c-1"))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        revision = store.revision("support")
        if revision is not None and revision.stopped_at is not None:
            break
        time.sleep(0.005)
    # The flush interval is as long as our patience: the violation did not wait for it.
    assert revision is not None
    assert revision.stopped_at == 1_000_001.0


def test_many_threads_may_put_at_once(recorder: Callable[..., Recorder], path: Path) -> None:
    one = recorder()

    def put(thread: int) -> None:
        for number in range(500):
            for record in turn(f"c-{thread}", number):
                one.put(record)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.flush_and_wait(PATIENCE)
    assert turns(path) == {f"c-{number}": 500 for number in range(8)}


def test_a_store_that_blocks_cannot_fill_the_memory(
    recorder: Callable[..., Recorder], store: Store, path: Path
) -> None:
    switch = Switch(store)
    switch.gate = threading.Event()
    failures: list[str] = []
    one = recorder(store=switch, max_batch=50, max_queue=200, degraded=lambda kind, _error: failures.append(kind))
    longest = 0
    for number in range(1000):
        for record in turn(f"c-{number}"):
            one.put(record)
        longest = max(longest, one.counters["queue"])
    assert longest <= 201
    assert set(failures) == {"recorder_overload"}
    switch.gate.set()
    assert one.flush_and_wait(PATIENCE)
    assert turns(path) == {f"c-{number}": 1 for number in range(1000)}


def test_a_child_process_records_for_itself_and_nothing_of_its_parent(
    recorder: Callable[..., Recorder], path: Path, tmp_path: Path
) -> None:
    one = recorder(flush_every=PATIENCE)
    for record in turn("parent"):
        one.put(record)
    name = one.name
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for record in turn("child"):
                one.put(record)
            code = 0 if one.flush_and_wait(PATIENCE) and one.name != name else 2
            one.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert turns(path) == {"child": 1}
    assert one.flush_and_wait(PATIENCE)
    assert turns(path) == {"child": 1, "parent": 1}
    assert one.name == name


ENDING = """
import sys
sys.path.insert(0, sys.argv[3])
from test_recorder import Recorder, Store, SystemClock, turn
recorder = Recorder(
    Store(sys.argv[1]), clock=SystemClock(), journal_path=sys.argv[2], worker_id="w", flush_every=60.0
)
for record in turn("c-1"):
    recorder.put(record)
"""


def test_a_process_that_ends_without_closing_still_stores_everything(path: Path, tmp_path: Path) -> None:
    arguments = [f"sqlite:///{path}", str(tmp_path / "journals"), str(Path(__file__).parent)]
    subprocess.run([sys.executable, "-c", ENDING, *arguments], check=True, timeout=60)
    assert turns(path) == {"c-1": 1}


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[3])
from test_recorder import Recorder, Store, SystemClock, turn
recorder = Recorder(Store(sys.argv[1]), clock=SystemClock(), journal_path=sys.argv[2], worker_id="w")
for number in range(1_000_000):
    for record in turn(f"c-{number}"):
        recorder.put(record)
    if number % 20 == 0:
        print(number, time.monotonic(), flush=True)
        time.sleep(0.002)
"""


@pytest.mark.parametrize("store_is_held", [False, True], ids=["store reachable", "store held by another process"])
def test_a_killed_process_loses_one_flush_interval_at_most_and_nothing_counts_twice(
    store: Store, recorder: Callable[..., Recorder], path: Path, tmp_path: Path, store_is_held: bool
) -> None:
    arguments = [f"sqlite:///{path}", str(tmp_path / "journals"), str(Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    put: list[tuple[int, float]] = []
    holder = sqlite3.connect(path, isolation_level=None)
    began: float | None = None
    for line in process.stdout:
        number, at = line.split()
        put.append((int(number), float(at)))
        began = began or float(at)
        if store_is_held and not holder.in_transaction and float(at) - began > 1.0:
            holder.execute("BEGIN IMMEDIATE")
        if float(at) - began > 2.5:
            break
    process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    process.wait()
    process.stdout.close()
    holder.close()
    one = recorder()
    assert one.flush_and_wait(PATIENCE)
    found = turns(path)
    assert set(found.values()) == {1}
    # A flush interval, what a store that is held is waited for, and what a busy machine adds.
    slack = 0.1 + (0.2 if store_is_held else 0.0) + 0.4
    due = max(number for number, at in put if at < killed - slack)
    assert due > 200
    assert {f"c-{number}" for number in range(due)} <= set(found)
