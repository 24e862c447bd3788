"""A store's connections: transactions, single statements, and what went wrong in words."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.schema import Table

from agentcanary.config.shown_urls import shown_url
from agentcanary.errors import AgentCanaryError, StoreError, StoreRefusedError
from agentcanary.store.backend import Backend, Engines, first_line
from agentcanary.store.postgresql import PostgreSQL
from agentcanary.store.sqlite import BUSY_TIMEOUT, SQLite

# Seconds that a batch waits for another process: meanwhile records pile up in memory, where a crash would lose them.
BATCH_TIMEOUT = 0.2
_REMEDY = "write sqlite:///path/to/file.sqlite3 or postgresql+psycopg://user@host/database"
_BACKENDS: dict[str, Callable[[URL, str], Backend]] = {"sqlite": SQLite, "postgresql": PostgreSQL}
T = TypeVar("T")


class Database:
    """A store's connections. Cheap to make: it connects on first use, and again after a fork.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://user@host/database``.

    Raises:
        StoreRefusedError: If the URL is none, or of a database that is not supported.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url: URL = make_url(url)
        except ArgumentError as error:
            raise StoreRefusedError(f"store: {shown_url(url)} is not a URL; {_REMEDY}") from error
        kind = _BACKENDS.get(self.dialect)
        if kind is None:
            raise StoreRefusedError(f"store: {self.name} is not supported; {_REMEDY}")
        self._backend = kind(self._url, self.name)
        self._lock = threading.Lock()
        self._engines: Engines | None = None
        forked = weakref.WeakMethod(self._forget_parent)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    @property
    def name(self) -> str:
        """The URL without its password, for messages."""
        return self._url.set(query={}).render_as_string(hide_password=True)

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
            if self._engines is None:
                self._engines = self._backend.open()

    def schema(self) -> str | None:
        """The schema version that the store has, None for an empty one; looks without opening it.

        Raises:
            StoreError: If it cannot be reached.
        """
        with self._translated():
            return self._backend.schema()

    def close(self) -> None:
        """Close all connections. The next use opens it again."""
        with self._lock:
            engines, self._engines = self._engines, None
            if engines is not None:
                self._backend.close(engines)

    @contextmanager
    def write(self, *, wait: float = BUSY_TIMEOUT) -> Iterator[Connection]:
        """One transaction that writes.

        Args:
            wait: Seconds to wait for another process's write; PostgreSQL waits for single rows, five seconds at most.
        """
        engine = self._opened().writing
        with (
            self._translated(),
            (engine if wait == BUSY_TIMEOUT else engine.execution_options(wait=wait)).begin() as connection,
        ):
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction that only reads: everything in it belongs to one moment."""
        with self._translated(), self._opened().reading.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for one statement that reads."""
        with self._translated(), self._opened().plain.connect() as connection:
            yield connection

    def fetch(self, sql: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The rows of one compiled statement that reads, by the shortest way: a fifth of the cost of ``read``."""
        rows: Sequence[Sequence[Any]] = self._run(sql, parameters, lambda cursor: cursor.fetchall())
        return rows

    def store(self, sql: str, parameters: Sequence[Any]) -> int:
        """Execute and commit one compiled statement that writes; the number of rows that it changed.

        Args:
            sql: Where a second execution changes nothing: that follows when the connection was lost meanwhile.
            parameters: In their order of appearance.
        """
        return self._run(sql, parameters, lambda cursor: int(cursor.rowcount))

    def compiled(self, statement: ClauseElement) -> str:
        """The text of a statement for this database, its parameters in their order of appearance."""
        return str(statement.compile(dialect=self._backend.dialect))

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An insert with ``on_conflict_do_update``, which both databases know."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    def still_there(self) -> None:
        """Notice a store that is gone though its connections are open.

        Raises:
            StoreError: If it is.
        """
        try:
            self._backend.still_there()
        except StoreError:
            self.close()
            raise

    def _opened(self) -> Engines:
        if self._engines is None:
            self.open()
        engines = self._engines
        if engines is None:
            raise StoreError(f"store {self.name}: it was closed while it was being opened")
        return engines

    def _run(self, sql: str, parameters: Sequence[Any], result: Callable[[Any], T]) -> T:
        with self._translated():
            try:
                return self._run_once(sql, parameters, result)
            except Exception as error:
                if not self._backend.lost(error):
                    raise
            # The server was restarted, or another one took over: a new connection may find it.
            return self._run_once(sql, parameters, result)

    def _run_once(self, sql: str, parameters: Sequence[Any], result: Callable[[Any], T]) -> T:
        engine = self._opened().plain
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            found = result(cursor)
            connection.commit()
        except Exception as error:
            if self._backend.lost(error):
                connection.invalidate()
            raise
        else:
            return found
        finally:
            connection.close()

    def _forget_parent(self) -> None:
        # A connection must not be used, nor closed, by two processes; a lock may have been held while forking.
        self._lock = threading.Lock()
        engines, self._engines = self._engines, None
        if engines is not None:
            engines.plain.dispose(close=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except AgentCanaryError:
            raise
        except DataError as error:
            raise ValueError(f"store {self.name}: a value cannot be stored") from error
        except SQLAlchemyError as error:
            raise self._meant(error.orig if isinstance(error, DBAPIError) and error.orig else error) from error
        except OSError as error:
            raise StoreError(f"store {self.name}: {error.strerror or error}") from error
        except Exception as error:
            if isinstance(error, sqlite3.Error) or hasattr(error, "sqlstate"):
                raise self._meant(error) from error
            raise

    def _meant(self, error: BaseException) -> Exception:
        kind, meaning = self._backend.meaning(error) or (StoreError, first_line(error))
        return kind(f"store {self.name}: {meaning}")


class StorePart:
    """One idea of the store. ``Store`` is made of all of them.

    Args:
        database: The store's connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
