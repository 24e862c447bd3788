"""The recorder: a thread that brings turns and outcomes into the store, in batches; a journal takes what cannot go now.

``put`` only appends to a queue. Every 100 ms the thread empties it: into the store, or, when the store fails or the
process is too busy for it, into a journal on the local disk, from where it follows later under the same batch id, so
that nothing is added twice. What a process that died left in its journal, the next one adopts.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from agentcanary.clock import Clock
from agentcanary.outcomes import Outcome, Record
from agentcanary.writer import RecordStore, Settings, Writer

log = structlog.get_logger("agentcanary")


class Recorder:
    """Records the turns and outcomes of one agent in this process.

    Cheap to make; the thread starts with ``start`` or the first record, and again after a fork.

    Args:
        store: Where batches go.
        clock: The time of rollouts.
        journal_path: Folder of the journals of all workers that use this store on this machine.
        worker_id: Names this worker to people, such as host and process.
        agent: Name of the agent.
        config_hash: Of the configuration that this worker runs.
        flush_every: Real seconds.
        flush_at: Records in the queue that wake the thread before that.
        max_batch: Records in one transaction: the more, the less each costs, and the longer another process waits.
        max_queue: Records in memory, at most about so many.
        max_journal: Bytes on the disk from which on the store must take everything at once.
        share: Share of a processor that storing may take while the process is busy; an idle one gives it a quarter.
            What does not fit waits in the journal, and the share grows with its age.
        heartbeat_every: Real seconds.
        degraded: Called with the kind of a failure and its error: ``recorder_store``, ``recorder_journal``,
            ``recorder_overload``, ``recorder_refused`` (a record that cannot be stored), ``recorder_dropped``.
        totals: Failures of the whole process by kind, for the heartbeat.

    Attributes:
        queue: What waits for the thread. Turns may be appended without ``put``, if ``check`` is called now and then:
            every request has one.
    """

    # Made anew for every process, see ``_begin``.
    _writer: Writer
    _lock: threading.Lock
    _wake: threading.Event
    _ended: threading.Event
    _waiters: deque[threading.Event]
    _thread: threading.Thread | None
    _running: bool

    def __init__(
        self,
        store: RecordStore,
        *,
        clock: Clock,
        journal_path: str | os.PathLike[str],
        worker_id: str,
        agent: str = "",
        config_hash: str = "",
        flush_every: float = 0.1,
        flush_at: int = 1000,
        max_batch: int = 5000,
        max_queue: int = 100_000,
        max_journal: int = 2**30,
        share: float = 0.03,
        heartbeat_every: float = 1.0,
        degraded: Callable[[str, BaseException | None], None] = lambda _kind, _error: None,
        totals: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._settings = Settings(
            store=store,
            clock=clock,
            folder=Path(journal_path),
            worker_id=worker_id,
            agent=agent,
            config_hash=config_hash,
            max_batch=max_batch,
            max_queue=max_queue,
            max_journal=max_journal,
            share=share,
            heartbeat_every=heartbeat_every,
            degraded=degraded,
            totals=totals,
        )
        self.queue: deque[Record] = deque()
        self._flush_every = flush_every
        self._flush_at = flush_at
        self._max_queue = max_queue
        self._begin()
        forked = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    @property
    def name(self) -> str:
        """The id under which this worker's heartbeats are stored."""
        return self._writer.name

    @property
    def counters(self) -> dict[str, int]:
        """Batches ``stored`` and ``journaled``, rows ``refused`` and ``dropped``; what waits in queue and journal."""
        return {
            "stored": 0,
            "journaled": 0,
            "refused": 0,
            "dropped": 0,
            **self._writer.counters,
            "queue": len(self.queue),
            "journal_bytes": self._writer.journal_bytes,
        }

    def start(self) -> None:
        """Start the thread, unless it runs. Returns at once."""
        with self._lock:
            if self._running:
                return
            self._running = True
            self._thread = threading.Thread(
                target=self._run, name=f"agentcanary-recorder-{self._settings.agent}", daemon=True
            )
            self._thread.start()
            stop = weakref.WeakMethod(self.close)
            atexit.register(lambda: (method := stop()) and method())

    def put(self, record: Record) -> None:
        """Record a turn or an outcome. Waits for nothing, but for the disk at a confirmed safety violation.

        Args:
            record: A confirmed safety violation is on the disk, synced, when this returns, and is stored next.
        """
        if type(record) is Outcome and record.is_safety_violation:
            self._writer.save_now(record)
            self.start()
            self._wake.set()
            return
        self.queue.append(record)
        self.check()

    def check(self) -> None:
        """See to it that what was appended to the queue is stored soon, and that the queue does not grow for ever."""
        if not self._running:
            self.start()
        waiting = len(self.queue)
        if waiting > self._max_queue:
            self._writer.spill()
        elif waiting >= self._flush_at and not self._wake.is_set():
            self._wake.set()

    def flush_and_wait(self, timeout: float) -> bool:
        """Wait until everything that was put before is in the store; False after ``timeout`` real seconds."""
        stored = threading.Event()
        self._waiters.append(stored)
        self.start()
        self._wake.set()
        return stored.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Bring everything to the store, or to the journal, and end. A later record starts it again.

        Args:
            timeout: Real seconds to wait for the store.
        """
        with self._lock:
            thread = self._thread
            if not self._running or thread is None:
                return
            self._ended.set()
            self._wake.set()
        thread.join(timeout)
        if thread.is_alive():
            log.warning("agentcanary.recorder_not_drained", agent=self._settings.agent, waited=timeout)
            return
        turns = self._writer.close()
        self._begin()
        for turn in turns:
            turn.release()

    def _begin(self) -> None:
        self._writer = Writer(self._settings, self.queue)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._waiters = deque()
        self._thread = None
        self._running = False

    def _after_fork(self) -> None:
        # The queue's records are written by the parent; its thread, its locks and its journal are the parent's too.
        self._writer.forget()
        self.queue.clear()
        self._begin()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._flush_every)
            self._wake.clear()
            ended = self._ended.is_set()
            waiters = [self._waiters.popleft() for _ in range(len(self._waiters))]
            try:
                complete = self._writer.write(whole=ended or bool(waiters))
            except Exception as error:  # noqa: BLE001 (the thread must outlive every bug of ours)
                complete = False
                self._settings.degraded("recorder", error)
            if complete:
                for stored in waiters:
                    stored.set()
            else:
                self._waiters.extend(waiters)
            if ended:
                return
