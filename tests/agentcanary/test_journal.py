"""What is in the journal is on the disk, in order, and survives whoever wrote it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentcanary.journal import Journal, abandoned


def entries(journal: Journal) -> list[bytes]:
    """Everything that is in a journal; takes it."""
    found = []
    while (entry := journal.first()) is not None:
        found.append(entry)
        journal.take()
    return found


def test_entries_are_taken_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w-1")
    assert journal.first() is None
    for entry in (b"one", b"", b"three" * 1000):
        journal.append(entry)
    assert journal.pending == 3 + 0 + 5000 + 3 * 8
    assert journal.first() == b"one"
    assert journal.first() == b"one"
    assert not journal.take()
    journal.append(b"four")
    assert entries(journal) == [b"", b"three" * 1000, b"four"]
    assert journal.pending == 0
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_taking_the_last_entry_says_that_nothing_is_left_on_the_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w-1")
    journal.append(b"one")
    journal.append(b"two")
    assert [journal.take(), journal.take()] == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["w-1.lock"]
    journal.close()


def test_a_long_journal_is_many_files_which_go_as_they_are_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w-1", segment=100)
    wanted = [bytes([number]) * 40 for number in range(20)]
    for entry in wanted:
        journal.append(entry)
    files = len(list(tmp_path.glob("*.journal")))
    assert files == 7
    for entry in wanted[:10]:
        assert journal.first() == entry
        journal.take()
    assert len(list(tmp_path.glob("*.journal"))) == 4
    journal.close()
    again = Journal(tmp_path, "w-1")
    # Of the file that was half taken, the taken half comes again: its batches are known by their ids.
    assert entries(again) == wanted[9:]
    again.close()


def test_a_journal_that_holds_something_is_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w-1")
    journal.append(b"one", sync=True)
    journal.close()
    assert abandoned(tmp_path) == ["w-1"]
    again = Journal(tmp_path, "w-1")
    assert again.first() == b"one"
    again.append(b"two")
    assert entries(again) == [b"one", b"two"]
    again.close()


def test_the_journal_of_a_living_process_cannot_be_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "w-1")
    with pytest.raises(BlockingIOError):
        Journal(tmp_path, "w-1")
    journal.close()


KILLED = """
import os, pathlib, signal, sys
from agentcanary.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]), "w-1")
journal.append(b"before")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_wrote_is_there_and_free(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    journal = Journal(tmp_path, "w-1")
    assert entries(journal) == [b"before"]
    journal.close()


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], list[bytes]]] = {
    "the last entry is cut off": (lambda data: data[:-1], [b"one", b"two"]),
    "only a part of a head was written": (lambda data: data + b"\x01\x00\x00", [b"one", b"two", b"three"]),
    "a bit of the second entry is flipped": (lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:], [b"one"]),
    "a length is absurd": (lambda data: b"\xff\xff\xff\xff" + data[4:], []),
    "nothing was written": (lambda data: b"", []),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGE.values(), ids=DAMAGE)
def test_damage_ends_a_file_and_spares_what_came_before(
    tmp_path: Path, damage: Callable[[bytes], bytes], expected: list[bytes]
) -> None:
    journal = Journal(tmp_path, "w-1")
    for entry in (b"one", b"two", b"three"):
        journal.append(entry)
    journal.close()
    (path,) = tmp_path.glob("*.journal")
    data = damage(path.read_bytes())
    path.write_bytes(data)
    again = Journal(tmp_path, "w-1")
    assert again.damaged == len(data) - sum(8 + len(entry) for entry in expected)
    again.append(b"new")
    assert entries(again) == [*expected, b"new"]
    again.close()


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "w-1")
    journal.append(b"one")
    write = os.pwrite

    def half(descriptor: int, data: bytes, position: int) -> int:
        if len(data) < 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:500], position)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space left"):
            journal.append(b"x" * 1000)
    journal.append(b"two")
    journal.close()
    again = Journal(tmp_path, "w-1")
    assert again.damaged == 0
    assert entries(again) == [b"one", b"two"]
    again.close()
