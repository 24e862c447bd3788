"""Our own shape: the fields of ``canary.record``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.outcome_shapes.reading import (
    MAX_CONVERSATION,
    MAX_ID,
    MAX_NAME,
    Reported,
    ShapeError,
    judge,
    number,
    optional,
    prose,
    text,
    truth,
)
from agentcanary.outcomes import Judge

_FIELDS = frozenset(
    {"agent", "conversation_id", "name", "value", "id", "label", "kind", "explanation", "turn_id", "confirmed"}
)
_KINDS = {kind.value.lower(): kind for kind in Judge}


def own(item: Mapping[str, Any]) -> Iterator[Reported]:
    """An outcome in our own words.

    >>> next(own({"conversation_id": "c-1", "name": "satisfaction", "value": 4})).value
    4.0
    """
    unknown = sorted(set(map(str, item)) - _FIELDS)
    if unknown:
        raise ShapeError(f"{unknown[0][:60]!r} is no field of an outcome; known are {', '.join(sorted(_FIELDS))}")
    if "value" not in item:
        raise ShapeError("value is missing; write a number, or null when the judge gave none")
    yield Reported(
        conversation_id=text(item, "conversation_id", limit=MAX_CONVERSATION),
        name=text(item, "name", limit=MAX_NAME),
        value=number(item["value"], "value"),
        id=optional(item, "id", limit=MAX_ID),
        label=optional(item, "label", limit=MAX_NAME),
        kind=judge(item.get("kind"), "kind", _KINDS, Judge.CODE),
        explanation=prose(item, "explanation"),
        turn_id=optional(item, "turn_id", limit=MAX_ID),
        confirmed=truth(item, "confirmed", default=True),
        agent=optional(item, "agent", limit=MAX_NAME),
    )
