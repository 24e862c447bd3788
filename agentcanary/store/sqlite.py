"""SQLite as a store: one machine, any number of processes."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from agentcanary.errors import ConflictError, StoreError, StoreRefusedError
from agentcanary.store.backend import Engines
from agentcanary.store.files import locked, refuse_network_file_system
from agentcanary.store.migrations import HEAD, migrate, revision_of

# Seconds that a statement waits for another process's write. Whoever waits has something better to do afterwards: the
# recorder writes to its journal, a look comes again.
BUSY_TIMEOUT = 1.0
_ASK_AGAIN = 0.001
# Pages of 4 KiB. New conversations land all over the key, so most of a batch is pages; fewer checkpoints write each
# hot page fewer times.
_CHECKPOINT_AFTER = 8000
_CACHE_KIB = 32_000
_CHECKED_WHOLE_UP_TO = 64 * 2**20

_MEANINGS = (
    ("file is not a database", StoreRefusedError, "the file is not a database; move it away to start afresh"),
    ("malformed", StoreRefusedError, "the file is corrupted; restore a copy, or move it away to start afresh"),
    ("no such table", StoreRefusedError, "a table is missing; move the file away to start afresh"),
    ("no such column", StoreRefusedError, "a column is missing; move the file away to start afresh"),
    ("UNIQUE constraint failed", ConflictError, "somebody else stored the same first"),
    ("is locked", StoreError, "another process is writing to it, and did not end in time"),
    ("is full", StoreError, "the disk is full, or the file has reached its size limit"),
    ("readonly", StoreError, "it cannot be written: the file or its folder is read-only"),
    ("unable to open", StoreError, "the file cannot be opened: is the folder there, and may this user write to it?"),
    ("disk I/O error", StoreError, "the disk reports an error"),
)


class SQLite:
    """An SQLite file.

    Args:
        url: ``sqlite:///path``.
        name: The URL, for messages.

    Raises:
        StoreRefusedError: If the URL names no file.
    """

    dialect: Dialect = SQLiteDialect(paramstyle="qmark")

    def __init__(self, url: URL, name: str) -> None:
        if url.database in (None, "", ":memory:"):
            raise StoreRefusedError(f"store: {name} is not supported; write sqlite:///path/to/file.sqlite3")
        self._url = url
        self._name = name
        self._path = Path(url.database or "")
        self._identity: tuple[int, int] | None = None

    def open(self) -> Engines:
        """Create or migrate the file under a lock beside it, and connect.

        Raises:
            StoreRefusedError: If it must not be used.
        """
        refuse_network_file_system(self._path)
        engine = create_engine(
            self._url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=8, max_overflow=8, pool_use_lifo=True
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        writing = engine.execution_options(begin="IMMEDIATE")
        try:
            with locked(self._path):
                self._set_up(engine, writing)
        except BaseException:
            engine.dispose()
            raise
        self._identity = _identity(self._path)
        return Engines(engine, writing, engine.execution_options(begin="DEFERRED"))

    def close(self, engines: Engines) -> None:
        """See ``Backend``."""
        engines.plain.dispose()

    def schema(self) -> str | None:
        """See ``Backend``."""
        if not self._path.exists():
            return None
        engine = create_engine(self._url, connect_args={"timeout": BUSY_TIMEOUT}, poolclass=NullPool)
        with engine.connect() as connection:
            return revision_of(connection)

    def still_there(self) -> None:
        """Notice a file that was deleted or replaced: SQLite would go on writing to nowhere.

        Raises:
            StoreError: If it was.
        """
        if self._identity is None or self._identity == _identity(self._path):
            return
        self._identity = None
        raise StoreError(f"store {self._name}: the file was deleted or replaced while it was in use")

    def meaning(self, error: BaseException) -> tuple[type[Exception], str] | None:
        """See ``Backend``."""
        text = str(error)
        return next(((kind, meaning) for part, kind, meaning in _MEANINGS if part in text), None)

    def lost(self, _error: BaseException, /) -> bool:
        """A file cannot hang up."""
        return False

    def _set_up(self, engine: Engine, writing: Engine) -> None:
        existed = self._path.exists() and self._path.stat().st_size > 0
        with engine.connect() as connection:
            if existed:
                self._refuse_corrupted(connection)
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            found = revision_of(connection)
        if found != HEAD:
            with writing.begin() as connection:
                migrate(connection, self._name)

    def _refuse_corrupted(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        # The whole file is read: worth it while that takes a fraction of a second.
        if self._path.stat().st_size <= _CHECKED_WHOLE_UP_TO:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise StoreRefusedError(
                    f"store {self._name}: the file is corrupted; restore a copy, or move it away to start afresh"
                )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _prepare(connection: Any, _: Any) -> None:
    # The driver's own transactions begin late and never IMMEDIATE; ours are begun by ``_begin``.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_AFTER}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    mode = options.get("begin")
    if mode == "DEFERRED":
        connection.exec_driver_sql("BEGIN")
    elif mode == "IMMEDIATE":
        _begin_immediate(connection.connection.driver_connection, options.get("wait", BUSY_TIMEOUT))


def _begin_immediate(connection: Any, wait: float) -> None:
    """Begin to write, waiting for other processes.

    SQLite's own waiting sleeps longer and longer, up to 100 ms, while another process writes for five: with four
    workers most of the time nobody would write.
    """
    deadline = time.monotonic() + wait
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_ASK_AGAIN)
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT * 1000)}")
