"""From every older schema to the present one, on both databases, with what was kept."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from typer.testing import CliRunner

from agentcanary.cli import app
from agentcanary.store import Store
from agentcanary.store.migrations import HEAD

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make
    from tests.postgresql_server import PostgresServer

FOLDER = Path(sys.modules["agentcanary.store.migrations"].__file__ or "").parent
OLDER = [script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions() if script.revision != HEAD]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.url(server.new_database())


def write_old(url: str, revision: str, make: Make) -> None:
    """A store as an older release left it: a rollout under way, with three safety reports."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        state = json.dumps(make.rollout("r-1").to_dict()).replace("'", "''").replace(":", r"\:")
        reports = ("", "") if revision >= "0003" else (", reports", ", 3")
        connection.exec_driver_sql(
            f"INSERT INTO rollouts (id, agent, revision, phase, stable, canary, attempt, created_at, stop_reason, state"
            f"{reports[0]}) VALUES ('r-1', 'support', 4, 'progressing', 'v1', 'v2', 1, {make.start}, '', "
            f"'{state}'{reports[1]})".replace(r"\:", ":")
        )
        connection.exec_driver_sql(
            "INSERT INTO pins (agent, unit, rollout, arm, epoch, fallback, created_at) "
            "VALUES ('support', 'c-1', 'r-1', 'canary', 0, 0, 1.0)"
        )
    engine.dispose()


def test_there_are_older_schemas() -> None:
    assert "0001" in OLDER


@pytest.mark.parametrize("revision", OLDER)
def test_an_older_store_is_migrated_when_it_is_opened_and_keeps_what_it_held(
    empty_url: str, revision: str, make: Make
) -> None:
    write_old(empty_url, revision, make)
    store = Store(empty_url)
    assert store.schema() == revision
    rollout = store.current("support")
    assert rollout is not None
    assert (rollout.id, rollout.revision) == ("r-1", 4)
    assert store.schema() == HEAD
    assert store.aggregates(rollout).safety.reports == (0 if revision >= "0003" else 3)
    pin = store.pin("support", "r-1", "c-1", now=1.0, idle_after=1.0)
    assert pin is not None
    assert pin.arm == "canary"
    store.apply("b-1", make.turn(make.assignment("c-2"), 1.0))
    store.close()


def test_of_many_workers_that_find_an_empty_database_one_makes_the_tables(empty_url: str) -> None:
    stores = [Store(empty_url) for _ in range(6)]
    failed: list[BaseException] = []

    def use(store: Store) -> None:
        try:
            store.secret("cookie")
        except BaseException as error:  # noqa: BLE001 (told by the test)
            failed.append(error)

    threads = [threading.Thread(target=use, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert failed == []
    assert len({store.secret("cookie") for store in stores}) == 1
    for store in stores:
        store.close()


def test_looking_at_the_schema_makes_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    assert store.schema() is None
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_did_and_the_check_changes_nothing(empty_url: str, tmp_path: Path, make: Make) -> None:
    write_old(empty_url, "0001", make)
    (tmp_path / "canary.yaml").write_text(f"agent: support\nstable: v1\ncanary: v2\nstore: {empty_url}\n")
    call: Callable[..., object] = CliRunner().invoke
    said = {}
    for name in ("check", "migrate", "check again"):
        arguments = ["migrate", "--config", str(tmp_path / "canary.yaml"), *(["--check"] if "check" in name else [])]
        done = call(app, arguments)
        said[name] = (done.exit_code, done.output.strip().rpartition(": ")[2])  # type: ignore[attr-defined] # click's
    assert said == {
        "check": (1, f"has the schema 0001; this release needs {HEAD}"),
        "migrate": (0, f"had the schema 0001; now it has {HEAD}"),
        "check again": (0, f"has the schema {HEAD} of this release"),
    }
