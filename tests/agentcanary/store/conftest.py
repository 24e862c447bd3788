"""Empty stores, and what a store is given: turns, outcomes, rollouts."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentcanary.assignment import Assignment, Buckets, Reason, RolloutView
from agentcanary.errors import StoreRefusedError
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Phase, Rollout
from agentcanary.store import Store
from agentcanary.store.schema import metadata
from agentcanary_analysis.aggregates import Arm, Epoch
from agentcanary_analysis.metrics import BUILT_IN

if TYPE_CHECKING:
    from tests.postgresql_server import PostgresServer

START = 1_000_000.0
PLAN = Plan(
    stages=(Stage(name="first", weight=0.5, duration=600.0), Stage(name="full", weight=1.0, duration=0.0)),
    metrics=tuple(replace(metric, horizon=60.0) for metric in BUILT_IN),
    idle_after=300.0,
)


class Make:
    """Makes records and rollouts. ``start`` is the Unix time at which everything begins."""

    start = START
    plan = PLAN

    def __init__(self) -> None:
        self._turns = itertools.count()

    def rollout(self, name: str = "r-1", *, phase: Phase = Phase.PROGRESSING, plan: Plan = PLAN) -> Rollout:
        return Rollout(
            id=name,
            agent="support",
            stable="v1",
            canary="v2",
            plan=plan,
            salt=b"salt of " + name.encode(),
            phase=phase,
            created_at=START,
            epochs=(Epoch(number=0, weight=0.5, stage=0),),
        )

    def assignment(
        self,
        unit: str,
        arm: Arm = Arm.STABLE,
        *,
        rollout: str = "r-1",
        epoch: int = 0,
        excluded: str | None = None,
        version: str | None = None,
        bucket: int = 7,
        agent: str = "support",
    ) -> Assignment:
        view = RolloutView(agent=agent, rollout=rollout, stable="v1", canary="v2", epoch=epoch, open=bool(rollout))
        served = version or view.version(arm)
        if not rollout:
            reason = Reason.NO_ROLLOUT
            return Assignment(view, unit, arm, served, reason, -1, Buckets(0.3, bucket), reason.value, True)
        return Assignment(view, unit, arm, served, Reason.SPLIT, epoch, Buckets(0.3, bucket), excluded, True)

    def turn(
        self,
        assignment: Assignment,
        at: float,
        seconds: float | None = 1.0,
        outcome: TurnOutcome = TurnOutcome.OK,
        *,
        first_byte: float | None = 0.25,
    ) -> list[Record]:
        """A turn that begins ``at`` seconds after ``start``; ``seconds=None`` for one that never ends."""
        name, began = f"turn-{next(self._turns)}", START + at
        started = TurnStarted(name, assignment, began)
        if seconds is None:
            return [started]
        ended = TurnEnded(name, assignment, began, began + seconds, seconds, first_byte, outcome)
        return [started, ended]

    def outcome(
        self,
        unit: str,
        at: float,
        value: float | None = 1.0,
        *,
        name: str = "task_completion",
        id: str | None = None,  # noqa: A002 (the name of the field)
        confirmed: bool = True,
        agent: str = "support",
    ) -> Outcome:
        return Outcome(
            id=id or f"outcome-{next(self._turns)}",
            agent=agent,
            conversation_id=unit,
            name=name,
            value=value,
            at=START + at,
            confirmed=confirmed,
        )


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, migrated once: copies of it are cheap."""
    path = tmp_path_factory.mktemp("template") / "store.sqlite3"
    store = Store(f"sqlite:///{path}")
    store.open()
    store.close()
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PostgresServer) -> str:
    """The same on PostgreSQL: the name of a database that nobody is connected to."""
    name = postgresql.new_database()
    store = Store(postgresql.url(name))
    store.open()
    store.close()
    return name


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def new_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes an empty, migrated store as often as it is called; every database must pass every test that asks for it."""

    def of_sqlite() -> str:
        path = tmp_path_factory.mktemp("store") / "store.sqlite3"
        shutil.copy(request.getfixturevalue("template"), path)
        return f"sqlite:///{path}"

    def of_postgresql() -> str:
        server: PostgresServer = request.getfixturevalue("postgresql")
        return server.url(server.new_database(request.getfixturevalue("postgresql_template")))

    return of_sqlite if request.param == "sqlite" else of_postgresql


@pytest.fixture(scope="session")
def emptied() -> Iterator[list[Store]]:
    """Stores on PostgreSQL that a test is done with. To empty one costs a tenth of making one."""
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def new_store(request: pytest.FixtureRequest, new_url: Callable[[], str]) -> Iterator[Callable[[], Store]]:
    """Makes an empty store as often as it is called, with the tables as they are for everybody."""
    made: list[Store] = []
    on_postgresql = request.node.callspec.params["new_url"] == "postgresql"
    emptied: list[Store] = request.getfixturevalue("emptied") if on_postgresql else []

    def new() -> Store:
        store = emptied.pop() if emptied else Store(new_url())
        made.append(store)
        if on_postgresql:
            try:
                with store._database.write() as connection:
                    connection.exec_driver_sql("; ".join(f"DELETE FROM {name}" for name in metadata.tables))
            except StoreRefusedError:  # the test before took a table away
                made.remove(store)
                store.close()
                return new()
        return store

    yield new
    for store in made:
        if on_postgresql:
            emptied.append(store)
        else:
            store.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hundreds of examples, each with stores of its own, take a minute on PostgreSQL."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "[postgresql" in item.name and _is_a_property(item):
            item.add_marker(pytest.mark.slow)


def _is_a_property(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and getattr(item.obj, "is_hypothesis_test", False)


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()
