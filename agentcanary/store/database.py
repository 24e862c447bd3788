"""The engine: connections, transactions, and what went wrong in words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.schema import Table

from agentcanary.config.shown_urls import shown_url
from agentcanary.errors import AgentCanaryError, ConflictError, StoreError, StoreRefusedError
from agentcanary.store.files import locked, refuse_network_file_system
from agentcanary.store.migrations import HEAD, migrate, revision_of

# Seconds that a statement waits for another process's write. Whoever waits has something better to do afterwards: the
# recorder writes to its journal, a look comes again.
BUSY_TIMEOUT = 1.0
# The same for batches: meanwhile records pile up in memory, where a crash would lose them.
BATCH_TIMEOUT = 0.2
_ASK_AGAIN = 0.001
# Pages of 4 KiB. New conversations land all over the key, so most of a batch is pages; fewer checkpoints write each
# hot page fewer times.
_CHECKPOINT_AFTER = 8000
_CACHE_KIB = 32_000
_CHECKED_WHOLE_UP_TO = 64 * 2**20

_DIALECTS: dict[str, Dialect] = {
    "sqlite": SQLiteDialect(paramstyle="qmark"),
    "postgresql": PGDialect(paramstyle="format"),  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
}
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


class Database:
    """A store's connections. Cheap to make: it connects on first use, and again after a fork.

    Args:
        url: ``sqlite:///path``.

    Raises:
        StoreRefusedError: If the URL is none, or of a database that is not supported.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url: URL = make_url(url)
        except ArgumentError as error:
            raise StoreRefusedError(
                f"store: {shown_url(url)} is not a URL; write sqlite:///path/to/file.sqlite3"
            ) from error
        if self._url.get_backend_name() != "sqlite" or self._url.database in (None, "", ":memory:"):
            raise StoreRefusedError(f"store: {self.name} is not supported; write sqlite:///path/to/file.sqlite3")
        self._path = Path(self._url.database or "")
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._engine: Engine | None = None
        self._writing: Engine | None = None
        self._reading: Engine | None = None
        forked = weakref.WeakMethod(self._forget_parent)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self._url.render_as_string(hide_password=True)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    def open(self) -> None:
        """Create or migrate the store if needed, and connect.

        Raises:
            StoreError: If it cannot be reached.
            StoreRefusedError: If it must not be used.
        """
        with self._lock, self._translated():
            if self._engine is None:
                self._open()

    def close(self) -> None:
        """Close all connections. The next use opens it again."""
        with self._lock:
            engine, self._engine, self._writing, self._reading = self._engine, None, None, None
            if engine is not None:
                engine.dispose()

    @contextmanager
    def write(self, *, wait: float = BUSY_TIMEOUT) -> Iterator[Connection]:
        """One transaction that writes.

        Args:
            wait: Seconds to wait for another process's write.
        """
        engine = self._engines()[1]
        with (
            self._translated(),
            (engine if wait == BUSY_TIMEOUT else engine.execution_options(wait=wait)).begin() as connection,
        ):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction that only reads: everything in it belongs to one moment."""
        with self._translated(), self._engines()[2].begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for one statement that reads."""
        with self._translated(), self._engines()[0].connect() as connection:
            yield connection

    def fetch(self, sql: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of one compiled statement that reads, by the shortest way: a fifth of the cost of ``read``."""
        with self._translated(), closing(self._engines()[0].raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows

    def store(self, sql: str, parameters: Sequence[Any]) -> int:
        """Execute and commit one compiled statement that writes; the number of rows that it changed."""
        with self._translated(), closing(self._engines()[0].raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            connection.commit()
            return cursor.rowcount

    def compiled(self, statement: ClauseElement) -> str:
        """The text of a statement for this database, its parameters in their order of appearance."""
        return str(statement.compile(dialect=_DIALECTS[self.dialect]))

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An insert with ``on_conflict_do_update``, which both databases know."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    def still_there(self) -> None:
        """Notice a file that was deleted or replaced: SQLite would go on writing to nowhere.

        Raises:
            StoreError: If it was.
        """
        if self._identity is None or self._identity == _identity(self._path):
            return
        self.close()
        raise StoreError(f"store {self.name}: the file was deleted or replaced while it was in use")

    def _engines(self) -> tuple[Engine, Engine, Engine]:
        if self._engine is None:
            self.open()
        if self._engine is None or self._writing is None or self._reading is None:
            raise StoreError(f"store {self.name}: it was closed while it was being opened")
        return self._engine, self._writing, self._reading

    def _open(self) -> None:
        refuse_network_file_system(self._path)
        engine = create_engine(
            self._url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=8, max_overflow=8, pool_use_lifo=True
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        with locked(self._path):
            existed = self._path.exists() and self._path.stat().st_size > 0
            with engine.connect() as connection:
                if existed:
                    self._refuse_corrupted(connection)
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                found = revision_of(connection)
            if found != HEAD:
                with engine.execution_options(begin="IMMEDIATE").begin() as connection:
                    migrate(connection, self.name)
        self._identity = _identity(self._path)
        self._writing = engine.execution_options(begin="IMMEDIATE")
        self._reading = engine.execution_options(begin="DEFERRED")
        self._engine = engine

    def _refuse_corrupted(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        # The whole file is read: worth it while that takes a fraction of a second.
        if self._path.stat().st_size <= _CHECKED_WHOLE_UP_TO:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise StoreRefusedError(
                    f"store {self.name}: the file is corrupted; restore a copy, or move it away to start afresh"
                )

    def _forget_parent(self) -> None:
        # A connection must not be used, nor closed, by two processes; a lock may have been held while forking.
        self._lock = threading.Lock()
        engine, self._engine, self._writing, self._reading = self._engine, None, None, None
        if engine is not None:
            engine.dispose(close=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except AgentCanaryError:
            raise
        except (DBAPIError, sqlite3.Error) as error:
            text = str(error.orig if isinstance(error, DBAPIError) else error)
            for part, kind, meaning in _MEANINGS:
                if part in text:
                    raise kind(f"store {self.name}: {meaning}") from error
            raise StoreError(f"store {self.name}: {text}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"store {self.name}: {error}") from error
        except OSError as error:
            raise StoreError(f"store {self.name}: {error.strerror or error}") from error


class StorePart:
    """One idea of the store. ``Store`` is made of all of them.

    Args:
        database: The store's connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database


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
