"""Where a store lies, who sets it up, and what is said when it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from agentcanary.assignment import Pin
from agentcanary.errors import StoreError, StoreRefusedError
from agentcanary.store import Store
from agentcanary.store.files import file_system
from agentcanary.store.migrations import HEAD
from agentcanary.store.schema import metadata
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make


def store_at(path: Path) -> Store:
    return Store(f"sqlite:///{path}")


def test_a_store_is_made_with_its_folder_on_first_use(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "store.sqlite3"
    store = store_at(path)
    assert not path.parent.exists()
    assert store.current("support") is None
    assert path.exists()
    store.close()
    assert store.current("support") is None
    store.close()


def test_a_migrated_store_has_the_tables_that_the_code_speaks_of(store: Store) -> None:
    store.open()
    with store._database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [HEAD]
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_sqlite_file_survives_the_end_of_a_process_in_the_middle_of_a_write(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store.sqlite3")
    with store._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        # 1 is NORMAL.
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    store.close()


def test_the_newest_migration_is_the_one_that_the_code_asks_for() -> None:
    folder = Path(sys.modules["agentcanary.store.migrations"].__file__ or "").parent
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


@pytest.mark.parametrize("attempt", range(3))
def test_six_processes_may_start_on_a_fresh_file_at_once(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "store.sqlite3"
    wait, go = os.pipe()
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(wait, 1)
                store = store_at(path)
                pin = Pin(Arm.CANARY, attempt)
                code = 0 if store.put_pin("support", "r-1", f"c-{number}", pin, 1.0) == pin else 2
                store.close()
            finally:
                os._exit(code)
        children.append(child)
    os.close(wait)
    # All of them see the end of the pipe at the same moment.
    os.close(go)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 6
    store = store_at(path)
    pins = [store.pin("support", "r-1", f"c-{number}", now=1.0, idle_after=1.0) for number in range(6)]
    assert pins == [Pin(Arm.CANARY, attempt)] * 6
    store.close()


REFUSED = {
    "not a URL": ("store.sqlite3", "is not a URL"),
    "another database": ("mysql://u:secret@h/d", "mysql://u:\\*\\*\\*@h/d is not supported"),
    "in memory": ("sqlite://", "is not supported"),
}


@pytest.mark.parametrize(("url", "message"), REFUSED.values(), ids=REFUSED)
def test_a_url_that_cannot_be_a_store_is_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(StoreRefusedError, match=message):
        Store(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite3"
    path.write_text("conversation,version\n" * 100)
    with pytest.raises(StoreRefusedError, match="not a database; move it away"):
        store_at(path).open()
    assert path.read_text().startswith("conversation,version")


def test_a_corrupted_file_is_refused_before_it_is_used(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "store.sqlite3"
    store = store_at(path)
    turns = [record for number in range(500) for record in make.turn(make.assignment(f"c-{number}"), 1.0)]
    store.apply("b-1", turns)
    store.close()
    page = 4096
    with path.open("r+b") as file:
        for number in range(8, path.stat().st_size // page, 3):
            file.seek(number * page)
            file.write(os.urandom(200))
    with pytest.raises(StoreRefusedError, match="the file is corrupted"):
        store_at(path).open()


@pytest.fixture
def spoiled(new_url: Callable[[], str]) -> Iterator[Store]:
    """A store whose tables a test may change."""
    store = Store(new_url())
    store.open()
    yield store
    store.close()


def test_a_store_of_a_newer_release_is_refused(spoiled: Store) -> None:
    store = spoiled
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(StoreRefusedError, match="the schema '9999', which this release does not know"):
        store.open()


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (id)")
    connection.close()
    with pytest.raises(StoreRefusedError, match=r"tables of something else \(customers"):
        store_at(path).open()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    connection.close()


MOUNTS = "a / ext4 rw 0 0\nb /srv nfs4 rw 0 0\nc /srv/local xfs rw 0 0\nd /with\\040space cifs rw 0 0\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/a/store.sqlite3", "ext4"),
        ("/srv/store.sqlite3", "nfs4"),
        ("/srv/local/store.sqlite3", "xfs"),
        ("/srvx/store.sqlite3", "ext4"),
        ("/with space/store.sqlite3", "cifs"),
    ],
)
def test_the_nearest_mount_says_what_a_path_is_on(path: str, expected: str) -> None:
    assert file_system(Path(path), MOUNTS) == expected


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcanary.store.files.file_system", lambda path, mounts: "nfs4")
    with pytest.raises(StoreRefusedError, match=r"network file system \(nfs4\).*local disk"):
        store_at(tmp_path / "store.sqlite3").open()
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_file_is_noticed_when_something_is_written(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "store.sqlite3"
    store = store_at(path)
    store.open()
    path.unlink()
    with pytest.raises(StoreError, match="deleted or replaced"):
        store.apply("b-1", make.turn(make.assignment("c-1"), 1.0))


def test_a_write_that_waits_too_long_says_that_somebody_holds_the_store(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "store.sqlite3"
    store = store_at(path)
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process is writing to it"):
        store.apply("b-1", make.turn(make.assignment("c-1"), 1.0))
    # Whoever reads need not wait.
    assert store.revision("support") is None
    other.execute("ROLLBACK")
    other.close()
    store.apply("b-1", make.turn(make.assignment("c-1"), 1.0))
    store.close()


def test_a_full_disk_is_said_and_leaves_the_store_as_it_was(tmp_path: Path, make: Make) -> None:
    store = store_at(tmp_path / "store.sqlite3")
    store.open()
    with store._database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    many = [record for number in range(2000) for record in make.turn(make.assignment(f"c-{number}"), 1.0)]
    with pytest.raises(StoreError, match="disk is full"):
        store.apply("b-1", many)
    assert store.conversation("support", "c-1") is None
    with store._database.read() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    store.apply("b-1", many)
    store.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be set up"):
        store_at(tmp_path / "file" / "store.sqlite3").open()


def test_messages_hold_no_values(spoiled: Store, make: Make) -> None:
    with spoiled._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE conversations")
    with pytest.raises(StoreError, match="a table is missing") as caught:
        spoiled.apply("b-1", make.turn(make.assignment("a-person"), 1.0))
    assert "a-person" not in str(caught.value)


def test_a_child_process_opens_its_own_connections(store: Store, make: Make) -> None:
    store.apply("b-1", make.turn(make.assignment("parent"), 1.0))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.apply("b-2", make.turn(make.assignment("child"), 1.0))
            code = 0 if store.conversation("support", "parent") is not None else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.conversation("support", "child") is not None
    store.apply("b-3", make.turn(make.assignment("parent again"), 1.0))
