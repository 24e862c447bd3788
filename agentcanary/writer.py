"""What the recorder's thread does in one pass: empty the queue into the store, and the journal after it."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentcanary.backlog import Backlog, Waiting, new_name
from agentcanary.clock import Clock
from agentcanary.errors import StoreError
from agentcanary.outcomes import Outcome, Record, RecordedTurn, TurnEnded, TurnStarted
from agentcanary.share import Share
from agentcanary.store.batch import Batch, coalesce
from agentcanary.store.workers import Worker

# A record's time is read a moment before the record is put: real seconds that this may take at most.
_SLACK = 1.0
_RETRY_AFTER = 1.0
_ADOPT_EVERY = 10.0
# Ids that one batch settles at most.
_SETTLED = 500


class RecordStore(Protocol):
    """Where batches go."""

    def add(self, batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        """Add a batch once, however often it is sent; ``settled`` ids are never sent again."""

    def heartbeat(self, worker: Worker) -> None:
        """Store what a worker says of itself."""

    def leave(self, worker_id: str) -> None:
        """Forget a worker that has stored everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a recorder was made with; see ``Recorder``."""

    store: RecordStore
    clock: Clock
    folder: Path
    worker_id: str
    agent: str
    config_hash: str
    max_batch: int
    max_queue: int
    max_journal: int
    share: float
    heartbeat_every: float
    degraded: Callable[[str, BaseException | None], None]
    totals: Callable[[], Mapping[str, int]]


class Writer:
    """Brings the records of one process to the store. Used by one thread, but for ``save_now`` and ``spill``.

    Args:
        settings: What the recorder was made with.
        queue: Where records come from.
        wall: Unix time in real seconds.
        monotonic: Real seconds that never go back.
        cpu: Seconds of processor that this thread used.
        used: Seconds of processor that the whole process used.
    """

    def __init__(
        self,
        settings: Settings,
        queue: deque[Record],
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self.name = new_name(settings.worker_id)
        self.counters: Counter[str] = Counter()
        self._settings = settings
        self._store = settings.store
        self._queue = queue
        self._wall = wall
        self._monotonic = monotonic
        self._cpu = cpu
        self._used = used
        self._ids = itertools.count(1)
        self._backlog: Backlog | None = None
        self._backlog_lock = threading.Lock()
        # Batches that neither the store nor the journal would take.
        self._held: deque[Waiting] = deque()
        self._urgent: deque[Waiting] = deque()
        # Turns whose start was taken from the queue, and that had not ended then.
        self._open: deque[RecordedTurn] = deque()
        self._settled: list[str] = []
        self._reached = self._started = settings.clock()
        self._reachable_since: float | None = None
        self._pass_cpu = 0.0
        self._share = Share(settings.share, monotonic(), used())
        self._retry_at = self._adopt_at = self._beat_at = float("-inf")

    @property
    def flushed_until(self) -> float:
        """Everything that was put before this time is stored; Unix seconds of the clock."""
        return self._reached - _SLACK * self._settings.clock.speed

    @property
    def journal_bytes(self) -> int:
        """What waits on the disk."""
        return 0 if self._backlog is None else self._backlog.pending

    def write(self, *, whole: bool) -> bool:
        """One pass.

        Args:
            whole: True to bring everything to the store, whatever it costs the other threads.

        Returns:
            True when nothing waits any more of what was in the queue when the pass began.
        """
        self._pass_cpu = self._cpu()
        self._share.refill(self._monotonic(), self._used(), self._waited())
        reached, count = self._settings.clock(), len(self._queue)
        if whole:
            self._retry_at = float("-inf")
        # A safety violation finds the turn that it is about in the store only if that is stored first.
        at_once = whole or bool(self._urgent)
        self._adopt_if_due()
        records: list[Record] = self._ended()
        while count > 0 or records:
            taken = self._taken(min(count, self._settings.max_batch))
            count = count - len(taken) if taken else 0
            for batch in self._coalesced(records + self._expanded(taken)):
                self._send(Waiting(self._new_id(), self._wall(), batch), at_once=at_once)
            records = []
        self._send_urgent()
        self._send_held(whole=whole)
        self._send_backlog(whole=whole)
        if not whole:
            self._share.spend(self._cpu() - self._pass_cpu)
        complete = not self._held and self.journal_bytes == 0
        if complete:
            self._reached = reached
        self._beat_if_due()
        return complete

    def save_now(self, outcome: Outcome) -> None:
        """Write one outcome to the disk at once, so that it survives a crash, and store it in the next pass."""
        waiting = Waiting(self._new_id(), self._wall(), coalesce([outcome]))
        self._journaled(waiting, sync=True)
        self._urgent.append(waiting)

    def spill(self) -> None:
        """Move one batch from the queue to the journal, because the thread does not keep up."""
        self._degraded("recorder_overload", None)
        for batch in self._coalesced(self._expanded(self._taken(self._settings.max_batch))):
            self._let_wait(Waiting(self._new_id(), self._wall(), batch))

    def close(self) -> list[RecordedTurn]:
        """Leave the store; what is in the journal waits for the next process.

        Returns:
            Turns that have begun, to be released.
        """
        if not self._held and not self._urgent and self.journal_bytes == 0 and not self._queue:
            try:
                self._store.leave(self.name)
            except StoreError as error:
                self._degraded("recorder_store", error)
        if self._backlog is not None:
            self._backlog.close()
        return list(self._open)

    def forget(self) -> None:
        """In a child process: leave everything to the parent's writer."""
        if self._backlog is not None:
            self._backlog.forget()

    def _new_id(self) -> str:
        return f"{self.name}:{next(self._ids)}"

    def _taken(self, count: int) -> list[Record]:
        records = []
        try:
            for _ in range(count):
                records.append(self._queue.popleft())  # noqa: PERF401 (what was popped must not be lost by the error)
        except IndexError:  # ``spill`` was faster
            pass
        return records

    def _expanded(self, records: Sequence[Record]) -> list[Record]:
        """With a turn's start, and its end if it has ended, in place of the turn."""
        expanded: list[Record] = []
        for record in records:
            if isinstance(record, TurnStarted | TurnEnded | Outcome):
                expanded.append(record)
                continue
            # Before its start: what ends in between is found by the next pass.
            if record.ended:
                expanded += (record.start, record.end_at(self._settings.clock.speed))
            else:
                expanded.append(record.start)
                self._open.append(record)
        return expanded

    def _ended(self) -> list[Record]:
        """The ends of turns that began in an earlier pass."""
        ended: list[Record] = []
        for _ in range(len(self._open)):
            turn = self._open.popleft()
            if turn.ended:
                ended.append(turn.end_at(self._settings.clock.speed))
            else:
                self._open.append(turn)
        return ended

    def _coalesced(self, records: Sequence[Record]) -> list[Batch]:
        if not records:
            return []
        try:
            return [coalesce(records)]
        except Exception:  # noqa: BLE001 (one record that is none must not take the others with it)
            return self._coalesced_singly(records)

    def _coalesced_singly(self, records: Sequence[Record]) -> list[Batch]:
        batches = []
        for record in records:
            try:
                batches.append(coalesce([record]))
            except Exception as error:  # noqa: BLE001 (as above)
                self.counters["refused"] += 1
                self._degraded("recorder_refused", error)
        rows = [row for batch in batches for row in batch.conversations]
        return [Batch([row], [], []) for row in rows] + [
            Batch(
                [], [row for batch in batches for row in batch.outcomes], [row for b in batches for row in b.nameless]
            )
        ]

    def _send(self, waiting: Waiting, *, at_once: bool) -> None:
        full = self.journal_bytes > self._settings.max_journal
        if (at_once or full or self._affordable()) and self._stored(waiting):
            self._settled.append(waiting.batch_id)
        else:
            self._let_wait(waiting)

    def _send_urgent(self) -> None:
        while self._urgent:
            # Its copy in the journal is sent again, in its turn, and changes nothing then.
            waiting = self._urgent.popleft()
            self._retry_at = float("-inf")
            if not self._stored(waiting):
                self._let_wait(waiting)

    def _send_held(self, *, whole: bool) -> None:
        while self._held and (whole or self._affordable()) and self._stored(self._held[0]):
            self._settled.append(self._held.popleft().batch_id)

    def _send_backlog(self, *, whole: bool) -> None:
        backlog = self._backlog
        while backlog is not None and backlog.pending and (whole or self._affordable()):
            try:
                waiting = backlog.first()
            except ValueError as error:
                self._degraded("recorder_journal", error)
                backlog.take(None)
                continue
            if waiting is None or not self._stored(waiting):
                return
            with self._backlog_lock:
                backlog.take(waiting.batch_id)
            self._settled += backlog.settled
            backlog.settled.clear()

    def _stored(self, waiting: Waiting) -> bool:
        if self._monotonic() < self._retry_at:
            return False
        try:
            settled = self._settled[:_SETTLED]
            self._store.add(waiting.batch_id, waiting.batch, settled)
            del self._settled[: len(settled)]
        except StoreError as error:
            self._retry_at = self._monotonic() + _RETRY_AFTER
            self._reachable_since = None
            self._degraded("recorder_store", error)
            return False
        except Exception as error:  # noqa: BLE001 (a row that no database takes must not block all others for ever)
            self._store_rows(waiting, error)
        self.counters["stored"] += 1
        return True

    def _store_rows(self, waiting: Waiting, error: BaseException) -> None:
        conversations, outcomes, nameless = waiting.batch
        rows = [Batch([row], [], []) for row in conversations] + [Batch([], [row], []) for row in outcomes]
        for number, batch in enumerate([*rows, Batch([], [], nameless)]):
            try:
                self._store.add(f"{waiting.batch_id}/{number}", batch)
            except StoreError:
                self._let_wait(Waiting(f"{waiting.batch_id}/{number}", waiting.since, batch))
            except Exception as error:  # noqa: BLE001 (as above)
                self.counters["refused"] += 1
                self._degraded("recorder_refused", error)

    def _let_wait(self, waiting: Waiting) -> None:
        if self._journaled(waiting):
            return
        if len(self._held) * self._settings.max_batch >= self._settings.max_queue:
            self.counters["dropped"] += len(waiting.batch.conversations) + len(waiting.batch.outcomes)
            self._degraded("recorder_dropped", None)
        else:
            self._held.append(waiting)

    def _journaled(self, waiting: Waiting, *, sync: bool = False) -> bool:
        try:
            with self._backlog_lock:
                self._open_backlog().append(waiting, sync=sync)
        except OSError as error:
            self._degraded("recorder_journal", error)
            return False
        self.counters["journaled"] += 1
        return True

    def _open_backlog(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self._settings.folder, self.name)
        return self._backlog

    def _adopt_if_due(self) -> None:
        if self._monotonic() < self._adopt_at:
            return
        self._adopt_at = self._monotonic() + _ADOPT_EVERY
        try:
            backlog = self._open_backlog()
            backlog.adopt()
        except OSError as error:
            self._degraded("recorder_journal", error)
            return
        if backlog.damaged:
            self._degraded("recorder_journal", ValueError(f"{backlog.damaged} bytes of a journal could not be read"))

    def _beat_if_due(self) -> None:
        now = self._monotonic()
        if now < self._beat_at or now < self._retry_at:
            return
        self._beat_at = now + self._settings.heartbeat_every
        at = self._settings.clock()
        try:
            self._store.heartbeat(
                Worker(
                    id=self.name,
                    agent=self._settings.agent,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    config_hash=self._settings.config_hash,
                    started_at=self._started,
                    reachable_since=at if self._reachable_since is None else self._reachable_since,
                    heartbeat_at=at,
                    flushed_until=self.flushed_until,
                    degraded=self._settings.totals(),
                )
            )
            if self._reachable_since is None:
                self._reachable_since = at
            if self._backlog is not None:
                while self._backlog.finished:
                    self._store.leave(self._backlog.finished[-1])
                    self._backlog.finished.pop()
        except StoreError as error:
            self._reachable_since = None
            self._degraded("recorder_store", error)

    def _waited(self) -> float:
        """Real seconds for which the oldest batch has been on the disk."""
        try:
            oldest = None if self._backlog is None else self._backlog.first()
        except ValueError:  # ``_send_backlog`` says so
            return 0.0
        return 0.0 if oldest is None else max(0.0, self._wall() - oldest.since)

    def _affordable(self) -> bool:
        return self._share.allowance > self._cpu() - self._pass_cpu

    def _degraded(self, kind: str, error: BaseException | None) -> None:
        self._settings.degraded(kind, error)
