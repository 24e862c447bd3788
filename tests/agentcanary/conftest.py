"""A host, a store and an application in memory, for the tests of the request path."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import pytest

from agentcanary import context
from agentcanary.aliases import AliasKeeper
from agentcanary.assignment import Pin, RolloutView
from agentcanary.clock import Clock
from agentcanary.conversation import Finder, SignedCookie, finder
from agentcanary.outcomes import Outcome, Record, RecordedTurn, TurnEnded, TurnStarted
from agentcanary.pins import PinKeeper
from agentcanary.security import Forcing
from agentcanary.telemetry import Telemetry
from agentcanary.watching import Watching

Message = MutableMapping[str, Any]

VIEW = RolloutView(
    agent="support",
    rollout="r-1",
    revision=3,
    salt=b"a salt of a rollout",
    stable="support-v1",
    canary="support-v2",
    epoch=0,
    stage="initial",
    weight=0.5,
    max_weight=0.5,
    open=True,
)


class FrozenClock:
    """A clock that stands until it is moved."""

    speed = 1.0

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class PinStore:
    """Pins in memory, shared by the hosts of a test as a store is by workers."""

    def __init__(self) -> None:
        self.pins: dict[tuple[str, str, str], Pin] = {}
        self.reads: list[str] = []
        self.writes: list[str] = []
        self.failing_reads: Exception | None = None
        self.failing_writes: Exception | None = None
        self.gate: threading.Event | None = None
        self._lock = threading.Lock()

    def pin(self, agent: str, rollout: str, unit: str, *, now: float, idle_after: float) -> Pin | None:
        if self.gate is not None:
            self.gate.wait(5.0)
        self.reads.append(unit)
        if self.failing_reads is not None:
            raise self.failing_reads
        return self.pins.get((agent, rollout, unit))

    def put_pin(self, agent: str, rollout: str, unit: str, pin: Pin, now: float) -> Pin:
        self.writes.append(unit)
        if self.failing_writes is not None:
            raise self.failing_writes
        with self._lock:
            return self.pins.setdefault((agent, rollout, unit), pin)


class AliasStore:
    """Aliases in memory, shared by the hosts of a test as a store is by workers."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}
        self.reads: list[str] = []
        self.failing: Exception | None = None

    def alias(self, agent: str, alias: str) -> str | None:
        self.reads.append(alias)
        if self.failing is not None:
            raise self.failing
        return self.units.get(alias)

    def put_alias(self, agent: str, alias: str, unit: str, now: float) -> str:
        if self.failing is not None:
            raise self.failing
        return self.units.setdefault(alias, unit)


class FakeHost:
    """What ``Canary`` is to the middleware, in memory."""

    def __init__(self, clock: Clock, store: PinStore) -> None:
        self.clock: Clock = clock
        self.store = store
        self.finder: Finder = finder()
        self.user_finder: Finder | None = None
        self.cookie: SignedCookie | None = None
        self.forcing: Forcing | None = None
        self.watching: Watching | None = None
        self.aliases = AliasKeeper(AliasStore(), agent="support", clock=clock, degraded=self.degraded)
        self.pseudonym: Callable[[str], str | None] | None = None
        self.telemetry = Telemetry("support", span="off")
        self.pins = PinKeeper(store, idle_after=1800.0, degraded=self.degraded)
        self.shown: RolloutView = VIEW
        self.fresh = True
        self.put_records: deque[Record] = deque()
        self.versions: dict[str, Any] = {}
        self.checks = 0
        self.failures: list[tuple[str, BaseException | None]] = []
        self.without: Counter[str] = Counter()
        self.starts = 0
        self.stops = 0
        self.failing_put: Exception | None = None
        self.failing_start: Exception | None = None

    @property
    def snapshots(self) -> FakeHost:
        return self

    @property
    def recorder(self) -> FakeHost:
        return self

    @property
    def view(self) -> RolloutView:
        return self.shown

    @property
    def fresh_until(self) -> float:
        return float("inf") if self.fresh else float("-inf")

    @property
    def queue(self) -> deque[Record]:
        if self.failing_put is not None:
            raise self.failing_put
        return self.put_records

    def check(self) -> None:
        self.checks += 1

    def put(self, record: Record) -> None:
        self.queue.append(record)

    def degraded(self, kind: str, error: BaseException | None = None) -> None:
        self.failures.append((kind, error))

    def without_conversation(self, problem: str) -> None:
        self.without[problem] += 1

    async def start(self) -> None:
        self.starts += 1
        if self.failing_start is not None:
            raise self.failing_start

    async def stop(self) -> None:
        self.stops += 1

    @property
    def kinds(self) -> list[str]:
        """What was degraded."""
        return [kind for kind, _ in self.failures]

    @property
    def turns(self) -> list[RecordedTurn]:
        """Turns that were recorded, in the order in which they began."""
        return [r for r in self.put_records if not isinstance(r, TurnStarted | TurnEnded | Outcome)]

    @property
    def records(self) -> list[Record]:
        """What the recorder reads now."""
        ends = [turn.end_at(1.0) for turn in self.turns if turn.ended]
        others = [r for r in self.put_records if isinstance(r, TurnStarted | TurnEnded | Outcome)]
        return [*(turn.start for turn in self.turns), *ends, *others]

    @property
    def started(self) -> list[TurnStarted]:
        """Turns that began."""
        return [record for record in self.records if isinstance(record, TurnStarted)]

    @property
    def ended(self) -> list[TurnEnded]:
        """Turns that ended."""
        return [record for record in self.records if isinstance(record, TurnEnded)]


class Exchange:
    """One call of an ASGI application: gives it messages, keeps what it sends."""

    def __init__(self, *messages: Message, disconnects: bool = False) -> None:
        self.messages = list(messages)
        self.disconnects = disconnects
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.messages:
            return self.messages.pop(0)
        if self.disconnects:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


def http_scope(
    unit: str | bytes | None = "c-1",
    *headers: tuple[bytes, bytes],
    method: str = "GET",
    path: str = "/chat",
    query: bytes = b"",
) -> dict[str, Any]:
    """A request, with its conversation id in the header that is looked at first."""
    raw = unit.encode() if isinstance(unit, str) else unit
    named = [] if raw is None else [(b"x-conversation-id", raw)]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "scheme": "http",
        "headers": [(b"host", b"example"), *named, *headers],
    }


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def pin_store() -> PinStore:
    return PinStore()


@pytest.fixture
def host(clock: FrozenClock, pin_store: PinStore) -> Iterator[FakeHost]:
    made = FakeHost(clock, pin_store)
    yield made
    if pin_store.gate is not None:
        pin_store.gate.set()
    made.pins.close()
    made.aliases.close()


@pytest.fixture
def exchange() -> Callable[..., Exchange]:
    return Exchange


@pytest.fixture
def scope() -> Callable[..., dict[str, Any]]:
    return http_scope


@pytest.fixture(autouse=True)
def _no_stable_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_stable_versions", {})


Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed to no terminal has no width; a parallel test run sets one."""
    monkeypatch.delenv("COLUMNS", raising=False)
