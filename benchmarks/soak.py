"""Hours of traffic: a thousand concurrent conversations with streams through two workers, and nothing that grows.

Run: ``python -m benchmarks.soak [MINUTES] [sqlite|postgresql]``. Writes ``benchmarks/results/soak.json``.

Each of the clients holds a conversation of eight turns, every second one streamed, with pauses between them, and then
begins another one. Retention runs every minute. At the end the store must have every turn that was answered, once, and
no conversation may have changed its version.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from sqlalchemy import func, select

from agentcanary.store import Store
from agentcanary.store.schema import conversations, pins
from tests.faults.world import legal
from tests.hosts import Client, Host
from tests.postgresql_server import PostgresServer, running

RESULT = Path(__file__).parent / "results" / "soak.json"
CLIENTS, TURNS, WORDS, PAUSE, WORKERS = 1000, 8, 5, 2.4, 2
# Conversations that ended so long ago are deleted.
KEEP = 180.0
# No conversation pauses for as long as that.
ENDED = 30.0
YAML = """
agent: support
stable: support-v1
canary: support-v2
store: {store}
conversation: {{idle_after: 60s}}
horizon: 60s
canary_stages:
  - {{name: half, weight: 0.5, duration_minutes: 600, min_requests: 50}}
  - {{name: full, weight: 1.0, duration_minutes: 0}}
"""


class Soak:
    """What was asked and what came back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.turns = 0
        self.failed: Counter[str] = Counter()
        self.moved: list[str] = []
        self.versions: Counter[str] = Counter()
        self.live = self.most_live = 0
        self.asked: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def client(self, number: int, until: float, rng: random.Random) -> None:
        """One person, one conversation after the other."""
        client, conversation = Client(self._port), 0
        await asyncio.sleep(rng.random() * PAUSE)
        while time.monotonic() < until:
            unit, served = f"c-{number}-{conversation}", ""
            conversation += 1
            self.live += 1
            self.most_live = max(self.most_live, self.live)
            for turn in range(TURNS):
                try:
                    found = await (client.stream(unit, WORDS) if turn % 2 else client.chat(unit))
                except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                    self.failed[type(error).__name__] += 1
                    client.close()
                    continue
                if not found.version:
                    self.failed["status"] += 1
                    continue
                self.turns += 1
                self.asked[unit] += 1
                self.seconds.append(found.seconds - (0.02 * WORDS if turn % 2 else 0.0))
                self.versions[found.version] += 1
                if served and found.version != served:
                    self.moved.append(unit)
                served = found.version
                await asyncio.sleep(PAUSE * (0.5 + rng.random()))
            self.live -= 1
        client.close()


def resident(pids: set[int]) -> list[float]:
    """MiB of each process."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in sorted(pids)]
    return [round(n * os.sysconf("SC_PAGE_SIZE") / 2**20, 1) for n in pages]


async def soak(store: Store, host: Host, pids: set[int], minutes: float, url: str) -> dict[str, object]:
    """The traffic, a look at the memory every ten seconds, retention every minute."""
    found = Soak(host.port)
    began, until = time.monotonic(), time.monotonic() + minutes * 60.0
    rng = random.Random(7)
    tasks = [asyncio.create_task(found.client(n, until, random.Random(rng.random()))) for n in range(CLIENTS)]
    memory: list[tuple[int, list[float]]] = []
    rows: list[tuple[int, dict[str, int]]] = []
    progress: list[tuple[float, int]] = []
    latency: list[dict[str, float]] = []
    checks: list[tuple[int, int]] = []
    tick, deleted, checked_until = 0, 0, float("-inf")
    while any(not task.done() for task in tasks):
        await asyncio.sleep(10.0)
        tick += 1
        progress.append((time.monotonic() - began, found.turns))
        memory.append((round(time.monotonic() - began), resident(pids)))
        latency.append(_quantiles(found.seconds))
        found.seconds.clear()
        if tick % 6 == 0:
            # Before anything is deleted it is compared with what was asked.
            since, checked_until = checked_until, time.time() - ENDED
            checks.append(await asyncio.to_thread(_compared, store, since, checked_until, found.asked))
            deleted += await asyncio.to_thread(store.prune, time.time() - KEEP)
            rows.append((round(time.monotonic() - began), await asyncio.to_thread(_rows, store)))
            print(f"{rows[-1]} {memory[-1]} {latency[-1]} {found.turns} turns, {dict(found.failed)} failed", flush=True)
    took = time.monotonic() - began
    in_time = next((turns for at, turns in reversed(progress) if at <= minutes * 60.0), 0)
    # The last turns are stored within a flush, or as soon as the machine has time for it.
    await asyncio.sleep(30.0)
    checks.append(await asyncio.to_thread(_compared, store, checked_until, 1e12, found.asked))
    legal(store)
    degraded: Counter[str] = Counter()
    for worker in store.workers("support"):
        degraded.update(worker.degraded)
    return {
        "store": url.partition(":")[0],
        "minutes": round(took / 60.0, 1),
        "workers": WORKERS,
        "most_concurrent_conversations": found.most_live,
        "conversations": len(found.asked),
        "turns": found.turns,
        "requests_per_second": round(in_time / (minutes * 60.0), 1),
        "load_of_the_machine_at_the_end": os.getloadavg(),
        "streamed_share": 0.5,
        "failed": dict(found.failed),
        "conversations_that_changed_their_version": len(set(found.moved)),
        "turns_by_version": dict(found.versions),
        "conversations_compared_with_the_store": sum(checked for checked, _ in checks),
        "conversations_whose_turns_differ": sum(wrong for _, wrong in checks),
        "conversations_deleted_by_retention": deleted,
        "degraded": dict(degraded),
        "seconds_added_to_the_agents_own": latency,
        "memory_mib_by_second": memory,
        "rows_by_second": rows,
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 100:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4)}


def _compared(store: Store, since: float, until: float, asked: Counter[str]) -> tuple[int, int]:
    """Conversations whose last turn was in between, and those whose number of turns differs."""
    c = conversations.c
    with store._database.read() as connection:
        stored = connection.execute(
            select(c.unit, func.sum(c.turns))
            .where(c.last_turn_at >= max(since, 0.0), c.last_turn_at < until)
            .group_by(c.unit)
        ).all()
    mine = [(unit, int(turns)) for unit, turns in stored if unit in asked]
    return len(mine), sum(turns != asked[unit] for unit, turns in mine)


def _rows(store: Store) -> dict[str, int]:
    with store._database.read() as connection:
        return {
            table.name: int(connection.scalar(select(func.count()).select_from(table)) or 0)
            for table in (conversations, pins)
        }


def main(minutes: float, database: str) -> None:
    with tempfile.TemporaryDirectory() as name, running() if database == "postgresql" else nullcontext() as server:
        path = Path(name) / "store.sqlite3"
        url = server.url(server.new_database()) if isinstance(server, PostgresServer) else f"sqlite:///{path}"
        store = Store(url)
        store.open()
        host = Host(Path(name) / "host", YAML.format(store=url), WORKERS)
        try:
            host.start()
            pids = host.wait(split=True)
            found = asyncio.run(soak(store, host, pids, minutes, url))
        finally:
            host.stop()
            store.close()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    RESULT.write_text(json.dumps({"commit": commit, "machine": machine, **found}, indent=1) + "\n", encoding="utf-8")
    print({key: value for key, value in found.items() if not isinstance(value, list)})


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, sys.argv[2] if len(sys.argv) > 2 else "postgresql")
