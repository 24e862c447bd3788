"""OTLP JSON → spans: lines of file exporters, documents, and the shapes that Python and JavaScript print. Pure.

What a careful reader would skip is skipped and counted: a truncated last line, a broken one, a span without ids or
times. Unknown fields are no matter.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from agentcanary_analysis.langfuse import is_langfuse, langfuse_spans
from agentcanary_analysis.span_values import EVALUATION_EVENT, Evaluation, Span, evaluation

_NANO = 1_000_000_000
_LATEST = 10**11 * _NANO
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ERRORS = (2, "2", "STATUS_CODE_ERROR", "ERROR", "Error")


def spans_of_lines(lines: Iterable[str], seen: Counter[str]) -> Iterator[Span]:
    """The spans of a text, in its order.

    Args:
        lines: Of the file.
        seen: Counts what was read and skipped: ``lines``, ``broken lines``, ``truncated last line``, ``broken spans``,
            ``not spans``.
    """
    present = (line for line in lines if line.strip())
    first = next(present, "")
    rest: Iterable[str] = present
    if first and _parsed(first) is None:
        # Documents over many lines, or lines of which the first is broken.
        rest = list(present)
        documents, left = _documents("".join([first, *rest]))
        if documents:
            seen["lines"] += 1 + len(rest)
            seen["truncated last line"] += left
            for document in documents:
                yield from _spans(document, seen)
            return
    number = last_broken = 0
    for number, line in enumerate(chain([first] if first else [], rest), 1):
        document = _parsed(line)
        if document is None:
            last_broken = number
            seen["broken lines"] += 1
        else:
            yield from _spans(document, seen)
    seen["lines"] += number
    if last_broken == number > 0:
        # Only the last line can be cut off by a process that was stopped while it wrote.
        seen["truncated last line"] += 1
        seen["broken lines"] -= 1


def _documents(text: str) -> tuple[list[Any], bool]:
    """The documents that stand one after the other, over any number of lines, and whether something is left."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    at = 0
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found, True
        found.append(document)
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
    return found, False


def _parsed(text: str) -> Any:
    """The JSON document, or None."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, (dict, list)) else None


def _spans(document: Any, seen: Counter[str]) -> Iterator[Span]:
    if isinstance(document, list):
        for part in document:
            yield from _spans(part, seen)
    elif not isinstance(document, dict):
        seen["not spans"] += 1
    elif is_langfuse(document):
        yield from langfuse_spans(document, seen)
    elif "resourceSpans" in document or "resource_spans" in document:
        yield from _request(document, seen)
    elif "spanContext" in document or "context" in document or ("traceId" in document and "name" in document):
        yield from _counted(document, {}, seen)
    else:
        seen["not spans"] += 1


def _request(document: Mapping[str, Any], seen: Counter[str]) -> Iterator[Span]:
    for resource_spans in _objects(_field(document, "resourceSpans")):
        resource = _attributes(_object(resource_spans.get("resource")).get("attributes"))
        scopes = _field(resource_spans, "scopeSpans") or _field(resource_spans, "instrumentationLibrarySpans")
        for scope in _objects(scopes):
            for span in _objects(scope.get("spans")):
                yield from _counted(span, resource, seen)


def _counted(span: Mapping[str, Any], resource: Mapping[str, Any], seen: Counter[str]) -> Iterator[Span]:
    made = _span(span, resource)
    if made is None:
        seen["broken spans"] += 1
    else:
        seen["spans"] += 1
        yield made


def _span(span: Mapping[str, Any], resource: Mapping[str, Any]) -> Span | None:
    context = _object(span.get("spanContext") or span.get("context"))
    trace = _field(span, "traceId") or _field(context, "traceId")
    own = _field(span, "spanId") or _field(context, "spanId")
    start = _time(_first(span, "startTimeUnixNano", "start_time_unix_nano"), _field(span, "startTime"))
    if not trace or not own or start is None:
        return None
    end = _time(_first(span, "endTimeUnixNano", "end_time_unix_nano"), _field(span, "endTime"))
    parent_context = _object(span.get("parentSpanContext"))
    parent = _field(span, "parentSpanId") or span.get("parent_id") or parent_context.get("spanId") or ""
    status = _object(span.get("status"))
    own_resource = _attributes(_object(span.get("resource")).get("attributes"))
    return Span(
        trace=_identity(trace),
        id=_identity(own),
        parent=_identity(parent),
        name=str(span.get("name", "")),
        start=start / _NANO,
        end=math.inf if end is None else max(end, start) / _NANO,
        duration=math.inf if end is None else max(end - start, 0) / _NANO,
        error=_first(status, "code", "status_code") in _ERRORS,
        attributes={**resource, **own_resource, **_attributes(span.get("attributes"))},
        evaluations=tuple(_evaluations(_objects(span.get("events")))),
    )


def _evaluations(events: Iterable[Mapping[str, Any]]) -> Iterator[Evaluation]:
    for event in events:
        if event.get("name") == EVALUATION_EVENT:
            at = _time(_first(event, "timeUnixNano", "time_unix_nano"), _first(event, "time", "timestamp"))
            made = evaluation(_attributes(event.get("attributes")), None if at is None else at / _NANO)
            if made is not None:
                yield made


def _identity(raw: Any) -> str:
    """An id in the same letters everywhere; one of zeros is none."""
    text = str(raw).lower().removeprefix("0x")
    return text if text.strip("0") else ""


def _time(nanoseconds: Any, other: Any) -> int | None:
    """Unix nanoseconds from nanoseconds, from JavaScript's pair of seconds and nanoseconds, or from Python's text."""
    try:
        if nanoseconds is not None:
            found = int(nanoseconds)
            return found if 0 < found < _LATEST else None
        if isinstance(other, list) and len(other) == 2:
            return int(other[0]) * _NANO + int(other[1])
        if isinstance(other, str):
            moment = datetime.fromisoformat(other)
            since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
            return (since.days * 86400 + since.seconds) * _NANO + since.microseconds * 1000
    except (TypeError, ValueError, OverflowError):
        return None
    return None


def _attributes(raw: Any) -> dict[str, Any]:
    """Attributes as a mapping, whether they came as one or as OTLP's list of keys and typed values."""
    if isinstance(raw, dict):
        return raw
    found = {}
    for pair in _objects(raw):
        key, value = pair.get("key"), pair.get("value")
        if isinstance(key, str):
            found[key] = _value(value)
    return found


def _value(raw: Any) -> Any:
    """A typed value; 64-bit integers are texts in OTLP JSON."""
    if not isinstance(raw, dict):
        return raw
    for kind, value in raw.items():
        match kind:
            case "intValue" | "int_value":
                try:
                    return int(value)
                except (TypeError, ValueError):
                    return None
            case "stringValue" | "boolValue" | "doubleValue" | "string_value" | "bool_value" | "double_value":
                return value
    return None


def _field(record: Mapping[str, Any], name: str) -> Any:
    """A field by its JSON name or by that of the protocol."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return record.get(name, record.get(snake))


def _first(record: Mapping[str, Any], *names: str) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))
