"""All shapes by name, and reading a body with one of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcanary.outcome_shapes.envelope import unwrapped
from agentcanary.outcome_shapes.judges import deepeval
from agentcanary.outcome_shapes.own import own
from agentcanary.outcome_shapes.platforms import braintrust, langfuse, langsmith, mlflow, phoenix
from agentcanary.outcome_shapes.reading import Reader, Refused, Reported, ShapeError, mapping
from agentcanary.outcome_shapes.safety import guardrail, openai_moderation
from agentcanary.outcome_shapes.thumbs import chainlit, chatkit

OWN = "agentcanary"
SHAPES: Mapping[str, Reader] = {
    OWN: own,
    "langfuse": langfuse,
    "phoenix": phoenix,
    "braintrust": braintrust,
    "langsmith": langsmith,
    "mlflow": mlflow,
    "deepeval": deepeval,
    "openai-moderation": openai_moderation,
    "guardrail": guardrail,
    "chatkit": chatkit,
    "chainlit": chainlit,
}
MAX_ITEMS = 1000


def outcomes_in(
    body: object, *, shape: str = OWN, headers: Mapping[str, str] | None = None
) -> tuple[list[tuple[int, Reported]], list[Refused]]:
    """The outcomes in a body: one item or a list of them, each perhaps in a CloudEvent.

    An item that is none is refused by itself; the others are good.

    Args:
        body: Parsed JSON.
        shape: A key of ``SHAPES``.
        headers: Of the request, in lower case, for CloudEvents in binary form.

    Returns:
        The outcomes, each with the place of its item, and what was refused.

    Raises:
        ShapeError: If the shape is unknown, or the whole body cannot be one.

    >>> found, refused = outcomes_in([{"conversation_id": "c-1", "name": "error_free", "value": 1}, 7])
    >>> len(found), refused[0].reason
    (1, 'the item must be an object, got 7')
    """
    reader = SHAPES.get(shape)
    if reader is None:
        raise ShapeError(f"shape {shape[:60]!r} is unknown; known are {', '.join(sorted(SHAPES))}")
    items = body if isinstance(body, list) else [body]
    if not items:
        raise ShapeError("the list is empty; send at least one outcome")
    if len(items) > MAX_ITEMS:
        raise ShapeError(f"the list has {len(items)} items; send at most {MAX_ITEMS} at once")
    found: list[tuple[int, Reported]] = []
    refused: list[Refused] = []
    for index, item in enumerate(items):
        try:
            found += [(index, outcome) for outcome in _read(item, reader, headers)]
        except ShapeError as error:
            refused.append(Refused(index, str(error)))
    return found, refused


def _read(item: object, reader: Reader, headers: Mapping[str, str] | None) -> list[Reported]:
    data, event_id = unwrapped(item, headers)
    # One event may carry several outcomes, in data that is a list or by its shape.
    several: list[Any] = data if isinstance(data, list) and event_id is not None else [data]
    outcomes = [outcome for one in several for outcome in reader(mapping(one, "the item"))]
    if not outcomes:
        raise ShapeError("it holds no outcome")
    if event_id is None:
        return outcomes
    single = len(outcomes) == 1
    return [
        outcome if outcome.id else outcome._replace(id=event_id if single else f"{event_id}#{number}")
        for number, outcome in enumerate(outcomes)
    ]
