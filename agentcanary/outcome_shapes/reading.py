"""What every shape reads: values out of JSON that anybody may have written, with limits. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from agentcanary.outcomes import Judge

MAX_NAME = 200
MAX_ID = 300
MAX_CONVERSATION = 1024
# Judges explain at length; more than this nobody reads.
MAX_EXPLANATION = 4000


class ShapeError(ValueError):
    """What was sent is not in the shape that was announced; says where, which value, and what instead."""


class Reported(NamedTuple):
    """An outcome as it was sent: not yet of an agent, and without a time of its own.

    Attributes:
        conversation_id: The conversation.
        name: ``task_completion``, ``safety_violation``, … or the sender's own.
        value: The number, or None when there is none, which is missing and never 0.
        id: Makes it idempotent, or None when the sender has none.
        label: A category.
        kind: Who judged.
        explanation: For people.
        turn_id: The turn that it is about.
        confirmed: False for what a classifier suspects.
        agent: Name of the agent that the sender means, or None.
    """

    conversation_id: str
    name: str
    value: float | None
    id: str | None = None
    label: str | None = None
    kind: Judge = Judge.CODE
    explanation: str | None = None
    turn_id: str | None = None
    confirmed: bool = True
    agent: str | None = None


class Refused(NamedTuple):
    """An item that cannot be taken.

    Attributes:
        place: Its place in the list that was sent, 0 for a single one.
        reason: What, where, which value, what instead.
    """

    place: int
    reason: str


Reader = Callable[[Mapping[str, Any]], Iterable[Reported]]
"""Reads one item of a sender.

Raises:
    ShapeError: If it is none.
"""


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ShapeError(f"{where} must be an object, got {shown(value)}")
    return value


def text(item: Mapping[str, Any], *names: str, limit: int, default: str | None = None) -> str:
    """The first of some keys that is there, as text that can be stored and shown.

    Raises:
        ShapeError: If none is there and there is no default, or it is empty, too long or not printable.
    """
    found = optional(item, *names, limit=limit)
    if found is not None:
        return found
    if default is not None:
        return default
    raise ShapeError(f"{' or '.join(names)} is missing; write text of 1 to {limit} characters")


def optional(item: Mapping[str, Any], *names: str, limit: int) -> str | None:
    """``text``, or None where none of the keys is there. A whole number is an id to many senders."""
    for name in names:
        value = item.get(name)
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 256:
            value = str(value)
        if not isinstance(value, str):
            raise ShapeError(f"{name} must be text, got {shown(value)}")
        value = value.strip()
        if not 0 < len(value) <= limit or not value.isprintable():
            raise ShapeError(f"{name} must have 1 to {limit} printable characters, got {shown(value)}")
        return value
    return None


def prose(item: Mapping[str, Any], *names: str) -> str | None:
    """The first of some keys that is there, as words for people: cut where they become too many."""
    for name in names:
        value = item.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip().replace("\x00", "?").encode("utf-8", "replace").decode()[:MAX_EXPLANATION]
    return None


def number(value: object, where: str) -> float | None:
    """A number; true is 1, false is 0, null is missing.

    >>> number(True, "value"), number(0.25, "value"), number(None, "value")
    (1.0, 0.25, None)
    """
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    raise ShapeError(f"{where} must be a finite number, true, false or null for missing, got {shown(value)}")


def truth(item: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """True or false."""
    value = item.get(name, default)
    if not isinstance(value, bool):
        raise ShapeError(f"{name} must be true or false, got {shown(value)}")
    return value


def judge(value: object, where: str, known: Mapping[str, Judge], default: Judge) -> Judge:
    """Who judged, by the sender's word for it, whose case does not matter."""
    if value is None:
        return default
    found = known.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise ShapeError(f"{where} must be {', '.join(sorted(known))}, got {shown(value)}")
    return found


def shown(value: object) -> str:
    """A value as a message shows it: short, and of one line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    said = repr(value) if not isinstance(value, int) or value.bit_length() <= 256 else "a very large number"
    return said if len(said) <= 60 else f"{said[:57]}…"
