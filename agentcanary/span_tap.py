"""Outcomes out of spans: evaluation events of judges and errors of tools, of whatever instrumentation emits them.

``tracer_provider.add_span_processor(SpanTap(canary))``. Spans are a convenience, not the ledger: what is sampled away
never comes here, so an outcome that a decision depends on is recorded directly.

Source:
    OpenTelemetry semantic conventions for generative AI (development): the event ``gen_ai.evaluation.result`` and the
    operation ``execute_tool``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from agentcanary.context import current
from agentcanary.outcome_shapes import Reported
from agentcanary.outcomes import Judge
from agentcanary.seen import Recent
from agentcanary.telemetry import (
    CONVERSATION_ID,
    ERROR_TYPE,
    EVALUATION_EVENT,
    EVALUATION_EXPLANATION,
    EVALUATION_LABEL,
    EVALUATION_NAME,
    EVALUATION_VALUE,
    OUTCOME_ID,
)

OPERATION = "gen_ai.operation.name"
EXECUTE_TOOL = "execute_tool"
TOOL_NAME = "gen_ai.tool.name"
TOOL_ERROR = "tool_error"
# Traces whose conversation is remembered, for spans that end on a thread that knows nothing of the turn.
_TRACES = 10_000
_MAX_TEXT = 4000
_MAX_NAME = 200


class Sink(Protocol):
    """What the tap needs of a ``Canary``. Nothing of it may wait."""

    @property
    def agent(self) -> str:
        """Name of the agent."""

    def take(self, reported: Reported, *, shown: bool = True) -> None:
        """Record an outcome."""

    def degraded(self, kind: str, error: BaseException | None = None) -> None:
        """Count and log a failure that no request noticed."""


class SpanTap(SpanProcessor):
    """Records outcomes as spans end. Waits for nothing and raises nothing: it runs on the thread that ends the span.

    Evaluations are taken as a model's judgement, and never as confirmed: a safety violation that only a span tells of
    stops nothing until a person confirms it.

    Args:
        canary: Where outcomes go.
        tools: True records ``tool_error`` for every tool that was executed: 1 for an error, 0 for none.
    """

    def __init__(self, canary: Sink, *, tools: bool = True) -> None:
        self._canary = canary
        self._tools = tools
        self._units: Recent[str] = Recent(_TRACES)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 (the interface)
        """Remember which conversation a trace belongs to."""
        turn = current(self._canary.agent)
        if turn is not None and turn.unit and span.context is not None:
            self._units.put(span.context.trace_id.to_bytes(16, "big"), turn.unit)

    def on_end(self, span: ReadableSpan) -> None:
        """Record what a span tells."""
        try:
            for reported in self._told(span):
                self._canary.take(reported, shown=False)
        except Exception as error:  # noqa: BLE001 (whatever a span holds, the agent's own work goes on)
            self._canary.degraded("span_tap", error)

    def shutdown(self) -> None:
        """Nothing waits here."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 (the interface)
        """Nothing waits here."""
        return True

    def _told(self, span: ReadableSpan) -> Iterator[Reported]:
        attributes: Mapping[str, Any] = span.attributes or {}
        for number, event in enumerate(span.events):
            if event.name == EVALUATION_EVENT and OUTCOME_ID not in (event.attributes or {}):
                yield from self._evaluation(span, event, number)
        if self._tools and attributes.get(OPERATION) == EXECUTE_TOOL:
            unit = self._unit(span, attributes)
            if unit is not None:
                failed = span.status.status_code is StatusCode.ERROR or ERROR_TYPE in attributes
                yield Reported(
                    conversation_id=unit,
                    name=TOOL_ERROR,
                    value=float(failed),
                    id=_id(span, "tool"),
                    label=_text(attributes.get(TOOL_NAME), _MAX_NAME),
                    explanation=_text(attributes.get(ERROR_TYPE), _MAX_TEXT) if failed else None,
                )

    def _evaluation(self, span: ReadableSpan, event: Event, number: int) -> Iterator[Reported]:
        told: Mapping[str, Any] = event.attributes or {}
        name, unit = _text(told.get(EVALUATION_NAME), _MAX_NAME), self._unit(span, told)
        if name is None or unit is None:
            return
        value = told.get(EVALUATION_VALUE)
        yield Reported(
            conversation_id=unit,
            name=name,
            value=float(value) if isinstance(value, bool | int | float) else None,
            id=_id(span, str(number)),
            label=_text(told.get(EVALUATION_LABEL), _MAX_NAME),
            kind=Judge.LLM,
            explanation=_text(told.get(EVALUATION_EXPLANATION), _MAX_TEXT),
            confirmed=False,
        )

    def _unit(self, span: ReadableSpan, told: Mapping[str, Any]) -> str | None:
        """The conversation: as it is told, else of the turn that runs, else of the turn that the trace belongs to."""
        named = told.get(CONVERSATION_ID) or (span.attributes or {}).get(CONVERSATION_ID)
        if isinstance(named, str) and named:
            return named
        turn = current(self._canary.agent)
        if turn is not None and turn.unit:
            return turn.unit
        context = span.context
        return None if context is None else self._units.get(context.trace_id.to_bytes(16, "big"))


def _id(span: ReadableSpan, part: str) -> str | None:
    """The same for the same event, however often it comes."""
    context = span.context
    return None if context is None else f"span:{context.trace_id:032x}:{context.span_id:016x}:{part}"


def _text(value: object, limit: int) -> str | None:
    return value.strip()[:limit] or None if isinstance(value, str) else None
