"""Langfuse trace exports → spans: a trace is a turn, its session the conversation, its scores evaluations. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from agentcanary_analysis.span_values import CONVERSATION_IDS, USER_IDS, Evaluation, Span, number_or_none

_FIELDS = ("version", "release", "environment", "name")


def is_langfuse(document: Mapping[str, Any]) -> bool:
    """True for what Langfuse exports of a trace: an object with the trace and its observations."""
    return isinstance(document.get("trace"), dict) and isinstance(document.get("observations"), list)


def langfuse_spans(document: Mapping[str, Any], seen: Counter[str]) -> Iterator[Span]:
    """The trace as a root span, and its observations as its children.

    The attributes of the root are those of the trace's metadata, and ``version``, ``release``, ``environment`` and
    ``name`` of the trace itself, also as ``langfuse.version`` and so on.

    Args:
        document: Of the export.
        seen: Counts what was read and skipped.
    """
    trace = document["trace"]
    observations = [one for one in document["observations"] if isinstance(one, dict)]
    times = [(_moment(one.get("startTime")), _moment(one.get("endTime")), one) for one in observations]
    starts = [start for start, _, _ in times if start is not None]
    start = min(starts, default=None)
    start = _moment(trace.get("timestamp")) if start is None else start
    if not trace.get("id") or start is None:
        seen["broken spans"] += 1
        return
    ends = [end for _, end, _ in times if end is not None]
    latency = number_or_none(trace.get("latency"))
    end = max(ends) if ends else math.inf if latency is None else start + latency
    roots = [one for _, _, one in times if not one.get("parentObservationId")]
    identity = str(trace["id"])
    seen["spans"] += 1
    yield Span(
        trace=identity,
        id=f"{identity} trace",
        parent="",
        name=str(trace.get("name") or ""),
        start=start,
        end=max(end, start),
        duration=round(max(end - start, 0.0), 6),
        error=any(one.get("level") == "ERROR" for one in roots),
        attributes=_attributes(trace),
        evaluations=tuple(_scores(trace.get("scores"), seen)),
    )
    for began, ended, one in times:
        if began is None or not one.get("id"):
            seen["broken spans"] += 1
            continue
        seen["spans"] += 1
        model = one.get("model") or one.get("providedModelName")
        yield Span(
            trace=identity,
            id=str(one["id"]),
            parent=str(one.get("parentObservationId") or f"{identity} trace"),
            name=str(one.get("name") or ""),
            start=began,
            end=math.inf if ended is None else ended,
            duration=math.inf if ended is None else round(max(ended - began, 0.0), 6),
            error=one.get("level") == "ERROR",
            attributes={**_attributes(one), **({} if model is None else {"gen_ai.request.model": model})},
        )


def _attributes(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    metadata = record.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            metadata = None
    if isinstance(metadata, dict):
        for part in (metadata.get("resourceAttributes"), metadata.get("attributes"), metadata):
            if isinstance(part, dict):
                found |= {key: value for key, value in part.items() if isinstance(value, (str, int, float))}
    for name in _FIELDS:
        if record.get(name) is not None:
            found[name] = found[f"langfuse.{name}"] = record[name]
    for name, ours in (("sessionId", CONVERSATION_IDS[0]), ("userId", USER_IDS[0])):
        if record.get(name):
            found[ours] = record[name]
    return found


def _scores(scores: Any, seen: Counter[str]) -> Iterator[Evaluation]:
    for score in scores if isinstance(scores, list) else ():
        if isinstance(score, dict) and score.get("name"):
            value = number_or_none(score.get("value"))
            if value is None:
                seen["evaluations without a number"] += 1
            yield Evaluation(str(score["name"]), value, _moment(score.get("timestamp")), None)


def _moment(text: Any) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
