"""Thumbs of chat front ends: ChatKit, Chainlit. Pure. 1 is up, 0 is down; whoever changes their mind corrects it.

Source:
    ChatKit: the request ``items.feedback`` (openai.github.io/chatkit-python/guides/handle-feedback). Chainlit:
    ``Feedback`` of the data layer (docs.chainlit.io/data-layers/overview, github.com/Chainlit/chainlit,
    ``backend/chainlit/types.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.outcome_shapes.naming import conversation_of, id_of
from agentcanary.outcome_shapes.reading import (
    MAX_CONVERSATION,
    MAX_ID,
    Reported,
    ShapeError,
    mapping,
    optional,
    prose,
    shown,
    text,
)
from agentcanary.outcomes import Judge

USER_FEEDBACK = "user_feedback"
_CHATKIT = {"positive": 1.0, "negative": 0.0}


def chatkit(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A ChatKit request of the type ``items.feedback``: one outcome an item.

    >>> request = {"type": "items.feedback", "params": {"thread_id": "t-1", "item_ids": ["i-1"], "kind": "negative"}}
    >>> next(chatkit(request)).value
    0.0
    """
    if item.get("type") != "items.feedback":
        raise ShapeError(f"type must be 'items.feedback', got {shown(item.get('type'))}")
    params = mapping(item.get("params"), "params")
    value = _CHATKIT.get(params["kind"]) if isinstance(params.get("kind"), str) else None
    if value is None:
        raise ShapeError(f"params.kind must be 'positive' or 'negative', got {shown(params.get('kind'))}")
    items = params.get("item_ids")
    if not isinstance(items, list) or not items:
        raise ShapeError("params.item_ids must be a list of at least one id")
    thread = text(params, "thread_id", limit=MAX_CONVERSATION)
    for found in items[:100]:
        about = text({"item_ids": found}, "item_ids", limit=MAX_ID)
        yield Reported(
            conversation_id=thread,
            name=USER_FEEDBACK,
            value=value,
            id=id_of("chatkit", thread, about),
            kind=Judge.HUMAN,
            turn_id=about,
        )


def chainlit(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A Chainlit feedback; its ``threadId`` is the conversation."""
    value = item.get("value")
    if isinstance(value, bool) or value not in (0, 1):
        raise ShapeError(f"value must be 0 or 1, got {shown(value)}")
    about = text(item, "forId", limit=MAX_ID)
    yield Reported(
        conversation_id=conversation_of(item, "threadId"),
        name=USER_FEEDBACK,
        value=float(value),
        id=id_of("chainlit", optional(item, "id", limit=MAX_ID) or about),
        kind=Judge.HUMAN,
        explanation=prose(item, "comment"),
        turn_id=about,
    )
