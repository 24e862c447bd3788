"""What is recorded: turns and outcomes, as values. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from agentcanary.assignment import Assignment

SAFETY_VIOLATION = "safety_violation"


class TurnOutcome(StrEnum):
    """What became of a turn."""

    OK = "ok"
    ERROR = "error"
    ABORTED = "aborted"


class Judge(StrEnum):
    """Who produced an outcome; the names follow OpenTelemetry and Phoenix."""

    HUMAN = "HUMAN"
    LLM = "LLM"
    CODE = "CODE"


class TurnStarted(NamedTuple):
    """A turn began. Recorded at once, so that a turn that hangs is seen.

    Attributes:
        turn_id: Unique id of the turn.
        assignment: The unit's assignment.
        started_at: Unix time in seconds.
    """

    turn_id: str
    assignment: Assignment
    started_at: float


class TurnEnded(NamedTuple):
    """A turn ended.

    Attributes:
        turn_id: The id under which it started.
        assignment: As at its start.
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds.
        latency: Seconds from the request to the end of the response, by a monotonic clock.
        time_to_first_byte: Seconds to the first byte of the body, or None if there was none.
        outcome: ok, error or aborted.
        error_type: Exception class, HTTP status or protocol code; None unless ``outcome`` is error.
    """

    turn_id: str
    assignment: Assignment
    started_at: float
    ended_at: float
    latency: float
    time_to_first_byte: float | None
    outcome: TurnOutcome
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A named value about a conversation, often late.

    Attributes:
        id: Makes it idempotent: the same id is counted once, a later one with the same id corrects it.
        agent: Name of the agent.
        conversation_id: The conversation.
        name: ``task_completion``, ``safety_violation``, ``satisfaction`` or any other.
        value: The number, or None when the judge gave none (which is missing, never 0).
        at: Unix time in seconds at which it was received.
        label: A category, such as the kind of violation.
        kind: Who produced it.
        explanation: Free text for people.
        turn_id: The turn it is about, if one.
        confirmed: For safety violations: a confirmed one stops the canary; an unconfirmed one does not.

    Raises:
        ValueError: If the value is not finite, or the name or the conversation is empty.
    """

    id: str
    agent: str
    conversation_id: str
    name: str
    value: float | None
    at: float
    label: str | None = None
    kind: Judge = Judge.CODE
    explanation: str | None = None
    turn_id: str | None = None
    confirmed: bool = True

    def __post_init__(self) -> None:
        if not self.name or not self.conversation_id:
            raise ValueError(
                f"an outcome needs a name and a conversation id, got {self.name!r} and {self.conversation_id!r}"
            )
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"value of {self.name} must be a finite number or None for missing, got {self.value}")

    @property
    def is_safety_violation(self) -> bool:
        """True for a confirmed safety violation: it stops the canary that served the conversation."""
        return self.name == SAFETY_VIOLATION and bool(self.value) and self.confirmed


class RecordedTurn(Protocol):
    """A turn that is recorded once, when it begins, and read until it has ended.

    Attributes:
        ended: True from its end on.
    """

    ended: bool

    @property
    def start(self) -> TurnStarted:
        """The record of its start."""

    def end_at(self, speed: float) -> TurnEnded:
        """The record of its end; ``speed`` is that of the rollout's clock."""

    def release(self) -> None:
        """Nobody reads it any more: it must put the record of its end itself."""


Record = TurnStarted | TurnEnded | RecordedTurn | Outcome
