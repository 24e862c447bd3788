"""Bounded memories of what this process has seen lately. No locks: their dicts and sets are atomic."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """A mapping that forgets what was not used for long, in two generations.

    New and used entries are in the young generation. When it is full it becomes the old one, and the old one is
    forgotten. So at least the ``capacity`` latest entries are known and never more than twice as many, at the price
    of a plain dict: an ordered dict needs half as much memory again, and a lock.

    Args:
        capacity: Entries in a generation, at least 1.
    """

    __slots__ = ("_capacity", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._young: dict[bytes, Value] = {}
        self._old: dict[bytes, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> Value | None:
        """The value of a key, which is thereby used; None when it is not known (any more)."""
        value = self._young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Remember the value of a key."""
        young = self._young
        young[key] = value
        if len(young) >= self._capacity:
            self._young, self._old = {}, young


class Seen:
    """Remembers strings that were seen lately, by their hash in this process.

    Two strings with the same 64-bit hash are taken for one: good enough to tell a first turn in a trace, never for
    an assignment.

    Args:
        capacity: Entries in each of two generations, as in ``Recent``.
    """

    __slots__ = ("_capacity", "_old", "_young")

    def __init__(self, capacity: int = 50_000) -> None:
        self._capacity = capacity
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, text: str) -> bool:
        """Remember a string; True when it was not known."""
        key = hash(text)
        young = self._young
        if key in young:
            return False
        new = key not in self._old
        young.add(key)
        if len(young) >= self._capacity:
            self._young, self._old = set(), young
        return new
