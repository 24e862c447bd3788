from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from agentcanary.store import Store


def test_one_holds_the_lease_until_it_runs_out(store: Store) -> None:
    assert store.acquire("support", "one", 0.0, 10.0) == 1
    assert store.acquire("support", "two", 9.9, 10.0) is None
    assert store.acquire("sales", "two", 9.9, 10.0) == 1
    assert store.acquire("support", "two", 10.0, 10.0) == 2
    assert store.acquire("support", "one", 10.1, 10.0) is None


def test_the_number_grows_with_every_holder_and_not_with_a_renewal(store: Store) -> None:
    assert store.acquire("support", "one", 0.0, 10.0) == 1
    assert store.acquire("support", "one", 5.0, 10.0) == 1
    assert store.acquire("support", "two", 14.0, 10.0) is None
    # It ran out: whether somebody else acted meanwhile, the holder cannot know.
    assert store.acquire("support", "one", 16.0, 10.0) == 2


def test_a_renewal_fails_once_somebody_else_took_it(store: Store) -> None:
    fence = store.acquire("support", "one", 0.0, 10.0)
    assert fence is not None
    assert store.renew("support", "one", fence, 9.0, 10.0)
    assert store.acquire("support", "two", 18.0, 10.0) is None
    assert store.acquire("support", "two", 19.0, 10.0) == 2
    assert not store.renew("support", "one", fence, 20.0, 10.0)


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    store.acquire("support", "one", 0.0, 10.0)
    store.release("support", "two")
    assert store.acquire("support", "two", 1.0, 10.0) is None
    store.release("support", "one")
    assert store.acquire("support", "two", 1.0, 10.0) == 2


def test_of_many_that_ask_at_once_one_gets_it(store: Store) -> None:
    store.open()
    with ThreadPoolExecutor(8) as workers:
        fences = list(workers.map(lambda number: store.acquire("support", f"owner-{number}", 0.0, 10.0), range(40)))
    assert [fence for fence in fences if fence is not None] == [1]
