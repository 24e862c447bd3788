"""What a database must bring to be a store: engines, and the meaning of its errors."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sqlalchemy import Dialect, Engine


class Engines(NamedTuple):
    """Three ways to one pool of connections.

    Attributes:
        plain: One statement at a time.
        writing: Transactions that write.
        reading: Transactions in which everything belongs to one moment.
    """

    plain: Engine
    writing: Engine
    reading: Engine


class Backend(Protocol):
    """One kind of database.

    Attributes:
        dialect: For the texts of statements.
    """

    dialect: Dialect

    def open(self) -> Engines:
        """Create or migrate the store if needed, and connect."""

    def close(self, engines: Engines) -> None:
        """Close all connections; those in use are closed when they are given back."""

    def schema(self) -> str | None:
        """The schema version that the store has now, None for an empty one. Changes nothing."""

    def still_there(self) -> None:
        """Raise a ``StoreError`` when what is written would go nowhere."""

    def meaning(self, error: BaseException) -> tuple[type[Exception], str] | None:
        """What to raise for an error of the driver, and what to say; None for an error that is not known."""

    def lost(self, error: BaseException, /) -> bool:
        """True when the connection is of no use any more; those that were made before are not given out again."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its details: they may hold values."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
