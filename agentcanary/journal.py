"""An append-only journal on the local disk: what could not be stored waits here, also for another process.

One journal belongs to one process, which holds its lock file for as long as it lives. A journal whose lock is free was
left behind by a process that died, and may be adopted.

The journal is a folder's files ``NAME.lock`` and ``NAME.000001.journal``, ``NAME.000002.journal``, …, each a sequence
of entries: length and CRC-32 (both 32 bits, little endian), then the bytes. An entry that was cut off by a crash ends
its file; nothing before it is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path
from struct import Struct
from zlib import crc32

_HEAD = Struct("<II")
SEGMENT = 32 * 2**20


class Journal:
    """A queue of bytes on disk: appended at the end, taken from the front, by one process.

    Args:
        folder: Made if it is not there.
        name: Unique for ever.
        segment: Bytes after which a new file begins; a file is deleted when all of it was taken.

    Raises:
        OSError: If the folder cannot be written, or the journal belongs to a living process.
    """

    def __init__(self, folder: Path, name: str, *, segment: int = SEGMENT) -> None:
        self.name = name
        self._folder = folder
        self._segment = segment
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_path = folder / f"{name}.lock"
        self._guard = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._guard)
            raise
        self._files = [_File(path) for path in sorted(folder.glob(f"{name}.*.journal"))]
        self._next = 1 + max((int(file.path.name.split(".")[-2]) for file in self._files), default=0)
        # Bytes that could not be read back: cut off or damaged.
        self.damaged = sum(file.damaged for file in self._files)

    @property
    def pending(self) -> int:
        """Bytes that were appended and not taken."""
        return sum(file.end - file.position for file in self._files)

    def append(self, entry: bytes, *, sync: bool = False) -> None:
        """Add an entry.

        Args:
            entry: Any bytes.
            sync: True to return only when it would survive a loss of power.

        Raises:
            OSError: If it could not be written; the journal is as it was before.
        """
        with self._lock:
            if not self._files or self._files[-1].end >= self._segment:
                self._files.append(_File(self._folder / f"{self.name}.{self._next:06d}.journal"))
                self._next += 1
                if sync:
                    self._sync_folder()
            self._files[-1].append(entry)
            if sync:
                os.fsync(self._files[-1].descriptor)

    def first(self) -> bytes | None:
        """The oldest entry that was not taken, or None. It stays until ``take``."""
        with self._lock:
            for file in self._files:
                entry = file.read()
                if entry is not None:
                    return entry
            return None

    def take(self) -> bool:
        """Take the oldest entry away.

        Returns:
            True when the journal is empty now, also on the disk: whatever was taken can never come back.
        """
        with self._lock:
            for file in self._files:
                if file.read() is not None:
                    file.skip()
                    break
            while self._files and self._files[0].position >= self._files[0].end:
                self._files.pop(0).remove()
            if self._files:
                return False
            self._sync_folder()
            return True

    def close(self) -> None:
        """Give it up: files that hold entries stay for whoever adopts them, the others are removed."""
        with self._lock:
            empty = all(file.position >= file.end for file in self._files)
            for file in self._files:
                file.remove() if empty else file.close()
            self._files = []
            if empty:
                self._lock_path.unlink(missing_ok=True)
            if self._guard >= 0:
                os.close(self._guard)
                self._guard = -1

    def forget(self) -> None:
        """Close the files without a word: in a child process they are its parent's."""
        for file in self._files:
            file.close()
        os.close(self._guard)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _File:
    """One file of a journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.position = 0
        size = self.end = os.fstat(self.descriptor).st_size
        self.end = self._intact()
        self.damaged = size - self.end
        # The file is ours alone: entries that are appended must not follow damaged bytes.
        os.ftruncate(self.descriptor, self.end)

    def append(self, entry: bytes) -> None:
        data = _HEAD.pack(len(entry), crc32(entry)) + entry
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.descriptor, data[written:], self.end + written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self.end)
            raise
        self.end += len(data)

    def read(self) -> bytes | None:
        return None if self.position >= self.end else self._at(self.position)

    def skip(self) -> None:
        length, _ = _HEAD.unpack(os.pread(self.descriptor, _HEAD.size, self.position))
        self.position += _HEAD.size + length

    def close(self) -> None:
        os.close(self.descriptor)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def _at(self, position: int) -> bytes | None:
        head = os.pread(self.descriptor, _HEAD.size, position)
        if len(head) < _HEAD.size:
            return None
        length, check = _HEAD.unpack(head)
        if position + _HEAD.size + length > self.end:
            return None
        entry = os.pread(self.descriptor, length, position + _HEAD.size)
        return entry if len(entry) == length and crc32(entry) == check else None

    def _intact(self) -> int:
        position = 0
        while (entry := self._at(position)) is not None:
            position += _HEAD.size + len(entry)
        return position


def abandoned(folder: Path) -> list[str]:
    """Names of the journals in a folder; most belong to living processes, which opening them will tell."""
    return sorted(path.name.removesuffix(".lock") for path in folder.glob("*.lock"))
