"""OTLP JSON → spans: lines of the Collector's and Python's file exporters, one document, JavaScript's shape. Pure.

What a careful reader would skip is skipped and counted: a truncated last line, a broken one, a span without ids or
times. Unknown fields are no matter.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from agentcanary_analysis.langfuse import is_langfuse, langfuse_spans
from agentcanary_analysis.span_values import EVALUATION_EVENT, Evaluation, Span, evaluation

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
        # Either one document over many lines, or lines of which the first is broken.
        rest = list(present)
        whole = _parsed("".join([first, *rest]))
        if whole is not None:
            seen["lines"] += 1
            yield from _spans(whole, seen)
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
    elif "spanContext" in document or ("traceId" in document and "name" in document):
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
    context = _object(span.get("spanContext"))
    trace = _field(span, "traceId") or context.get("traceId")
    own = _field(span, "spanId") or context.get("spanId")
    start = _time(_first(span, "startTimeUnixNano", "start_time_unix_nano"), span.get("startTime"))
    if not trace or not own or start is None:
        return None
    end = _time(_first(span, "endTimeUnixNano", "end_time_unix_nano"), span.get("endTime"))
    parent_context = _object(span.get("parentSpanContext"))
    parent = _field(span, "parentSpanId") or parent_context.get("spanId") or ""
    return Span(
        trace=str(trace).lower(),
        id=str(own).lower(),
        # A parent of zeros is none.
        parent=str(parent).lower() if str(parent).strip("0") else "",
        name=str(span.get("name", "")),
        start=start,
        end=math.inf if end is None else max(end, start),
        error=_object(span.get("status")).get("code") in _ERRORS,
        attributes={**resource, **_attributes(span.get("attributes"))},
        evaluations=tuple(_evaluations(_objects(span.get("events")))),
    )


def _evaluations(events: Iterable[Mapping[str, Any]]) -> Iterator[Evaluation]:
    for event in events:
        if event.get("name") == EVALUATION_EVENT:
            at = _time(_first(event, "timeUnixNano", "time_unix_nano"), event.get("time"))
            made = evaluation(_attributes(event.get("attributes")), at)
            if made is not None:
                yield made


def _time(nanoseconds: Any, other: Any) -> float | None:
    """Unix seconds from nanoseconds, or from the pair of seconds and nanoseconds that JavaScript keeps."""
    try:
        if nanoseconds is not None:
            found = int(nanoseconds) / 1e9
            return found if 0 < found < 1e11 else None
        if isinstance(other, list) and len(other) == 2:
            return float(other[0]) + float(other[1]) / 1e9
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
