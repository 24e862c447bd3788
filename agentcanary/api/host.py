"""What the API needs of a ``Canary``, and the threads on which it asks the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

from agentcanary.clock import Clock
from agentcanary.config import Config
from agentcanary.outcome_shapes import Reported
from agentcanary.security import Guard
from agentcanary.store import Store

# At most so many questions at once: the store has eight connections, and requests come first.
_THREADS = 4

T = TypeVar("T")


class Host(Protocol):
    """What the API needs of a ``Canary``."""

    @property
    def config(self) -> Config:
        """The configuration."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def clock(self) -> Clock:
        """The time of rollouts."""

    @property
    def guard(self) -> Guard:
        """Who is believed."""

    @property
    def disabled(self) -> bool:
        """True where agentcanary is switched off in this process."""

    def unit_of(self, conversation_id: str) -> str:
        """The unit of a conversation id: itself, or with ``privacy: hash`` its keyed hash."""

    def take(self, conversation: Reported) -> None:
        """Record an outcome that was sent."""

    def known_units(self, units: Sequence[str]) -> frozenset[str]:
        """Those of the units that have had a turn with this agent.

        Raises:
            StoreError: If the store cannot be asked.
        """

    def confirm(self, outcome_id: str, *, violation: bool, explanation: str | None = None) -> bool:
        """Say, as a person, whether an outcome is a safety violation; False if there is none of that id.

        Raises:
            StoreError: If the store cannot be asked.
        """

    def withdraw(self, outcome_id: str) -> bool:
        """Delete an outcome; False if there is none.

        Raises:
            StoreError: If the store cannot be asked.
        """


class Desk:
    """Asks the store on threads of ours: those of the framework may all be busy with the agent's own work."""

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(_THREADS)

    async def ask(self, question: Callable[[], T]) -> T:
        """The answer of a function that waits."""
        return await to_thread.run_sync(question, limiter=self._limiter)
