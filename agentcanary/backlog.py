"""Batches that wait for the store: in this process's journal, and in those that it adopted from dead ones."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

from agentcanary.journal import Journal, abandoned
from agentcanary.store.batch import Batch, ConversationRow, NamelessRow, OutcomeRow

_ATTEMPTS = 3


class Waiting(NamedTuple):
    """A batch that is not stored.

    Attributes:
        batch_id: Under which it may have been sent before.
        since: Unix time in real seconds at which it came into the backlog.
        batch: What is to be added.
    """

    batch_id: str
    since: float
    batch: Batch


class _Plain(pickle.Unpickler):
    """Reads plain values only. Pickle is an eighth of the cost of JSON here; its dangers are in what this refuses."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a journal holds plain values, got {module}.{name}")


def encode(waiting: Waiting) -> bytes:
    """A batch as bytes."""
    conversations, outcomes, nameless = waiting.batch
    rows = ([tuple(row) for row in conversations], [tuple(row) for row in outcomes], [tuple(row) for row in nameless])
    return pickle.dumps((waiting.batch_id, waiting.since, *rows), protocol=5)


def decode(entry: bytes) -> Waiting:
    """The batch that ``encode`` gave.

    Raises:
        ValueError: If the bytes are none.
    """
    try:
        batch_id, since, conversations, outcomes, nameless = _Plain(io.BytesIO(entry)).load()
        batch = Batch(
            [ConversationRow._make(row) for row in conversations],
            [OutcomeRow._make(row) for row in outcomes],
            [NamelessRow._make(row) for row in nameless],
        )
    except Exception as error:  # damaged bytes make pickle raise almost anything
        raise ValueError(f"not a batch: {type(error).__name__}: {error}") from error
    return Waiting(batch_id, since, batch)


class Backlog:
    """The batches that wait, the oldest of each journal first.

    Args:
        folder: The folder of all journals for one store.
        name: Unique for ever; a journal that could not be locked at once gets another one.

    Raises:
        OSError: If the folder cannot be written.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._journal = Journal(folder, name)
        self._adopted: list[Journal] = []
        self._taken: dict[str, list[str]] = {}
        # Ids of batches that are stored and can never come back from a journal.
        self.settled: list[str] = []
        # Names of dead workers whose batches are all stored.
        self.finished: list[str] = []

    @property
    def pending(self) -> int:
        """Bytes that wait."""
        return sum(journal.pending for journal in self._journals)

    @property
    def damaged(self) -> int:
        """Bytes of adopted journals that could not be read."""
        return sum(journal.damaged for journal in self._journals)

    def append(self, waiting: Waiting, *, sync: bool = False) -> None:
        """Let a batch wait.

        Raises:
            OSError: If it could not be written.
        """
        self._journal.append(encode(waiting), sync=sync)

    def first(self) -> Waiting | None:
        """The batch to store next; it stays until ``take``.

        Raises:
            ValueError: If it cannot be read; ``take`` goes on behind it.
        """
        for journal in self._journals:
            entry = journal.first()
            if entry is not None:
                return decode(entry)
        return None

    def take(self, batch_id: str | None) -> None:
        """Take away what ``first`` gave, because it is stored."""
        for journal in self._journals:
            if journal.first() is not None:
                taken = self._taken.setdefault(journal.name, [])
                if batch_id is not None:
                    taken.append(batch_id)
                if journal.take():
                    self.settled += self._taken.pop(journal.name)
                break
        self._close_adopted()

    def adopt(self) -> None:
        """Take over the journals of processes that died."""
        mine = {journal.name for journal in self._journals}
        for name in abandoned(self._folder):
            if name not in mine:
                try:
                    self._adopted.append(Journal(self._folder, name))
                except OSError:  # its process lives
                    continue
        self._close_adopted()

    def close(self) -> None:
        """Give everything up; what waits is adopted by the next process."""
        for journal in self._journals:
            journal.close()

    def forget(self) -> None:
        """Leave everything to the parent process."""
        for journal in self._journals:
            journal.forget()

    @property
    def _journals(self) -> list[Journal]:
        return [self._journal, *self._adopted]

    def _close_adopted(self) -> None:
        for journal in [journal for journal in self._adopted if not journal.pending]:
            self._adopted.remove(journal)
            journal.close()
            self.finished.append(journal.name)


def new_name(worker_id: str) -> str:
    """A name that no other process ever had.

    Raises:
        ValueError: If the id cannot be part of a file's name.
    """
    if not worker_id or "/" in worker_id or "\x00" in worker_id:
        raise ValueError(f"a worker id is part of a file's name and must not be empty or hold '/', got {worker_id!r}")
    return f"{worker_id}.{os.urandom(6).hex()}"
