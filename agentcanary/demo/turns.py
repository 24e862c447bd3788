"""What users saw of each turn, as lines of JSON: the load writes them, the report is made of them. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTurn:
    """One turn, as the user saw it. All times are real Unix seconds.

    Attributes:
        scenario: Name of the agent.
        conversation: Id of the conversation.
        turn: 1 for its first.
        sent_at: When the request was sent.
        streams: True for server-sent events.
        status: HTTP status, or 0 when there was no response.
        complete: False when the response broke off, or there was none.
        version: The version that served it; empty when the response did not get so far as to say.
        reason: Why that version, by the agent.
        worker: The process that served it, 0 when the response did not say.
        started_at: When the agent began with it, by the agent; 0 when the response did not say.
        violation_at: When the agent reported a safety violation of its own, if it did.
    """

    scenario: str
    conversation: str
    turn: int
    sent_at: float
    streams: bool = False
    status: int = 0
    complete: bool = False
    version: str = ""
    reason: str = ""
    worker: int = 0
    started_at: float = 0.0
    violation_at: float | None = None

    @property
    def failed(self) -> bool:
        """True for anything but a whole answer."""
        return self.status != 200 or not self.complete

    def line(self) -> str:
        """The turn as a line."""
        return json.dumps(asdict(self)) + "\n"


def seen_turn(line: str) -> SeenTurn:
    """The turn of a line.

    >>> seen_turn(SeenTurn(scenario="same", conversation="same-1", turn=2, sent_at=7.0).line()).turn
    2
    """
    return SeenTurn(**json.loads(line))
