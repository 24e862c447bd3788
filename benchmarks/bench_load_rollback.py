"""How soon a rollback reaches every worker: four workers on two hosts, one PostgreSQL, under load.

Run: ``python -m benchmarks.bench_load_rollback [ROLLBACKS]``. Writes ``benchmarks/results/rollback.json``.

Each time a rollout is under way and every worker gives new conversations to the canary; an operator rolls it back; for
each worker, the seconds from the commit to the last conversation that its canary was given, as the agent's code saw
it. A worker that gave the canary nothing any more counts as 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from agentcanary.rollout import Rollout
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.store import Store
from tests.faults.world import rollout_under_way
from tests.hosts import Host, Turn, new_conversations
from tests.postgresql_server import running

RESULT = Path(__file__).parent / "results" / "rollback.json"
HOSTS, WORKERS, CONNECTIONS = 2, 2, 3
YAML = "agent: support\nstable: support-v1\ncanary: support-v2\ncontroller: false\nstore: {store}\n"


def under_way(number: int) -> Rollout:
    """A rollout of its own, past its hand-over."""
    return replace(
        rollout_under_way(time.time()),
        id=f"support-{number}",
        stable="support-v1",
        canary="support-v2",
        attempt=number + 1,
        salt=os.urandom(16),
    )


def roll_back(store: Store) -> float:
    """What an operator does; Unix time of the commit."""
    rollout, now = store.current("support"), time.time()
    if rollout is None:
        raise RuntimeError("there is no rollout")
    action = Action(kind=ActionKind.ROLLBACK, actor="bench", reason="measured")
    store.save(advance(rollout, action, now=now), expected_revision=rollout.revision, now=now)
    return time.time()


async def measure(store: Store, hosts: list[Host], rollbacks: int) -> tuple[list[float], float]:
    """Seconds for each worker and rollback, and the requests a second meanwhile."""
    found: list[Turn] = []
    ended = asyncio.Event()
    tasks = [
        asyncio.create_task(new_conversations(host.port, f"{place}-{number}", ended, found))
        for place, host in enumerate(hosts)
        for number in range(CONNECTIONS)
    ]
    delays: list[float] = []
    began, served = time.time(), 0
    for number in range(rollbacks):
        await asyncio.to_thread(store.start, under_way(number))
        on_canary: set[int] = set()
        while len(on_canary) < HOSTS * WORKERS:
            await asyncio.sleep(0.05)
            on_canary |= {turn.pid for turn in found if turn.version == "support-v2"}
        served += len(found)
        found.clear()
        await asyncio.sleep(0.2)
        committed = await asyncio.to_thread(roll_back, store)
        await asyncio.sleep(1.5)
        last = dict.fromkeys(on_canary, committed)
        for turn in found:
            if turn.version == "support-v2":
                last[turn.pid] = max(last[turn.pid], turn.at)
        delays += [at - committed for at in last.values()]
        served += len(found)
        found.clear()
    rate = served / (time.time() - began)
    ended.set()
    await asyncio.gather(*tasks)
    return delays, rate


def main(rollbacks: int) -> None:
    with running() as server, tempfile.TemporaryDirectory() as name:
        url = server.url(server.new_database())
        store = Store(url)
        store.open()
        hosts = [Host(Path(name) / str(number), YAML.format(store=url), WORKERS) for number in range(HOSTS)]
        try:
            for host in hosts:
                host.start()
            for host in hosts:
                host.wait()
            delays, rate = asyncio.run(measure(store, hosts, rollbacks))
        finally:
            for host in hosts:
                host.stop()
            store.close()
    delays.sort()
    seconds = {
        "p50": round(statistics.median(delays), 4),
        "p99": round(delays[min(len(delays) - 1, int(len(delays) * 0.99))], 4),
        "max": round(delays[-1], 4),
    }
    print(f"{len(delays)} workers were reached in {rollbacks} rollbacks at {rate:.0f} requests/s: {seconds}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "hosts": HOSTS,
        "workers_a_host": WORKERS,
        "rollbacks": rollbacks,
        "n": len(delays),
        "requests_per_second": round(rate, 1),
        "seconds_from_commit_to_last_canary_assignment": seconds,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
