"""Several hosts on one PostgreSQL, each a process group of its own: they agree, one acts, all obey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentcanary.cli.seat import seat
from agentcanary.rollout import Phase
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.status.situation import Situation, warnings
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.verdict import Findings
from tests.faults.world import legal, rollout_under_way
from tests.hosts import Client, Host, Turn, new_conversations
from tests.postgresql_server import PostgresServer

pytestmark = pytest.mark.needs("postgresql")
YAML = """
agent: support
stable: support-v1
canary: support-v2
store: {store}
look_every: 1s
canary_stages:
  - {{name: half, weight: 0.5, duration_minutes: {minutes}, min_requests: 50}}
  - {{name: full, weight: 1.0, duration_minutes: 0}}
rollback: {{pinned: {{manual: switch}}}}
"""


class Place:
    """Two hosts and their store. The second one is being deployed: its plan is another one."""

    def __init__(self, url: str, folder: Path, workers: int = 1) -> None:
        self.store = Store(url)
        self.store.start(replace(rollout_under_way(time.time()), stable="support-v1", canary="support-v2"))
        self.hosts = [
            Host(folder / name, YAML.format(store=url, minutes=minutes), workers)
            for name, minutes in (("a", 60), ("b", 61))
        ]

    def roll_back(self) -> float:
        """What an operator does; Unix time of the commit."""
        while True:
            rollout, now = self.store.current("support"), time.time()
            assert rollout is not None
            action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="a test")
            try:
                self.store.save(advance(rollout, action, now=now), expected_revision=rollout.revision, now=now)
            except Exception:  # noqa: BLE001 (the controller was faster)
                continue
            return time.time()

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        self.store.close()


@pytest.fixture
def place(postgresql: PostgresServer, tmp_path: Path) -> Iterator[Place]:
    made = Place(postgresql.url(postgresql.new_database()), tmp_path)
    try:
        for host in made.hosts:
            host.start()
        for host in made.hosts:
            host.wait(split=True)
        yield made
    finally:
        made.close()


async def at_both(place: Place, units: list[str]) -> list[tuple[Turn, Turn]]:
    """Each conversation begins at both hosts in the same moment."""
    clients = [Client(host.port) for host in place.hosts]
    found = []
    for unit in units:
        one, other = await asyncio.gather(*(client.chat(unit) for client in clients))
        found.append((one, other))
    for client in clients:
        client.close()
    return found


async def under_load(place: Place, seconds: float) -> tuple[float, list[Turn]]:
    """A rollback in the middle of traffic: when it was committed, and all turns."""
    found: list[Turn] = []
    ended = asyncio.Event()
    tasks = [
        asyncio.create_task(new_conversations(host.port, f"load-{number}", ended, found))
        for number, host in enumerate(place.hosts)
    ]
    await asyncio.sleep(seconds)
    committed = await asyncio.to_thread(place.roll_back)
    await asyncio.sleep(seconds)
    ended.set()
    await asyncio.gather(*tasks)
    return committed, found


def test_hosts_agree_one_acts_a_deployment_is_noticed_and_a_rollback_reaches_all(place: Place) -> None:
    # The same new conversation at two hosts at once.
    for one, other in asyncio.run(at_both(place, [f"race-{number}" for number in range(60)])):
        assert one.version == other.version != "", one
        assert one.pid != other.pid

    # Workers of different configurations serve one rollout, the stored one, and status says so.
    rollout = place.store.current("support")
    assert rollout is not None
    workers = place.store.workers("support")
    assert len({worker.config_hash for worker in workers}) == 2
    seen = Situation(
        rollout=rollout,
        findings=Findings(),
        aggregates=Aggregates(),
        now=time.time(),
        workers=workers,
    )
    assert "2 workers run 2 different configurations; is one being deployed?" in warnings(seen)

    # A rollback under load.
    committed, turns = asyncio.run(under_load(place, 1.5))
    assert all(turn.version for turn in turns)
    on_canary = [turn.at for turn in turns if turn.version == "support-v2"]
    assert len(on_canary) > 5
    # One poll of a quarter of a second, on a machine that does something else besides; benchmarks/ measure it alone.
    assert max(on_canary) - committed < 1.0
    # Two controllers looked every second: whoever holds the lease acted, and nothing was done twice.
    ended = legal(place.store)
    assert ended.phase is Phase.ROLLED_BACK
    actions = [entry.action for entry in place.store.audit(ended.id)]
    assert actions.count("rollback") == 1
    assert len(place.store.rollouts("support")) == 1


@pytest.mark.slow
def test_when_the_host_that_holds_the_lease_is_killed_another_one_acts(place: Place) -> None:
    leases = "SELECT owner, fence FROM leases"
    deadline = time.monotonic() + 20.0
    while not (held := place.store._database.fetch(leases, ())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Which of the two it is nobody says: the one whose death leaves the lease without renewal.
    (owner, fence), *_ = held
    place.hosts[0].kill()
    survivor = place.hosts[1]
    deadline = time.monotonic() + 40.0
    while True:
        ((now_owner, now_fence),) = place.store._database.fetch(leases, ())
        if now_owner != owner:
            assert now_fence > fence
            break
        # The survivor held it all along.
        ((expires,),) = place.store._database.fetch("SELECT expires_at FROM leases", ())
        if time.monotonic() > deadline - 20.0:
            assert expires > time.time()
            break
        time.sleep(0.2)
    assert survivor.wait(split=True)
    place.roll_back()
    legal(place.store)


def test_the_newest_rollout_has_the_say_whatever_a_worker_is_configured_for(
    postgresql: PostgresServer, tmp_path: Path
) -> None:
    url = postgresql.url(postgresql.new_database())
    (tmp_path / "canary.yaml").write_text(YAML.format(store=url, minutes=60))
    with seat(tmp_path / "canary.yaml", create=True) as at:
        now = time.time()
        old = replace(rollout_under_way(now), stable="support-v1", canary="support-v2")
        at.store.start(old)
        action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="a test")
        at.store.save(advance(old, action, now=now), expected_revision=0, now=now)
        newer = replace(rollout_under_way(now, began=60.0), stable="support-v1", canary="support-v3")
        at.store.start(newer)
        # The file still names support-v2.
        assert at.current().id == newer.id
        revision = at.store.revision("support")
        assert revision is not None
        assert revision.id == newer.id
