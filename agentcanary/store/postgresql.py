"""PostgreSQL as a store: any number of machines. Its SQL is what the distributed PostgreSQL engines run too."""

from __future__ import annotations

import math
import time
from typing import Any

from sqlalchemy import Dialect, Engine, create_engine, event
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from agentcanary.errors import ConflictError, ContentionError, StoreError, StoreRefusedError
from agentcanary.store.backend import Engines, first_line
from agentcanary.store.migrations import HEAD, migrate, revision_of

# Of each process: two threads look up pins; recorder, snapshot and controller have one each.
_POOL = 5
# A client notices within so many seconds that the other end is gone, also while it waits for an answer.
_CONNECT = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "agentcanary",
}
# Nothing of ours takes long. Whoever waits for a lock waits longer than it can be held by a worker that was stopped or
# cut off in the middle of a transaction.
_SESSION = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '3s'"
# Any number, the same in every release; the distributed engines take this lock for granted.
_MIGRATING = 0x6167656E7463
_MADE_AT = "agentcanary.made_at"

_MEANINGS: dict[str, tuple[type[Exception], str]] = {
    "23505": (ConflictError, "somebody else stored the same first"),
    "25006": (StoreError, "it cannot be written: the server is read-only, such as a standby"),
    "28": (StoreError, "the server refuses this user or its password"),
    "40001": (ContentionError, "another transaction was in the way"),
    "40P01": (ContentionError, "another transaction was in the way"),
    "42501": (StoreError, "this user may not do that: it needs to create, read and write its own tables"),
    "42P01": (StoreRefusedError, "a table is missing; restore a copy, or give agentcanary an empty database"),
    "42703": (StoreRefusedError, "a column is missing; restore a copy, or give agentcanary an empty database"),
    "53100": (StoreError, "the server's disk is full"),
    "53300": (StoreError, "the server has no connection left: raise max_connections or put a pooler before it"),
    "55P03": (StoreError, "another process is writing to it, and did not end in time"),
    "57014": (StoreError, "the server took too long"),
    "57P": (StoreError, "the server is shutting down or starting"),
    "XX": (StoreRefusedError, "the server reports damaged data; restore a copy"),
}
# Conditions under which a connection has no future: the server goes, went, or writes nothing any more.
_LOST = ("08", "25006", "25P03", "57P")


class PostgreSQL:
    """A PostgreSQL database, or a schema of one.

    Args:
        url: ``postgresql+psycopg://user@host/database``; options of libpq may follow as a query.
        name: The URL without its password, for messages.
    """

    dialect: Dialect = PGDialect(paramstyle="format")  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped

    def __init__(self, url: URL, name: str) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self._name = name
        self._lost_at = float("-inf")

    def open(self) -> Engines:
        """Create or migrate the tables under a lock, and connect.

        Raises:
            StoreRefusedError: If the driver is missing, or the database must not be used.
        """
        engine = self._engine()
        writing = engine.execution_options(isolation_level="READ COMMITTED")
        try:
            with engine.connect() as connection:
                found = revision_of(connection)
            if found != HEAD:
                self._migrate(writing)
        except BaseException:
            engine.dispose()
            raise
        reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return Engines(engine, writing, reading)

    def close(self, engines: Engines) -> None:
        """See ``Backend``."""
        self._lost_at = time.monotonic()
        engines.plain.dispose()

    def schema(self) -> str | None:
        """See ``Backend``."""
        engine = self._engine()
        try:
            with engine.connect() as connection:
                return revision_of(connection)
        finally:
            engine.dispose()

    def still_there(self) -> None:
        """A server that is gone says so itself."""

    def meaning(self, error: BaseException) -> tuple[type[Exception], str] | None:
        """See ``Backend``."""
        state = _state(error)
        if state is None:
            return StoreError, f"it cannot be reached: {first_line(error)}"
        if state.startswith("22"):
            return ValueError, f"a value cannot be stored (SQLSTATE {state})"
        return _MEANINGS.get(state) or _MEANINGS.get(state[:3]) or _MEANINGS.get(state[:2])

    def lost(self, error: BaseException, /) -> bool:
        """See ``Backend``."""
        if not _is_end(error):
            return False
        self._lost_at = time.monotonic()
        return True

    def _engine(self) -> Engine:
        options = {key: value for key, value in _CONNECT.items() if key not in self._url.query}
        try:
            engine = create_engine(
                self._url,
                connect_args=options,
                # Single statements need no transaction; whoever wants one says so.
                isolation_level="AUTOCOMMIT",
                pool_size=_POOL,
                max_overflow=_POOL,
                pool_timeout=1.0,
                pool_use_lifo=True,
            )
        except ModuleNotFoundError as error:
            raise StoreRefusedError(
                f"store {self._name}: the driver is missing; install agentcanary[postgres]"
            ) from error
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "checkout", self._refuse_old)
        event.listen(engine, "checkin", self._close_old)
        event.listen(engine, "handle_error", self._mark_lost)
        return engine

    def _migrate(self, writing: Engine) -> None:
        with writing.begin() as connection:
            # All hosts may start at once: one migrates, the others wait.
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'")
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s::bigint)", (_MIGRATING,))
            if revision_of(connection) != HEAD:
                migrate(connection, self._name)

    def _refuse_old(self, _connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        # The server was restarted, or another one took over: the pool makes a new connection instead.
        if record.info.get(_MADE_AT, math.inf) <= self._lost_at:
            raise DisconnectionError

    def _close_old(self, _connection: Any, record: ConnectionPoolEntry) -> None:
        if record.info.get(_MADE_AT, math.inf) <= self._lost_at:
            record.invalidate()

    def _mark_lost(self, context: ExceptionContext) -> None:
        # SQLAlchemy knows a closed connection by itself, but not a server that will never write again.
        if context.original_exception is not None and self.lost(context.original_exception):
            context.is_disconnect = True


def _is_end(error: BaseException) -> bool:
    """True for an error after which the connection has no future."""
    import psycopg

    state = _state(error)
    if state is not None:
        return state.startswith(_LOST)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _state(error: BaseException) -> str | None:
    """The SQLSTATE, if the server sent one."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state: str | None = getattr(original, "sqlstate", None)
    return state


def _prepare(connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[_MADE_AT] = time.monotonic()
    before, connection.autocommit = connection.autocommit, True
    connection.execute(_SESSION)
    connection.autocommit = before
