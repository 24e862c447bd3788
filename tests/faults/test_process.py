"""The process itself: killed, forked, its event loop blocked, its threads taken, its clock moved."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from agentcanary.effects.events import Notification
from agentcanary.rollout import Phase
from agentcanary.store.schema import conversations, outcomes
from tests.faults.world import World, legal

FLUSH = 0.1


class MovedClock:
    """The machine's clock, and what somebody added to it."""

    speed = 1.0

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.time() + self.added


def test_a_killed_worker_loses_one_flush_interval_at_most(url: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)

        async def work() -> None:
            async with World(url, tmp_path) as world:
                for number in range(100_000):
                    unit = f"c-{number // 3}"
                    await world.turn(unit)
                    outcome = max(world.acknowledged, key=lambda name: int(name[2:]))
                    os.write(write, f"{time.monotonic():.6f} {unit} {outcome}\n".encode())
                    await asyncio.sleep(0.002)

        try:
            asyncio.run(work())
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        first = told.readline()
        assert first
        time.sleep(1.5)
        killed = time.monotonic()
        os.kill(child, signal.SIGKILL)
        lines = [first, *told.read().splitlines()]
    os.waitpid(child, 0)
    acknowledged = [line.split() for line in lines if line.count(" ") == 2]
    assert len(acknowledged) > 30

    async def adopt() -> None:
        async with World(url, tmp_path, start=False) as world:
            await world.stored()
            store = world.store()
            with store._database.read() as connection:
                c = conversations.c
                turns = {
                    unit: int(n) for unit, n in connection.execute(select(c.unit, func.sum(c.turns)).group_by(c.unit))
                }
                kept = set(connection.scalars(select(outcomes.c.id)))
            legal(store)
            store.close()
        asked: dict[str, int] = {}
        for _, unit, _ in acknowledged:
            asked[unit] = asked.get(unit, 0) + 1
        # One turn may have been served whose acknowledgement was not written any more.
        last = acknowledged[-1][1]
        assert all(n <= asked.get(unit, 0) + (unit == last or unit not in asked) for unit, n in turns.items())
        lost = [line for line in acknowledged if line[2] not in kept]
        # Only the newest are missing, none in between.
        assert lost == acknowledged[len(acknowledged) - len(lost) :]
        # A flush interval is 0.1 s; where everything shares two cores the thread may wake up late.
        assert all(killed - float(at) < 10 * FLUSH for at, _, _ in lost)
        assert len(lost) < len(acknowledged) / 2
        assert {unit for _, unit, outcome in acknowledged if outcome in kept} <= set(turns)

    asyncio.run(adopt())


async def test_a_process_that_forks_after_its_start_records_on_both_sides(url: str, tmp_path: Path) -> None:
    async with World(url, tmp_path) as world:
        await world.talk(0.2, "parent")
        child = await asyncio.to_thread(_fork_and_record, world)
        assert child == 0
        await world.talk(0.2, "parent-again")
        world.acknowledged.add("o-of-the-child")
        await world.stored()
        world.kept()


def _fork_and_record(world: World) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            world.canary.record("parent-0", "task_completion", 1, id="o-of-the-child")
            code = 0 if world.canary.recorder.flush_and_wait(10.0) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_while_the_agent_blocks_the_event_loop_everything_is_stored_and_obeyed(url: str, tmp_path: Path) -> None:
    async with World(url, tmp_path) as world:
        await world.talk(0.3)
        world.rollback()
        time.sleep(1.0)
        # Nothing ran on the loop since; the rollback is known and everything is stored all the same.
        view, fresh = world.canary.view()
        assert (view.open, fresh) == (False, True)
        world.kept()


async def test_while_the_frameworks_threads_are_all_taken_a_new_conversation_is_looked_up(
    url: str, tmp_path: Path
) -> None:
    async with World(url, tmp_path) as world:
        world.canary.pins.settle(None)
        world.canary.snapshots._settling = None
        free = threading.Event()
        taken = [asyncio.create_task(run_in_threadpool(free.wait, 20.0)) for _ in range(40)]
        await asyncio.sleep(0.05)
        try:
            versions = {await world.turn(f"c-{number}") for number in range(20)}
        finally:
            free.set()
            await asyncio.gather(*taken)
        assert versions == {"v1", "v2"}
        assert "pin_lookup" not in world.degraded
        await world.stored()
        world.kept()


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0], ids=["an hour back", "an hour on"])
async def test_a_clock_that_jumps_breaks_nothing(url: str, tmp_path: Path, seconds: float) -> None:
    clock = MovedClock()
    async with World(url, tmp_path, clock=clock) as world:
        await world.talk(0.2, "before")
        clock.added = seconds
        await world.talk(0.4, "after")
        await world.look()
        clock.added = 0.0
        await world.talk(0.2, "again")
        await world.look()
        await world.stored()
        world.kept()
        assert not world.degraded - {"controller"}
        for unit, versions in world.served.items():
            assert len(set(versions)) == 1, (unit, versions)


async def test_a_notifier_that_hangs_delays_no_rollback(url: str, tmp_path: Path) -> None:
    hanging = threading.Event()
    events: list[str] = []

    def notify(told: Notification) -> None:
        events.append(told.event)
        assert hanging.wait(20.0)

    async with World(url, tmp_path, notifiers=[notify], look_every="1s", start=False) as world:
        store = world.store()
        for _ in range(100):
            if events:
                break
            await asyncio.sleep(0.05)
        assert events == ["started"]
        rollout = store.current("support")
        assert rollout is not None
        # The message of the start still hangs. A violation must become a rollback.
        world.canary.record("nobody", "safety_violation", 1)
        with store._database.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE rollouts SET stopped_at = {time.time()}, stop_reason = 'x', revision = revision + 1"
            )
        for _ in range(100):
            rollout = store.current("support")
            assert rollout is not None
            if rollout.phase is Phase.ROLLED_BACK:
                break
            await asyncio.sleep(0.05)
        assert rollout.phase is Phase.ROLLED_BACK
        assert events == ["started"]
        hanging.set()
        for _ in range(100):
            if "safety_stop" in events:
                break
            await asyncio.sleep(0.05)
        assert events.count("safety_stop") == 1
        legal(store)
        store.close()
