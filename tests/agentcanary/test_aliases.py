"""Ids that servers make: remembered, stored before they are used, and kept through trouble with the store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from agentcanary.aliases import AliasKeeper
from agentcanary.errors import StoreError

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FrozenClock


class Store:
    """Aliases in memory."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}
        self.reads: list[str] = []
        self.failing: Exception | None = None
        self.gate: threading.Event | None = None

    def alias(self, agent: str, alias: str) -> str | None:
        if self.gate is not None:
            self.gate.wait(5.0)
        self.reads.append(alias)
        if self.failing is not None:
            raise self.failing
        return self.units.get(alias)

    def put_alias(self, agent: str, alias: str, unit: str, now: float) -> str:
        if self.failing is not None:
            raise self.failing
        return self.units.setdefault(alias, unit)


class Desk:
    """A store, the workers that use it, and what they noted."""

    def __init__(self, clock: FrozenClock) -> None:
        self.store = Store()
        self.noted: list[str] = []
        self.clock = clock
        self.keepers: list[AliasKeeper] = []

    def worker(self, *, deadline: float = 5.0) -> AliasKeeper:
        def note(kind: str, error: BaseException | None) -> None:
            self.noted.append(kind)

        keeper = AliasKeeper(self.store, agent="support", clock=self.clock, degraded=note, deadline=deadline)
        self.keepers.append(keeper)
        return keeper


@pytest.fixture
def desk(clock: FrozenClock) -> Iterator[Desk]:
    made = Desk(clock)
    yield made
    if made.store.gate is not None:
        made.store.gate.set()
    for keeper in made.keepers:
        keeper.close()


def test_another_worker_knows_an_alias_as_soon_as_it_is_bound(desk: Desk) -> None:
    asyncio.run(desk.worker().bind(["resp_1", "task-1"], "n-1"))
    other = desk.worker()
    assert asyncio.run(other.unit_of("resp_1")) == "n-1"
    assert other.unit_of_blocking("task-1") == "n-1"
    assert desk.noted == []


def test_an_id_that_is_no_alias_is_its_own_unit_and_asked_for_once(desk: Desk) -> None:
    worker = desk.worker()
    assert [asyncio.run(worker.unit_of("c-1")) for _ in range(3)] == ["c-1"] * 3
    assert desk.store.reads == ["c-1"]


def test_the_first_worker_that_binds_an_id_wins(desk: Desk) -> None:
    one, other = desk.worker(), desk.worker()
    asyncio.run(one.bind(["s-1"], "n-1"))
    asyncio.run(other.bind(["s-1"], "n-2"))
    assert (other.known("s-1"), asyncio.run(one.unit_of("s-1"))) == ("n-1", "n-1")


def test_a_chain_leads_to_the_first_turn(desk: Desk) -> None:
    async def run() -> list[str]:
        worker, units = desk.worker(), []
        await worker.bind(["resp_1"], "n-1")
        for number in range(1, 5):
            unit = await worker.unit_of(f"resp_{number}")
            await worker.bind([f"resp_{number + 1}"], unit)
            units.append(unit)
        return units

    assert asyncio.run(run()) == ["n-1"] * 4


def test_an_alias_that_cannot_be_stored_is_stored_when_the_store_answers_again(desk: Desk) -> None:
    worker = desk.worker()
    desk.store.failing = StoreError("down")
    asyncio.run(worker.bind(["s-1"], "n-1"))
    assert (worker.known("s-1"), desk.store.units, desk.noted) == ("n-1", {}, ["alias_write"])
    desk.store.failing = None
    asyncio.run(worker.bind(["s-2"], "n-2"))
    assert desk.store.units == {"s-1": "n-1", "s-2": "n-2"}


def test_a_store_that_fails_is_said_and_noted(desk: Desk) -> None:
    desk.store.failing = StoreError("down")
    with pytest.raises(StoreError, match="down"):
        asyncio.run(desk.worker().unit_of("s-1"))
    assert desk.noted == ["alias_lookup"]


def test_a_store_that_hangs_holds_a_request_up_only_until_the_deadline(desk: Desk) -> None:
    desk.store.gate = threading.Event()
    with pytest.raises(StoreError, match=r"within 0\.01 s"):
        asyncio.run(desk.worker(deadline=0.01).unit_of("s-1"))
    assert desk.noted == ["alias_lookup"]


def test_it_starts_again_after_it_was_closed(desk: Desk) -> None:
    worker = desk.worker()
    asyncio.run(worker.bind(["s-1"], "n-1"))
    worker.close()
    asyncio.run(worker.bind(["s-2"], "n-1"))
    assert desk.store.units == {"s-1": "n-1", "s-2": "n-1"}
