"""Turns a second into SQLite: the recorder with 1, 2 and 4 processes, against an upsert and a commit for every turn.

Run: ``python benchmarks/bench_recorder.py``. Prints one table and writes ``benchmarks/results/recorder.json``.

Every turn is a new conversation, which is the dearest kind. All variants write the same rows into the same table with
the same settings (write-ahead log, synchronous=NORMAL), interleaved and in changing order. "offered" sends
5,000 turns a second for five seconds to a recorder as it is in an application: how late
the last turn is stored, and what the thread costs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import sqlalchemy

from agentcanary.assignment import RolloutView, assign, bucket
from agentcanary.clock import SystemClock
from agentcanary.outcomes import Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.recorder import Recorder
from agentcanary.store import Store, coalesce
from agentcanary.store.batch import ConversationRow

ROUNDS = 5
TURNS = 20_000
UPSERTS = 4_000
OFFERED = 5_000
SECONDS = 5.0
RESULT = Path(__file__).parent / "results" / "recorder.json"
VIEW = RolloutView(
    agent="support",
    rollout="support-0123456789",
    salt=b"salt",
    stable="v1",
    canary="v2",
    epoch=0,
    weight=0.05,
    open=True,
)


def turns(count: int, first: int = 0) -> Iterable[tuple[Record, Record]]:
    """Turns of new conversations."""
    for number in range(first, first + count):
        unit, at = f"conversation-{number * 2654435761 % 2**32:08x}-{number}", time.time()
        assignment = assign(VIEW, unit, bucket(VIEW.salt, unit), now=at, fresh=True)
        started = TurnStarted(unit, assignment, at)
        yield started, TurnEnded(unit, assignment, at, at + 0.5, 0.5, 0.1, TurnOutcome.OK)


def stored(path: Path) -> int:
    """Turns in the store."""
    connection = sqlite3.connect(path)
    count: int = connection.execute("SELECT coalesce(sum(turns), 0) FROM conversations").fetchone()[0]
    connection.close()
    return count


def upsert_each(path: Path) -> float:
    """Turns a second with one upsert and one commit a turn: the rows are made before."""
    Store(f"sqlite:///{path}").open()
    rows = [coalesce(pair).conversations[0] for pair in turns(UPSERTS)]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous=NORMAL")
    names = ConversationRow._fields
    statement = (
        f"INSERT INTO conversations ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT (agent, unit, rollout) DO UPDATE SET turns = turns + excluded.turns, "
        f"turn_log = turn_log || excluded.turn_log"
    )
    began = time.perf_counter()
    for row in rows:
        connection.execute(statement, row)
    took = time.perf_counter() - began
    connection.close()
    return UPSERTS / took


def record_all(path: Path, count: int, first: int) -> tuple[float, float]:
    """Put turns as fast as possible and wait until all are stored: seconds, and seconds of processor."""
    recorder = Recorder(
        Store(f"sqlite:///{path}"), clock=SystemClock(), journal_path=path.parent / "journals", worker_id=f"w{first}"
    )
    records = list(turns(count, first))
    began, cpu = time.perf_counter(), time.process_time()
    for started, ended in records:
        recorder.put(started)
        recorder.put(ended)
    if not recorder.flush_and_wait(120.0):
        raise RuntimeError(f"not everything was stored: {recorder.counters}")
    took = time.perf_counter() - began, time.process_time() - cpu
    recorder.close()
    return took


def _in_process(path: Path, count: int, first: int, gate: Any, ended: Any) -> None:
    gate.wait()
    record_all(path, count, first)
    ended.put(time.time())


def recorder(processes: int) -> Callable[[Path], float]:
    """Turns a second of so many processes together."""

    def run(path: Path) -> float:
        Store(f"sqlite:///{path}").open()
        if processes == 1:
            rate = TURNS / record_all(path, TURNS, 0)[0]
        else:
            context = multiprocessing.get_context("spawn")
            gate, ended = context.Barrier(processes + 1), context.Queue()
            each = TURNS // processes
            started = [
                context.Process(target=_in_process, args=(path, each, number * each, gate, ended))
                for number in range(processes)
            ]
            for process in started:
                process.start()
            gate.wait()
            began = time.time()
            rate = TURNS / (max(ended.get(timeout=120.0) for _ in started) - began)
            for process in started:
                process.join()
        if stored(path) != TURNS:
            raise RuntimeError(f"{stored(path)} turns are stored, not {TURNS}")
        return rate

    return run


def offered(path: Path) -> dict[str, float]:
    """A steady offer: share of a processor for putting and storing, and how late the last turn is stored."""
    recorder = Recorder(
        Store(f"sqlite:///{path}"), clock=SystemClock(), journal_path=path.parent / "journals", worker_id="steady"
    )
    recorder.start()
    records = list(turns(int(OFFERED * SECONDS)))
    began, cpu = time.perf_counter(), time.process_time()
    for number, (started, ended) in enumerate(records):
        recorder.put(started)
        recorder.put(ended)
        if number % 50 == 49:
            time.sleep(max(0.0, began + (number + 1) / OFFERED - time.perf_counter()))
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    last = time.perf_counter()
    while stored(path) < len(records):
        if time.perf_counter() - last > 60.0:
            raise RuntimeError(f"not everything was stored: {recorder.counters}")
        time.sleep(0.01)
    late = time.perf_counter() - last
    recorder.close()
    return {"processor_share": round(share, 4), "last_turn_stored_after_s": round(late, 3)}


def main() -> None:
    variants: dict[str, Callable[[Path], float]] = {"upsert each turn": upsert_each} | {
        f"recorder, {count} process{'es' if count > 1 else ''}": recorder(count) for count in (1, 2, 4)
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for position in range(len(names)):
                name = names[(position + number) % len(names)]
                place = Path(folder) / f"{number}-{position}"
                place.mkdir()
                rates[name].append(variants[name](place / "store.sqlite3"))
        (Path(folder) / "steady").mkdir()
        steady = offered(Path(folder) / "steady" / "store.sqlite3")
        (Path(folder) / "cpu").mkdir()
        Store(f"sqlite:///{Path(folder) / 'cpu' / 'store.sqlite3'}").open()
        cpu = record_all(Path(folder) / "cpu" / "store.sqlite3", TURNS, 0)[1] / TURNS * 1e6
    report(rates, steady, cpu)


def report(rates: dict[str, list[float]], steady: dict[str, float], cpu: float) -> None:
    """Print the table and keep it."""
    peer = rates["upsert each turn"]
    print(
        f"{'variant':24s} {'turns/s: min':>13s} {'median':>9s} {'max':>9s}   "
        f"{'x upsert each: min':>18s} {'med':>5s} {'max':>5s}"
    )
    rows = []
    for name, found in rates.items():
        ratios = [rate / base for rate, base in zip(found, peer, strict=True)]
        row = {
            "variant": name,
            "n": UPSERTS if found is peer else TURNS,
            "turns_per_second": {"min": min(found), "median": statistics.median(found), "max": max(found)},
            "ratio_to_upsert_each": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        }
        rows.append(row)
        print(
            f"{name:24s} {min(found):13,.0f} {statistics.median(found):9,.0f} {max(found):9,.0f}   "
            f"{min(ratios):18.1f} {statistics.median(ratios):5.1f} {max(ratios):5.1f}"
        )
    print(f"processor time of putting and storing one turn: {cpu:.1f} us")
    print(
        f"{OFFERED:,} turns/s for {SECONDS:g} s: {steady['processor_share']:.1%} of a processor, "
        f"the last turn is stored after {steady['last_turn_stored_after_s']:.2f} s"
    )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "sqlalchemy": sqlalchemy.__version__,
        },
        "rounds": ROUNDS,
        "variants": rows,
        "processor_us_per_turn": round(cpu, 2),
        "offered_5000_turns_per_second": steady,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
