"""CloudEvents 1.0 around outcomes: structured, batched, and binary. Pure.

``source`` and ``id`` together make an event unique, so that a redelivered one is counted once. ``time`` is read by
nobody: an outcome is dated by its arrival, because what is counted already must not change.

Source:
    CloudEvents 1.0.2, sections "Required Attributes" and "Event Data"; HTTP Protocol Binding 1.0.2, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcanary.outcome_shapes.reading import MAX_ID, ShapeError, text

BINARY_PREFIX = "ce-"


def unwrapped(item: object, headers: Mapping[str, str] | None = None) -> tuple[object, str | None]:
    """What an event carries, and the id that makes it idempotent; whatever is no event as it is.

    Args:
        item: An item of the body.
        headers: Of the request, in lower case, for the binary form.

    Raises:
        ShapeError: If it says that it is an event, but is none.

    >>> unwrapped({"specversion": "1.0", "type": "t", "source": "/judge", "id": "7", "data": {"value": 1}})
    ({'value': 1}, '/judge#7')
    """
    if headers is not None and f"{BINARY_PREFIX}specversion" in headers:
        attributes = {name.removeprefix(BINARY_PREFIX): value for name, value in headers.items()}
        return item, _event_id(attributes)
    if isinstance(item, dict) and "specversion" in item:
        if "data" not in item:
            raise ShapeError("a CloudEvent without data holds no outcome; data_base64 is not read, send JSON in data")
        return item["data"], _event_id(item)
    return item, None


def _event_id(attributes: Mapping[str, Any]) -> str:
    version = attributes.get("specversion")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ShapeError(f"specversion must be '1.0', got {str(version)[:60]!r}")
    source, event = text(attributes, "source", limit=MAX_ID), text(attributes, "id", limit=MAX_ID)
    return f"{source}#{event}"
