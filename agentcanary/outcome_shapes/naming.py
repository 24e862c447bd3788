"""Which conversation another system's record is about, and the id under which it is counted once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentcanary.outcome_shapes.reading import MAX_CONVERSATION, MAX_ID, ShapeError, optional

# In the metadata that others let their users attach; the last is OpenTelemetry's name for it, the one before MLflow's.
_KEYS = ("conversation_id", "session_id", "thread_id", "sessionId", "threadId", "mlflow.trace.session")
IN_METADATA = (*_KEYS, "gen_ai.conversation.id")


def conversation_of(item: Mapping[str, Any], *keys: str, metadata: Sequence[str] = ("metadata",)) -> str:
    """The conversation that a record is about.

    Most systems speak of traces. Who forwards their records adds ``conversation_id``, unless the record holds it.

    Args:
        item: The record.
        *keys: Its own keys that hold a conversation, besides ``conversation_id``.
        metadata: Keys below which its users attach what they like, joined by dots.

    Raises:
        ShapeError: Saying where it was looked for.

    >>> conversation_of({"traceId": "t", "metadata": {"thread_id": "c-1"}})
    'c-1'
    """
    found = optional(item, "conversation_id", *keys, limit=MAX_CONVERSATION)
    if found is not None:
        return found
    for path in metadata:
        below: object = item
        for key in path.split("."):
            below = below.get(key) if isinstance(below, dict) else None
        if isinstance(below, dict):
            found = optional(below, *IN_METADATA, limit=MAX_CONVERSATION)
            if found is not None:
                return found
    places = ", ".join(["conversation_id", *keys, *(f"{path}.conversation_id" for path in metadata)])
    raise ShapeError(f"it names no conversation; looked at {places}")


def id_of(sender: str, *parts: str | None) -> str | None:
    """An id within a sender's own, so that two senders never correct each other; None where a part is missing.

    >>> id_of("langfuse", "s-1"), id_of("langfuse", None)
    ('langfuse:s-1', None)
    """
    given = [part for part in parts if part]
    return ":".join([sender, *given])[:MAX_ID] if len(given) == len(parts) else None
