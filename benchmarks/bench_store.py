"""What the store costs on SQLite and PostgreSQL: turns a second with 1, 2 and 4 workers, a pin, a look, a million pins.

Run: ``python -m benchmarks.bench_store``. Prints tables and writes ``benchmarks/results/store.json``. The server is a
real one on the same machine and the same processors, started here, with durable commits as it is installed.

Every turn is a new conversation, which is the dearest kind. Processor time is of everything that takes part: the
workers, and the server's processes.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy

from agentcanary.assignment import Pin, bucket
from agentcanary.clock import SystemClock
from agentcanary.pins import PinKeeper
from agentcanary.plan import Plan, Stage
from agentcanary.recorder import Recorder
from agentcanary.rollout import Phase, Rollout
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm, Epoch
from agentcanary_analysis.metrics import BUILT_IN
from benchmarks.bench_recorder import VIEW, turns
from tests.postgresql_server import PostgresServer, running

ROUNDS = 2
TURNS = 10_000
PINS = 2_000
MANY = 1_000_000
RESULT = Path(__file__).parent / "results" / "store.json"
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def record_all(url: str, folder: str, count: int, first: int) -> None:
    """Put turns as fast as possible and wait until all are stored."""
    recorder = Recorder(Store(url), clock=SystemClock(), journal_path=folder, worker_id=f"w{first}")
    for started, ended in list(turns(count, first)):
        recorder.put(started)
        recorder.put(ended)
    if not recorder.flush_and_wait(120.0):
        raise RuntimeError(f"not everything was stored: {recorder.counters}")
    recorder.close()


def _in_process(url: str, folder: str, count: int, first: int, gate: Any, ended: Any) -> None:
    gate.wait()
    record_all(url, folder, count, first)
    ended.put((time.time(), time.process_time()))


def recorded(url: str, folder: Path, workers: int) -> float:
    """Turns a second of so many processes together."""
    Store(url).open()
    context = multiprocessing.get_context("spawn")
    gate, ended = context.Barrier(workers + 1), context.Queue()
    each = TURNS // workers
    started = [
        context.Process(target=_in_process, args=(url, str(folder), each, number * each, gate, ended))
        for number in range(workers)
    ]
    for process in started:
        process.start()
    gate.wait()
    began = time.time()
    last: float = max(ended.get(timeout=180.0)[0] for _ in started)
    for process in started:
        process.join()
    return TURNS / (last - began)


def costs(url: str, folder: Path, server: PostgresServer | None) -> dict[str, float]:
    """Microseconds of processor time, of this process and of the server, for a turn, a pin and a look."""
    store = Store(url)
    store.open()
    found: dict[str, float] = {}

    def cost(name: str, count: int, work: Callable[[], None]) -> None:
        mine, theirs, wall = time.process_time(), cpu_of(server), time.perf_counter()
        work()
        found[f"{name}: wall us"] = (time.perf_counter() - wall) / count * 1e6
        found[f"{name}: worker us"] = (time.process_time() - mine) / count * 1e6
        found[f"{name}: server us"] = (cpu_of(server) - theirs) / count * 1e6

    cost("turn recorded", TURNS, lambda: record_all(url, str(folder), TURNS, 10**6))
    units = [f"conversation-{number * 2654435761 % 2**32:08x}-{number}" for number in range(PINS)]
    pin = Pin(Arm.CANARY, 0)

    def write() -> None:
        for unit in units:
            store.put_pin("support", VIEW.rollout, unit, pin, 1.0)

    def read() -> None:
        for unit in units:
            store.pin("support", VIEW.rollout, unit, now=1.0, idle_after=60.0)

    cost("pin written", PINS, write)
    cost("pin looked up", PINS, read)
    polls = 300

    def poll() -> None:
        for _ in range(polls):
            store.revision("support")

    cost("poll", polls, poll)
    now = time.time()
    rollout = Rollout(
        id=VIEW.rollout,
        agent="support",
        stable="v1",
        canary="v2",
        plan=Plan(
            stages=(Stage(name="a", weight=0.05, duration=60.0), Stage(name="b", weight=1.0, duration=0.0)),
            metrics=tuple(replace(metric, horizon=0.001) for metric in BUILT_IN),
        ),
        salt=VIEW.salt,
        phase=Phase.PROGRESSING,
        created_at=now - 3600,
        epochs=(Epoch(number=0, weight=0.05, stage=0),),
    )
    store.start(rollout)
    cost("conversation counted", TURNS, lambda: store.count(rollout, rollout.plan.metrics, time.time() + 10.0))
    looks = 20

    def look() -> None:
        for number in range(looks):
            store.count(rollout, rollout.plan.metrics, time.time() + 20.0 + number)
            store.aggregates(rollout)

    cost("look without new conversations", looks, look)
    store.close()
    return {name: round(value, 2) for name, value in found.items()}


def cpu_of(server: PostgresServer | None) -> float:
    """Seconds of processor that a server's processes used, those that ended included."""
    if server is None:
        return 0.0
    total, ticks = 0, os.sysconf("SC_CLK_TCK")
    for pid in server.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # utime and stime; of the first process also those of its children that ended.
        total += sum(int(field) for field in fields[11 : 15 if pid == server.pids()[0] else 13])
    return total / ticks


def bytes_a_pin(url: str, server: PostgresServer | None, database: str, path: Path | None) -> float:
    """Bytes of a million pins with ids of 36 characters, their indexes included, divided by a million."""
    store = Store(url)
    store.open()
    before = _size(server, database, path)
    with store._database.write() as connection:
        numbers = (
            f"generate_series(1, {MANY}) AS n"
            if server
            else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c)"
        )
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0" if server else "SELECT 1")
        unit = "md5(n::text) || '-abc'" if server else "lower(hex(randomblob(16))) || '-abc'"
        connection.exec_driver_sql(
            f"INSERT INTO pins (agent, unit, rollout, arm, epoch, excluded, fallback, created_at) "
            f"SELECT 'support', {unit}, 'support-0123456789', 'canary', 0, NULL, 0, 1750000000 + n * 0.001 "
            f"FROM {numbers}"
        )
    store.close()
    return (_size(server, database, path) - before) / MANY


def _size(server: PostgresServer | None, database: str, path: Path | None) -> float:
    if server is not None:
        ((size,),) = server.execute("SELECT pg_total_relation_size('pins')", database)
        return float(str(size))
    return sum(float(file.stat().st_size) for file in path.parent.glob(f"{path.name}*")) if path else 0.0


def memory_of_many() -> dict[str, float]:
    """What a process holds after a million conversations, as it is installed."""
    keeper = PinKeeper(Store("sqlite:///never-opened.sqlite3"), idle_after=1800.0, degraded=lambda _kind, _error: None)
    view = replace(VIEW, weight=0.5, max_weight=1.0)
    gc.collect()
    before, began = _resident(), time.perf_counter()
    quarter = 0.0
    for number in range(MANY):
        unit = f"{number * 2654435761 % 2**32:08x}-0000-4000-8000-{number:012d}"
        # What a thread of the keeper does for a unit that it looked up.
        keeper._remember(view, unit, Pin(Arm.CANARY if bucket(view.salt, unit).assignment < 0.5 else Arm.STABLE, 0))
        if number == MANY // 4:
            quarter = _resident() - before
    return {
        "after a quarter, MiB": round(quarter / 2**20, 1),
        "after all, MiB": round((_resident() - before) / 2**20, 1),
        "us each": round((time.perf_counter() - began) / MANY * 1e6, 2),
    }


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def main() -> None:
    many = memory_of_many()
    rates: dict[str, list[float]] = {}
    found: dict[str, dict[str, float]] = {}
    with running(**DURABLE) as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(ROUNDS):
            for workers in (1, 2, 4):
                for database in ("sqlite", "postgresql")[:: 1 if number % 2 else -1]:
                    place = folder / f"{number}-{workers}-{database}"
                    place.mkdir()
                    sqlite = f"sqlite:///{place / 'store.sqlite3'}"
                    url = sqlite if database == "sqlite" else server.url(server.new_database())
                    rates.setdefault(f"{database}, {workers}", []).append(recorded(url, place / "journals", workers))
        for database in ("sqlite", "postgresql"):
            place = folder / f"costs-{database}"
            place.mkdir()
            path = place / "store.sqlite3"
            mine = server.new_database()
            on = server if database == "postgresql" else None
            found[database] = costs(server.url(mine) if on else f"sqlite:///{path}", place / "journals", on)
            path, other = place / "pins.sqlite3", server.new_database()
            url = server.url(other) if on else f"sqlite:///{path}"
            found[database]["bytes a pin"] = round(bytes_a_pin(url, on, other, None if on else path), 1)
        version = server.version
    report(rates, found, many, version)


def report(
    rates: dict[str, list[float]], found: dict[str, dict[str, float]], many: dict[str, float], version: str
) -> None:
    """Print the tables and keep them."""
    print(f"{'turns recorded a second':28s} {'min':>9s} {'median':>9s} {'max':>9s}   x sqlite, 1: min/median/max")
    rows = []
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates["sqlite, 1"], strict=True)]
        row = {
            "variant": name,
            "n": TURNS,
            "turns_per_second": _spread(values),
            "ratio_to_one_on_sqlite": _spread(ratios),
        }
        rows.append(row)
        print(
            f"{name:28s} {min(values):9,.0f} {statistics.median(values):9,.0f} {max(values):9,.0f}   "
            f"{min(ratios):.2f}/{statistics.median(ratios):.2f}/{max(ratios):.2f}"
        )
    print(f"\n{'cost':44s} {'sqlite':>10s} {'postgresql':>10s}")
    for name in found["sqlite"]:
        print(f"{name:44s} {found['sqlite'][name]:10,.1f} {found['postgresql'][name]:10,.1f}")
    print(f"\na million conversations in one process: {many}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            "postgresql": version,
            "sqlalchemy": sqlalchemy.__version__,
            "psycopg": psycopg.__version__,
        },
        "rounds": ROUNDS,
        "recorded": rows,
        "costs": found,
        "a_million_conversations_in_one_process": many,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


if __name__ == "__main__":
    main()
