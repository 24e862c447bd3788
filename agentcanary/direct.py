"""Turns that come by no request: voice workers, queues, batch jobs. ``with canary.conversation(key) as turn:``."""

from __future__ import annotations

import asyncio
import uuid
from contextvars import Token
from time import perf_counter
from types import TracebackType
from typing import Protocol

from opentelemetry.context import Context

from agentcanary import context
from agentcanary.assignment import Assignment, Reason, RolloutView, assign, bucket, needs_pin, on_stable
from agentcanary.observe import Message, Sink, Turn
from agentcanary.outcomes import TurnOutcome
from agentcanary.pins import PinKeeper


class Aliases(Protocol):
    """The ids that servers make for conversations."""

    def unit_of_blocking(self, name: str) -> str:
        """The unit that an id stands for. May raise: stable then serves the turn."""


class Host(Sink, Protocol):
    """What a direct turn needs of a ``Canary``.

    Attributes:
        pins: The pins.
    """

    pins: PinKeeper

    @property
    def watching(self) -> object | None:
        """None where servers make no ids."""

    @property
    def aliases(self) -> Aliases:
        """The ids that servers make."""

    def view(self) -> tuple[RolloutView, bool]:
        """The rollout as this process knows it, and whether that is fresh."""

    def start_blocking(self) -> None:
        """Start threads and connections, unless they run."""


class DirectTurn:
    """One turn of a conversation, as a context manager, plain or async.

    What is raised inside makes it an error and is raised on; a cancelled task makes it aborted. While it runs,
    ``current()`` and ``current_version()`` answer for it.

    Args:
        host: The ``Canary``.
        key: The conversation id.
    """

    def __init__(self, host: Host, key: str) -> None:
        self._host = host
        self._key = key
        self._turn: Turn | None = None
        self._bound: context.Bound | None = None
        self._token: Token[Context] | None = None

    @property
    def assignment(self) -> Assignment:
        """The conversation's assignment."""
        return self._running.assignment

    @property
    def version(self) -> str:
        """The version that serves this turn."""
        return self.assignment.version

    def fail(self, error_type: str) -> None:
        """Make the turn an error, for what an agent reports without raising it.

        Args:
            error_type: A short constant: an exception's class, a protocol's code.
        """
        self._running.fail(error_type)

    def __enter__(self) -> DirectTurn:
        self._host.start_blocking()
        now = self._host.clock()
        self._begin(self._assignment(now), now)
        return self

    async def __aenter__(self) -> DirectTurn:
        # Only the first turn of a process starts anything; a pin look-up has its own deadline.
        await asyncio.to_thread(self._host.start_blocking)
        now = self._host.clock()
        self._begin(await asyncio.to_thread(self._assignment, now), now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        turn = self._running
        if error is None:
            turn.end(TurnOutcome.OK)
        else:
            turn.raised(error)
        if self._bound is not None:
            context.leave(self._bound)
        if self._token is not None:
            self._host.telemetry.leave(self._token)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    @property
    def _running(self) -> Turn:
        if self._turn is None:
            raise RuntimeError("the turn has not begun: write `with canary.conversation(key) as turn:`")
        return self._turn

    def _assignment(self, now: float) -> Assignment:
        host, unit = self._host, self._key
        view, fresh = host.view()
        try:
            if not unit:
                return on_stable(view, "", Reason.NO_CONVERSATION)
            if not view.sticky:
                unit = uuid.uuid4().hex
            elif host.watching is not None:
                unit = host.aliases.unit_of_blocking(unit)
            buckets = bucket(view.salt, unit)
            if not needs_pin(view, buckets):
                return assign(view, unit, buckets, now=now, fresh=fresh)
            known = host.pins.known(view, unit, buckets)
            return known or host.pins.resolve_blocking(view, unit, buckets, now=now, fresh=fresh)
        except Exception as error:  # noqa: BLE001 (whatever we got wrong, the conversation is served)
            host.degraded("assignment", error)
            return on_stable(view, unit, Reason.FALLBACK)

    def _begin(self, assignment: Assignment, now: float) -> None:
        host, begun = self._host, perf_counter()
        self._turn = turn = Turn(host, assignment, begun, now, _nothing, _nowhere)
        try:
            host.put(turn)
        except Exception as error:  # noqa: BLE001 (a bug of ours must not break a conversation)
            host.degraded("record", error)
        if host.telemetry.look(begun):
            turn.trace()
            self._token = host.telemetry.enter(turn.span)
        self._bound = context.enter(turn)


async def _nothing() -> Message:
    raise RuntimeError("a direct turn receives no messages")


async def _nowhere(_: Message) -> None:
    raise RuntimeError("a direct turn sends no messages")
