"""The pins of conversations: a bounded memory in the process, then the store, on threads of our own with a deadline.

The framework's threads may all be busy with the agent's own work, so two of ours ask the store. Only a unit whose arm
depends on what it was given before comes here (``assignment.needs_pin``), and only at its first turn in this process.
In steady state the split decides nearly all of these without the store (``settled.py``).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from agentcanary.assignment import Assignment, Buckets, Pin, RolloutView, assign, fall_back, follow, must_store
from agentcanary.seen import Recent
from agentcanary.settled import Settled, digest
from agentcanary_analysis.aggregates import Arm

# A look-up takes 0.05 ms. On an overloaded machine 50 ms were missed by one in five hundred, and each of those could
# show a live conversation the other version for a turn: worse than a quarter of a second before an agent's answer.
DEADLINE = 0.250
THREADS = 2
MAX_WAITING = 1000
CAPACITY = 65_536

_THREAD, _WAITER = "thread", "waiter"

# Stands for "the store has none", while the rollout is not open and none can be made.
_NONE = Pin(Arm.STABLE, -2)


class PinStore(Protocol):
    """Where pins are kept."""

    def pin(self, agent: str, rollout: str, unit: str, *, now: float, idle_after: float) -> Pin | None:
        """The pin of a unit, or None. A unit that began before the rollout and is live has one that says so."""

    def put_pin(self, agent: str, rollout: str, unit: str, pin: Pin, now: float) -> Pin:
        """Store a pin unless there is one, and return the one that stands."""


class PinKeeper:
    """Finds and makes pins.

    A failed look-up serves stable: the unit stays in the arm that its hash gave it (``assignment.fall_back``). It may
    have a pin, so it is asked for again at its next turn. A new unit whose pin must be written and cannot be stays on
    stable in this process, so that it does not change its version in mid-conversation.

    Args:
        store: The store.
        idle_after: A conversation without a turn for this many seconds has ended.
        degraded: Called with ``pin_lookup`` or ``pin_write`` and the error at each failure.
        deadline: Real seconds that a request waits at most.
        capacity: Pins that are at least remembered, of each arm; 65,536 keep the memory below 64 MiB.

    Attributes:
        settled: The units that need no look-up; None while there are none. Replaced whole, by another thread.
    """

    def __init__(
        self,
        store: PinStore,
        *,
        idle_after: float,
        degraded: Callable[[str, BaseException | None], None],
        deadline: float = DEADLINE,
        capacity: int = CAPACITY,
    ) -> None:
        self._store = store
        self._idle_after = idle_after
        self._degraded = degraded
        self._deadline = deadline
        self._capacity = capacity
        self.settled: Settled | None = None
        self._lock = threading.Lock()
        self._pid = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._forget("")

    def known(self, view: RolloutView, unit: str, buckets: Buckets) -> Assignment | None:
        """The assignment of a unit that this process has seen lately; asks nobody."""
        if view.rollout != self._rollout:
            return None
        key = digest(unit)
        pin = self._canary.get(key) or self._others.get(key)
        if pin is None:
            return None
        if pin is _NONE:
            return None if view.open else assign(view, unit, buckets, now=0.0, fresh=True)
        return follow(view, unit, pin, buckets)

    async def resolve(self, view: RolloutView, unit: str, buckets: Buckets, *, now: float, fresh: bool) -> Assignment:
        """The assignment of a unit that this process has not seen: by its pin, else a new one, pinned if it must be.

        Args:
            view: The rollout.
            unit: The unit.
            buckets: Where its hash falls.
            now: Unix time in seconds.
            fresh: False when the view is too old to assign new units by it.
        """
        split = self._split(view, unit, buckets, now=now, fresh=fresh)
        if split is not None:
            return split
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Assignment] = loop.create_future()

        def deliver(assignment: Assignment) -> None:
            loop.call_soon_threadsafe(_settle, answer, assignment)

        job = _Job(view, unit, buckets, now, fresh, deliver)
        if not self._submit(job):
            self._degraded("pin_lookup", None)
            return job.fallen_back()
        timer = loop.call_later(self._deadline, self._expire, job, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def resolve_blocking(
        self, view: RolloutView, unit: str, buckets: Buckets, *, now: float, fresh: bool
    ) -> Assignment:
        """``resolve`` for code without an event loop."""
        split = self._split(view, unit, buckets, now=now, fresh=fresh)
        if split is not None:
            return split
        answered = threading.Event()
        answers: list[Assignment] = []

        def deliver(assignment: Assignment) -> None:
            answers.append(assignment)
            answered.set()

        job = _Job(view, unit, buckets, now, fresh, deliver)
        if self._submit(job) and answered.wait(self._deadline):
            return answers[0]
        return self._expired(job)

    def settle(self, settled: Settled | None) -> None:
        """From now on these units need no look-up.

        Args:
            settled: Which; None for nobody.
        """
        self.settled = settled

    def close(self) -> None:
        """End the threads; a later ``resolve`` starts them again."""
        with self._lock:
            threads, self._threads = self._threads, []
            mine, self._pid = self._pid == os.getpid(), 0
            jobs = self._jobs
        if mine:
            for _ in threads:
                jobs.put(None)
            for thread in threads:
                thread.join(timeout=5.0)

    def _split(self, view: RolloutView, unit: str, buckets: Buckets, *, now: float, fresh: bool) -> Assignment | None:
        """The assignment of a unit that the split decides; None for one that must be looked up."""
        settled = self.settled
        if settled is None or not fresh or now < view.handover_until or not settled.decides(view, unit, buckets):
            return None
        assignment = assign(view, unit, buckets, now=now, fresh=True)
        self._remember(view, unit, assignment.pin)
        return assignment

    def _submit(self, job: _Job) -> bool:
        if self._pid != os.getpid():
            self._start()
        if self._jobs.qsize() >= MAX_WAITING:
            return False
        self._jobs.put(job)
        return True

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            # Neither threads nor what waited for them lives on in a forked process.
            self._jobs = SimpleQueue()
            self._threads = [
                threading.Thread(target=self._work, args=(self._jobs,), name=f"agentcanary-pins-{n}", daemon=True)
                for n in range(THREADS)
            ]
            for thread in self._threads:
                thread.start()
            self._pid = os.getpid()

    def _work(self, jobs: SimpleQueue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            # What nobody waits for any more would only hold up the others while the store is slow.
            if job.expired:
                continue
            job.answer = self._decide(job)
            if not job.take(_THREAD):
                continue
            try:
                job.deliver(job.answer)
            except RuntimeError:
                continue  # The event loop was closed meanwhile.

    def _decide(self, job: _Job) -> Assignment:
        view, unit, buckets = job.view, job.unit, job.buckets
        try:
            pin = self._store.pin(view.agent, view.rollout, unit, now=job.now, idle_after=self._idle_after)
        except Exception as error:  # noqa: BLE001 (a driver may raise anything; the request is served on stable)
            self._degraded("pin_lookup", error)
            return job.fallen_back()
        if pin is not None:
            self._remember(view, unit, pin)
            return follow(view, unit, pin, buckets)
        job.answer = assignment = assign(view, unit, buckets, now=job.now, fresh=job.fresh)
        # From here on it is what is served; unless it has yet to be written, which may take too long.
        if not must_store(assignment) and not job.take(_THREAD):
            # Whoever waited has served stable by now, so that is where the unit stays.
            assignment = fall_back(assignment)
        if must_store(assignment):
            try:
                winner = self._store.put_pin(view.agent, view.rollout, unit, assignment.pin, job.now)
            except Exception as error:  # noqa: BLE001 (as above)
                self._degraded("pin_write", error)
                assignment = fall_back(assignment)
            else:
                if winner != assignment.pin:
                    assignment = follow(view, unit, winner, buckets)
        self._remember(view, unit, assignment.pin if view.open else _NONE)
        return assignment

    def _expire(self, job: _Job, answer: asyncio.Future[Assignment]) -> None:
        if not answer.done():
            answer.set_result(self._expired(job))

    def _expired(self, job: _Job) -> Assignment:
        """What to serve when the time is up: the answer, if there is one that only has not been noticed yet."""
        # A busy event loop may see the deadline first, however early the answer came.
        if not job.take(_WAITER) and job.answer is not None:
            return job.answer
        self._degraded("pin_lookup", None)
        return job.fallen_back()

    def _remember(self, view: RolloutView, unit: str, pin: Pin) -> None:
        if view.rollout != self._rollout:
            self._forget(view.rollout)
        # A handful of different pins: one object each.
        pin = self._same.setdefault(pin, pin)
        (self._canary if pin.arm is Arm.CANARY else self._others).put(digest(unit), pin)

    def _forget(self, rollout: str) -> None:
        # Of their own, so that the many pins of stable never push out one of the canary.
        self._canary: Recent[Pin] = Recent(self._capacity)
        self._others: Recent[Pin] = Recent(self._capacity)
        self._same: dict[Pin, Pin] = {_NONE: _NONE}
        self._rollout = rollout


class _Job:
    """A unit that waits for its assignment."""

    __slots__ = ("_takers", "answer", "buckets", "deliver", "fresh", "now", "unit", "view")

    def __init__(
        self,
        view: RolloutView,
        unit: str,
        buckets: Buckets,
        now: float,
        fresh: bool,
        deliver: Callable[[Assignment], None],
    ) -> None:
        self.view = view
        self.unit = unit
        self.buckets = buckets
        self.now = now
        self.fresh = fresh
        self.deliver = deliver
        self.answer: Assignment | None = None
        self._takers: list[str] = []

    @property
    def expired(self) -> bool:
        """True when whoever waited has served without an answer."""
        return self._takers[:1] == [_WAITER]

    def take(self, taker: str) -> bool:
        """True for the first that takes it: the thread, whose answer is then served, or the waiter, who has none."""
        self._takers.append(taker)
        return self._takers[0] == taker

    def fallen_back(self) -> Assignment:
        return fall_back(assign(self.view, self.unit, self.buckets, now=self.now, fresh=self.fresh))


def _settle(answer: asyncio.Future[Assignment], assignment: Assignment) -> None:
    if not answer.done():
        answer.set_result(assignment)
