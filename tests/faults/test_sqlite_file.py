"""The SQLite file: locked by somebody, full, corrupted, deleted."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

from sqlalchemy import event

from agentcanary.pins import DEADLINE
from tests.faults.world import World

PATIENCE = DEADLINE + 1.0


def url_in(folder: Path) -> tuple[str, Path]:
    path = folder / "store.sqlite3"
    return f"sqlite:///{path}", path


async def test_a_file_that_somebody_holds_locked_delays_nobody(tmp_path: Path) -> None:
    url, path = url_in(tmp_path)
    async with World(url, tmp_path) as world:
        await world.talk(0.3, "before")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        await world.talk(0.8, "while")
        assert "recorder_store" in world.degraded
        other.execute("ROLLBACK")
        other.close()
        await world.stored()
        assert world.slowest < PATIENCE
        world.kept()


async def test_a_full_disk_keeps_everything_in_memory_and_in_the_journal(tmp_path: Path) -> None:
    url, _ = url_in(tmp_path)
    async with World(url, tmp_path) as world:
        await world.talk(0.2, "before")
        await world.stored()
        database = world.canary.store._database
        engine = database._opened().plain

        def fill(connection: sqlite3.Connection, *_: object) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={pages}")

        event.listen(engine, "checkout", fill)
        await world.talk(1.0, "while-with-a-long-name-that-fills-the-pages-of-the-file-sooner" * 3, pause=0.002)
        assert "recorder_store" in world.degraded
        event.remove(engine, "checkout", fill)

        def empty(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute("PRAGMA max_page_count=1000000")

        event.listen(engine, "checkout", empty)
        await world.stored()
        world.kept()


async def test_a_corrupted_file_is_refused_and_stable_serves(tmp_path: Path) -> None:
    url, path = url_in(tmp_path)
    async with World(url, tmp_path) as world:
        await world.talk(0.5)
        await world.stored()
    page = 4096
    with path.open("r+b") as file:
        for number in range(3, path.stat().st_size // page, 2):
            file.seek(number * page)
            file.write(os.urandom(300))
    async with World(url, tmp_path, start=False) as again:
        assert {await again.turn(f"new-{number}") for number in range(20)} == {"v1"}
        assert again.slowest < PATIENCE
        await asyncio.sleep(0.5)
        counters = again.canary.recorder.counters
        assert {"snapshot", "recorder_store"} <= again.degraded
        # What could not be stored waits on the disk, for a file that is whole.
        assert counters["journal_bytes"] > 0
        assert counters["dropped"] == 0


async def test_a_deleted_file_is_made_anew_and_nothing_acknowledged_afterwards_is_lost(tmp_path: Path) -> None:
    url, path = url_in(tmp_path)
    async with World(url, tmp_path) as world:
        await world.talk(0.3, "before")
        await world.stored()
        for file in tmp_path.glob("store.sqlite3*"):
            if file.is_file():
                file.unlink()
        world.asked.clear()
        world.acknowledged.clear()
        await world.talk(0.5, "after")
        await world.stored()
        assert path.exists()
        assert "recorder_store" in world.degraded
        world.url = url
        store = world.store()
        for unit, turns in world.asked.items():
            known = store.conversation("support", unit)
            assert known is not None
            assert sum(part.turns for part in known.parts) == turns
        store.close()
