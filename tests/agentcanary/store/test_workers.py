"""Counting waits for every living worker; an outage of the store delays it and falsifies nothing."""

from __future__ import annotations

from agentcanary.store import Store, Worker


def beat(
    store: Store, name: str, at: float, *, flushed_until: float, since: float = 0.0, agent: str = "support"
) -> None:
    store.heartbeat(
        Worker(
            id=name,
            agent=agent,
            started_at=0.0,
            reachable_since=since,
            heartbeat_at=at,
            flushed_until=flushed_until,
            degraded={"recorder_store": 2},
        )
    )


def test_the_slowest_living_worker_has_the_say(store: Store) -> None:
    beat(store, "one", 100.0, flushed_until=99.0)
    beat(store, "two", 100.0, flushed_until=60.0)
    beat(store, "three", 100.0, flushed_until=10.0, agent="sales")
    assert store.watermark("support", 101.0) == 60.0
    beat(store, "two", 101.0, flushed_until=100.0)
    assert store.watermark("support", 101.0) == 99.0


def test_without_workers_nothing_is_to_come(store: Store) -> None:
    assert store.watermark("support", 101.0) == 101.0


def test_a_dead_worker_is_waited_for_no_longer(store: Store) -> None:
    beat(store, "dead", 100.0, flushed_until=99.0)
    beat(store, "living", 129.0, flushed_until=128.0)
    assert store.watermark("support", 129.0) == 99.0
    beat(store, "living", 131.0, flushed_until=130.0)
    assert store.watermark("support", 131.0) == 130.0


def test_after_an_outage_everybody_is_waited_for(store: Store) -> None:
    beat(store, "one", 100.0, flushed_until=99.0)
    beat(store, "two", 100.0, flushed_until=99.0)
    # Nobody reached the store from 100 to 500; then one is a little faster than the other.
    beat(store, "one", 500.0, since=500.0, flushed_until=499.0)
    assert store.watermark("support", 501.0) == 99.0
    beat(store, "one", 529.0, since=500.0, flushed_until=528.0)
    assert store.watermark("support", 529.0) == 99.0
    beat(store, "one", 530.0, since=500.0, flushed_until=529.0)
    assert store.watermark("support", 530.0) == 529.0


def test_when_all_workers_are_dead_nothing_is_to_come(store: Store) -> None:
    beat(store, "one", 100.0, flushed_until=99.0)
    assert store.watermark("support", 131.0) == 131.0


def test_a_worker_that_left_is_forgotten(store: Store) -> None:
    beat(store, "one", 100.0, flushed_until=50.0)
    assert [worker.degraded for worker in store.workers("support")] == [{"recorder_store": 2}]
    store.leave("one")
    assert store.workers() == []
    assert store.watermark("support", 101.0) == 101.0
