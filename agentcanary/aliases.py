"""The ids that servers make for a conversation: a bounded memory in the process, then the store.

A server makes its id in the first turn, when the conversation has been assigned already. From then on clients send
that id only, so it is stored as an alias of the unit before the client sees it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from agentcanary.clock import Clock
from agentcanary.errors import StoreError
from agentcanary.seen import Recent
from agentcanary.settled import digest

# As for pins: longer than any look-up that has a chance, shorter than an agent's answer.
DEADLINE = 0.250
CAPACITY = 65_536
_MAX_UNSAVED = 10_000
_MAX_WAITING = 1000


class AliasStore(Protocol):
    """Where aliases are kept."""

    def alias(self, agent: str, alias: str) -> str | None:
        """The unit that an alias stands for, or None for what is no alias."""

    def put_alias(self, agent: str, alias: str, unit: str, now: float) -> str:
        """Store an alias unless there is one; the unit that it stands for."""


class AliasKeeper:
    """Finds and makes aliases, on a thread of its own with a deadline.

    An alias that cannot be stored is remembered here and stored as soon as the store answers again.

    Args:
        store: The store.
        agent: Name of the agent.
        clock: The time of rollouts.
        degraded: Called with ``alias_lookup`` or ``alias_write`` and the error at each failure.
        deadline: Real seconds that a request waits at most.
        capacity: Aliases that are at least remembered.
    """

    def __init__(
        self,
        store: AliasStore,
        *,
        agent: str,
        clock: Clock,
        degraded: Callable[[str, BaseException | None], None],
        deadline: float = DEADLINE,
        capacity: int = CAPACITY,
    ) -> None:
        self._store = store
        self._agent = agent
        self._clock = clock
        self._degraded = degraded
        self._deadline = deadline
        self._known: Recent[str] = Recent(capacity)
        self._unsaved: deque[tuple[str, str, float]] = deque(maxlen=_MAX_UNSAVED)
        self._lock = threading.Lock()
        self._pid = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def known(self, name: str) -> str | None:
        """The unit of an id that this process has seen lately; asks nobody."""
        return self._known.get(digest(name))

    async def unit_of(self, name: str) -> str:
        """The unit of an id: what it is an alias of, else itself.

        Args:
            name: An id that a server may have made.

        Raises:
            StoreError: If the store did not tell in time.
        """
        known = self.known(name)
        if known is not None:
            return known
        return await self._on_thread(lambda: self._look_up(name), lambda error: self._degraded("alias_lookup", error))

    def unit_of_blocking(self, name: str) -> str:
        """``unit_of`` for code without an event loop.

        Raises:
            StoreError: If the store cannot be asked.
        """
        return self.known(name) or self._look_up(name)

    async def bind(self, names: Iterable[str], unit: str) -> None:
        """Make ids aliases of a unit; returns when they are stored, or when the time is up. Raises nothing.

        Args:
            names: Ids that the server has just made.
            unit: The unit that the turn belongs to.
        """
        new = [name for name in names if name != unit and self.known(name) is None]
        if not new:
            return
        for name in new:
            self._known.put(digest(name), unit)
            self._unsaved.append((name, unit, self._clock()))
        with suppress(StoreError):
            await self._on_thread(self._save, lambda error: self._degraded("alias_write", error))

    def close(self) -> None:
        """End the thread; a later call starts it again."""
        with self._lock:
            thread, self._thread = self._thread, None
            mine, self._pid = self._pid == os.getpid(), 0
            jobs = self._jobs
        if mine and thread is not None:
            jobs.put(None)
            thread.join(timeout=5.0)

    def _look_up(self, name: str) -> str:
        unit = self._store.alias(self._agent, name) or name
        self._known.put(digest(name), unit)
        return unit

    def _save(self) -> str:
        while self._unsaved:
            name, unit, now = self._unsaved[0]
            standing = self._store.put_alias(self._agent, name, unit, now)
            self._unsaved.popleft()
            self._known.put(digest(name), standing)
        return ""

    async def _on_thread(self, ask: Callable[[], str], note: Callable[[Exception | None], None]) -> str:
        """What the store answers.

        Raises:
            StoreError: If it fails or takes too long, which is noted.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[str] = loop.create_future()

        def settle(answer: str | None, error: Exception | None) -> None:
            if answered.done():
                return
            if answer is not None:
                answered.set_result(answer)
                return
            note(error)
            answered.set_exception(StoreError(f"the store did not answer within {self._deadline:g} s: {error}"))

        def run() -> None:
            # What nobody waits for any more would only hold up the others while the store is slow.
            if answered.done() and not self._unsaved:
                return
            answer, failed = None, None
            try:
                answer = ask()
                self._save()
            except Exception as error:  # noqa: BLE001 (a driver may raise anything)
                failed = error
            with suppress(RuntimeError):  # The event loop was closed meanwhile.
                loop.call_soon_threadsafe(settle, answer, failed)

        if self._pid != os.getpid():
            self._start()
        if self._jobs.qsize() < _MAX_WAITING:
            self._jobs.put(run)
            timer = loop.call_later(self._deadline, settle, None, None)
            try:
                return await answered
            finally:
                timer.cancel()
        settle(None, None)
        return await answered

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            # Neither the thread nor what waited for it lives on in a forked process.
            self._jobs = SimpleQueue()
            self._thread = threading.Thread(
                target=_work, args=(self._jobs,), name=f"agentcanary-aliases-{self._agent}", daemon=True
            )
            self._thread.start()
            self._pid = os.getpid()


def _work(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        job()
