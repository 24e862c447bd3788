"""Inserting many rows by few statements.

The driver of SQLite gives up the interpreter's lock for every statement and must win it back from busy request threads,
up to 5 ms later: a statement a row would write 200 rows a second. That of PostgreSQL reads the text of a statement anew
when it is long: a thousand rows as one array for each column cost a third of as many in a list of values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from agentcanary.store.database import Database

_VALUES = 250
_ARRAYS = 1000
Rows = Sequence[tuple[Any, ...]]


def many_rows(database: Database, insert: Any, table: Table) -> Callable[[Connection, Rows], None]:
    """A function that inserts rows.

    Args:
        database: Where.
        insert: One row of it, with what happens on a conflict.
        table: Of the rows, whose values are in the order of its columns.
    """
    head, _, rest = database.compiled(insert).partition(" VALUES ")
    row, closing, tail = rest.partition(")")
    if database.dialect == "sqlite":
        return _by_values(head, row + closing, tail)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    arrays = ", ".join(f"%s::{column.type.compile(dialect)}[]" for column in table.columns)
    return _by_arrays(f"{head} SELECT * FROM unnest({arrays}){tail}")


def _by_arrays(statement: str) -> Callable[[Connection, Rows], None]:
    def insert(connection: Connection, rows: Rows) -> None:
        for start in range(0, len(rows), _ARRAYS):
            columns = tuple(list(column) for column in zip(*rows[start : start + _ARRAYS], strict=True))
            connection.exec_driver_sql(statement, columns)

    return insert


def _by_values(head: str, row: str, tail: str) -> Callable[[Connection, Rows], None]:
    @lru_cache(maxsize=16)
    def widened(count: int) -> str:
        return f"{head} VALUES {', '.join([row] * count)}{tail}"

    def insert(connection: Connection, rows: Rows) -> None:
        start, width = 0, _VALUES
        while start < len(rows):
            if start + width > len(rows):
                # By halves, so that few texts of statements are ever made.
                width = width // 2
                continue
            values = tuple(chain.from_iterable(rows[start : start + width]))
            connection.exec_driver_sql(widened(width), values)
            start += width

    return insert
