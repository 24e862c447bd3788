"""A team's own rules of what makes a turn an error: a value in its JSON, or the name of an event. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentcanary.protocols.facts import NOTHING, Facts, Protocol, code, member


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRule:
    """When a turn is an error. Exactly one of ``json`` and ``event`` is given.

    Attributes:
        json: Keys from the top of a JSON body, of an event's data or of a frame, joined by dots.
        values: What stands there in an error; empty for anything but null, false, 0 and nothing.
        event: Name of a server-sent event.

    Raises:
        ValueError: If both or none are given, or values for an event.

    >>> ErrorRule(json="status", values=("failed",)).error("", {"status": "failed"})
    'failed'
    """

    json: str | None = None
    values: tuple[str | int | bool, ...] = ()
    event: str | None = None

    def __post_init__(self) -> None:
        if (self.json is None) == (self.event is None):
            raise ValueError("an error is a value in JSON or an event: write json: or event:, one of them")
        if self.event is not None and self.values:
            raise ValueError(f"the event {self.event!r} has no value to compare: leave out is:")

    @property
    def marker(self) -> str:
        """What a document must contain to be one."""
        return self.event if self.event is not None else f'"{(self.json or "").rpartition(".")[2]}"'

    def error(self, event: str, data: object) -> str | None:
        """The code of an error, or None for what is none."""
        if self.json is None:
            return self.event if event == self.event else None
        value = member(data, *self.json.split("."))
        # True is 1 to Python, and something else in JSON.
        wrong = any(value == item and type(value) is type(item) for item in self.values) if self.values else bool(value)
        return code(value, default=self.json) if wrong else None


def protocol_of(rules: Sequence[ErrorRule]) -> Protocol:
    """Some rules as a protocol."""

    def read(event: str, data: object) -> Facts:
        for rule in rules:
            error = rule.error(event, data)
            if error is not None:
                return Facts(error=error)
        return NOTHING

    return Protocol(name="error_if", read=read, markers=tuple(rule.marker for rule in rules))
