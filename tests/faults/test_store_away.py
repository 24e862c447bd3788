"""The store is stopped, slow, full, read-only, without connections, restored: requests go on, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from agentcanary.pins import DEADLINE
from agentcanary.rollout import Phase
from tests.faults.world import World, legal
from tests.postgresql_server import PostgresServer

pytestmark = pytest.mark.needs("postgresql")
# What a request may take that waits for a pin in vain, on a machine that does something else besides.
PATIENCE = DEADLINE + 1.0


@pytest.fixture
def database(server: PostgresServer) -> str:
    return server.new_database()


async def test_a_server_that_is_restarted_loses_nothing(server: PostgresServer, database: str, tmp_path: Path) -> None:
    async with World(server.url(database), tmp_path) as world:
        await world.talk(0.4, "before")
        server.stop()
        try:
            await world.talk(0.8, "while")
        finally:
            server.start()
        assert world.canary.recorder.counters["journal_bytes"] > 0
        await world.talk(0.4, "after")
        await world.stored()
        assert {"recorder_store", "snapshot"} <= world.degraded
        assert world.slowest < PATIENCE
        # The pool is as good as new: a look-up, a look and a batch all go through.
        assert await world.turn("after-0") in {"v1", "v2"}
        await world.look()
        await world.stored()
        world.kept()


async def test_a_server_that_hangs_delays_no_request_beyond_the_deadline(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    async with World(server.url(database), tmp_path) as world:
        await world.talk(0.3, "before")
        server.pause(True)
        try:
            await world.talk(1.0, "while")
            assert world.canary.recorder.counters["queue"] > 0
        finally:
            server.pause(False)
        await world.talk(0.3, "after")
        await world.stored()
        assert world.slowest < PATIENCE
        world.kept()


async def test_a_server_that_becomes_read_only_is_written_to_again_when_it_can_be(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    async with World(server.url(database), tmp_path) as world:
        await world.talk(0.3, "before")
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        await world.talk(0.8, "while")
        server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        # Nobody ends the connections now: each finds out by itself, as after a fail-over.
        await world.stored()
        assert "recorder_store" in world.degraded
        world.kept()


async def test_without_a_free_connection_everything_waits_on_the_disk(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    server.execute(f"CREATE ROLE {database} LOGIN")
    server.execute(f"ALTER DATABASE {database} OWNER TO {database}")
    async with World(server.url(database, user=database), tmp_path) as world:
        await world.talk(0.3, "before")
        server.execute(f"ALTER ROLE {database} CONNECTION LIMIT 0")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        await world.talk(0.6, "while")
        assert "recorder_store" in world.degraded
        server.execute(f"ALTER ROLE {database} CONNECTION LIMIT -1")
        await world.stored()
        world.kept()


async def test_a_store_that_was_restored_from_an_hour_ago_goes_on_from_there(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    async with World(server.url(database), tmp_path) as world:
        await world.talk(0.3, "before")
        await world.stored()
        asked, acknowledged = dict(world.asked), set(world.acknowledged)
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        for _ in range(50):  # our own threads are quick to connect again
            try:
                copy = server.new_database(template=database)
            except Exception:  # noqa: BLE001 (somebody is connected)
                server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
            else:
                break
        await world.talk(0.3, "lost")
        await world.stored()
        world.rollback()
        await world.until("closed")
        server.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        server.execute(f"ALTER DATABASE {database} RENAME TO {database}_old")
        server.execute(f"ALTER DATABASE {copy} RENAME TO {database}")
        # The rollback is forgotten with everything else: the rollout goes on, as the store says.
        await world.until("open")
        await world.talk(0.3, "after")
        await world.stored()
        world.asked = type(world.asked)(
            {unit: n for unit, n in world.asked.items() if unit in asked or unit.startswith("after")}
        )
        store = world.store()
        assert legal(store).phase is Phase.PROGRESSING
        known = store.conversation("support", "after-0")
        assert known is not None
        assert known.parts[0].turns == world.asked["after-0"]
        # Of what was recorded before, all is there; of the lost hour nothing is made up.
        assert store.conversation("support", "lost-0") is None
        assert acknowledged
        store.close()


async def test_a_worker_that_is_cut_off_obeys_the_rollback_as_soon_as_it_hears_of_it(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    proxy = Proxy(str(server.folder / ".s.PGSQL.5432"))
    folder = tmp_path / "proxy"
    folder.mkdir()
    await proxy.open(str(folder / ".s.PGSQL.5432"))
    url = server.url(database)
    async with World(url.replace(str(server.folder), str(folder)), tmp_path, stale_after="1s") as world:
        world.url = url
        await world.talk(0.3, "before")
        proxy.cut()
        await asyncio.sleep(0.05)
        on_canary = next(unit for unit, versions in world.served.items() if "v2" in versions)
        world.rollback()
        await world.until("stale")
        # It has not heard of the rollback: nobody new, and live conversations stay where they are.
        versions = {await world.turn(f"new-{number}") for number in range(30)}
        assert versions == {"v1"}
        assert await world.turn(on_canary) == "v2"
        await proxy.open(str(folder / ".s.PGSQL.5432"))
        await world.until("closed")
        assert await world.turn(on_canary) == "v1"
        await world.stored()
        world.kept()
    proxy.cut()


class Proxy:
    """Passes bytes between two socket files, until it is cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: list[asyncio.StreamWriter] = []
        self._path = ""

    async def open(self, path: str) -> None:
        """Listen."""
        self._path = path
        self._server = await asyncio.start_unix_server(self._serve, path)

    def cut(self) -> None:
        """End every connection, and take none."""
        if self._server is not None:
            self._server.close()
            self._server = None
            Path(self._path).unlink(missing_ok=True)
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_unix_connection(self._target)
            self._open += [writer, back]
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            return
        finally:
            writer.close()
