"""The span of a turn, the OpenTelemetry metrics, and the names of their attributes.

One span a turn, never one a chunk. Without a configured provider nothing is built and next to nothing is spent; a
provider that is configured later is noticed within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Token
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import ProxyTracerProvider, Span, StatusCode, Tracer, TracerProvider
from opentelemetry.trace import set_span_in_context as in_context

from agentcanary.assignment import Assignment, Reason, RolloutView
from agentcanary.outcomes import Outcome, TurnOutcome
from agentcanary.seen import Seen

# Semantic conventions, https://opentelemetry.io/docs/specs/semconv/: gen-ai (development), feature-flags (release
# candidate), error (stable). Our own constants, because the ones of the Python package are deprecated and move.
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
FLAG_KEY: Final = "feature_flag.key"
FLAG_VARIANT: Final = "feature_flag.result.variant"
FLAG_REASON: Final = "feature_flag.result.reason"
FLAG_PROVIDER: Final = "feature_flag.provider.name"
FLAG_VERSION: Final = "feature_flag.version"
FLAG_EVENT: Final = "feature_flag.evaluation"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_VALUE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
ERROR_TYPE: Final = "error.type"
ROLLOUT: Final = "agentcanary.rollout"
EPOCH: Final = "agentcanary.epoch"
STAGE: Final = "agentcanary.stage"
WEIGHT: Final = "agentcanary.weight"
BUCKET: Final = "agentcanary.bucket"
TURN: Final = "agentcanary.turn"
OUTCOME: Final = "agentcanary.outcome"
TIME_TO_FIRST_BYTE: Final = "agentcanary.time_to_first_byte"
TIME_TO_FIRST_TOKEN: Final = "agentcanary.time_to_first_token"
EXCLUDED: Final = "agentcanary.excluded"
KIND: Final = "agentcanary.kind"
# On an evaluation event of ours: what reads spans for outcomes knows it already.
OUTCOME_ID: Final = "agentcanary.outcome_id"
VERDICT: Final = "agentcanary.verdict"

SPAN_NAME: Final = "agentcanary.turn"
PROVIDER: Final = "agentcanary"
DURATION_BUCKETS: Final = tuple(0.1 * 2**k for k in range(13))

FLAG_REASONS: Final = {
    Reason.SPLIT: "split",
    Reason.PINNED: "cached",
    Reason.TAKEN_BACK: "disabled",
    Reason.FORCED: "targeting_match",
    Reason.BEGAN_BEFORE: "default",
    Reason.HANDOVER: "default",
    Reason.STALE_SNAPSHOT: "stale",
    Reason.FALLBACK: "error",
    Reason.NO_CONVERSATION: "default",
    Reason.NO_ROLLOUT: "default",
    Reason.DISABLED: "disabled",
}

_MODES = ("turn", "annotate", "off")
_LOOK_EVERY = 1.0
_NEVER = float("inf")


class Telemetry:
    """Spans and metrics of one agent.

    Args:
        agent: Its name.
        span: ``turn`` for a span of its own, ``annotate`` for attributes on the current span, ``off`` for neither.
        tracer_provider: By default the global one, whenever it is set.
        meter_provider: By default the global one, whenever it is set.
        shown_id: What is shown of a conversation id: itself, or a keyed hash of it.

    Attributes:
        on: True when there is anything to trace or to measure.
        look_at: When to call ``look`` again, in seconds of the caller's monotonic clock.

    Raises:
        ValueError: If ``span`` is none of the three.
    """

    def __init__(
        self,
        agent: str,
        *,
        span: str = "turn",
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        shown_id: Callable[[str], str] | None = None,
    ) -> None:
        if span not in _MODES:
            raise ValueError(f"span must be one of {', '.join(_MODES)}, got {span!r}")
        self._agent = agent
        self._annotates = span == "annotate"
        self._shown_id = shown_id
        self._tracer: Tracer | None = None if tracer_provider is None else tracer_provider.get_tracer(PROVIDER)
        self._meters = meter_provider
        self._measures = meter_provider is not None
        self._traces = span != "off"
        self.on = self._annotates or self._tracer is not None or self._measures
        self.look_at = float("-inf")
        self._view: RolloutView | None = None
        self._of_view: dict[tuple[str, str], dict[str, Any]] = {}
        self._of_turn: dict[tuple[object, ...], dict[str, Any]] = {}
        self._seen = Seen()
        self._counted = Seen()
        meter = metrics.get_meter(PROVIDER) if meter_provider is None else meter_provider.get_meter(PROVIDER)
        self._meter = meter
        self._duration = meter.create_histogram(
            "agentcanary.turn.duration",
            unit="s",
            description="From a request to the end of its response.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._assignments = meter.create_counter(
            "agentcanary.assignments", unit="{conversation}", description="Conversations given to an arm."
        )
        self._outcomes = meter.create_counter(
            "agentcanary.outcomes", unit="{outcome}", description="Outcomes recorded."
        )
        self._verdicts = meter.create_counter(
            "agentcanary.verdicts", unit="{look}", description="Looks at the evidence, by what they came to."
        )
        self._degraded = meter.create_counter(
            "agentcanary.degraded", unit="{failure}", description="Failures of agentcanary that no request noticed."
        )

    def look(self, now: float) -> bool:
        """Look whether providers have been configured. Due when ``look_at`` has come; in between ``on`` holds.

        Args:
            now: Seconds of a monotonic clock.

        Returns:
            True when there is anything to trace or to measure.
        """
        self.look_at = now + _LOOK_EVERY
        if self._traces and self._tracer is None:
            provider = trace.get_tracer_provider()
            if not isinstance(provider, ProxyTracerProvider):
                self._tracer = provider.get_tracer(PROVIDER)
        if not self._measures:
            # The API has no public question for this; the proxy's instruments do nothing.
            self._measures = type(metrics.get_meter_provider()).__name__ != "_ProxyMeterProvider"
        if (self._tracer is not None or not self._traces) and self._measures:
            self.look_at = _NEVER
        self.on = self._annotates or self._tracer is not None or self._measures
        return self.on

    def begin(self, assignment: Assignment) -> Span | None:
        """Start the span of a turn, or None when nothing is traced.

        It starts with what all turns of the version have in common, for samplers: a dict that is made once. The rest
        is set in one step at its end, and only if it is recorded: most spans are sampled away.
        """
        if not self._traces:
            return None
        if self._annotates:
            span = trace.get_current_span()
            return span if span.is_recording() else None
        if self._tracer is None:
            return None
        return self._tracer.start_span(SPAN_NAME, attributes=self._common(assignment))

    def enter(self, span: Span | None) -> Token[Context] | None:
        """Make the turn's span the current one; undone by ``leave``."""
        if span is None or self._annotates:
            return None
        return attach(in_context(span))

    def leave(self, token: Token[Context]) -> None:
        """Undo ``enter``."""
        detach(token)

    def end(
        self,
        span: Span | None,
        assignment: Assignment,
        *,
        turn_id: str,
        latency: float,
        time_to_first_byte: float | None,
        outcome: TurnOutcome,
        error_type: str | None,
    ) -> None:
        """End the span of a turn and measure it.

        Args:
            span: What ``begin`` returned.
            assignment: The unit's assignment.
            turn_id: Unique id of the turn.
            latency: Seconds.
            time_to_first_byte: Seconds, or None if there was no byte.
            outcome: ok, error or aborted.
            error_type: Exception class, HTTP status or protocol code of an error.
        """
        if span is not None:
            if span.is_recording():
                attributes = self._attributes(assignment, turn_id)
                attributes[OUTCOME] = outcome.value
                if time_to_first_byte is not None:
                    attributes[TIME_TO_FIRST_BYTE] = time_to_first_byte
                if error_type is not None:
                    attributes[ERROR_TYPE] = error_type
                span.set_attributes(attributes)
                if assignment.first and assignment.unit and self._seen.add(assignment.unit):
                    span.add_event(FLAG_EVENT, self._flag(assignment))
                if outcome is TurnOutcome.ERROR and not self._annotates:
                    span.set_status(StatusCode.ERROR)
            if not self._annotates:
                # It ends after the latency that is recorded, so that spans and store say the same to the nanosecond.
                started: int | None = getattr(span, "start_time", None)
                span.end(None if started is None else started + round(latency * 1e9))
        if self._measures:
            self._measure(assignment, latency, outcome, error_type)

    def _measure(self, assignment: Assignment, latency: float, outcome: TurnOutcome, error_type: str | None) -> None:
        key = (assignment.arm, assignment.version, outcome, error_type, assignment.excluded)
        attributes = self._of_turn.get(key)
        if attributes is None:
            attributes = {
                AGENT_NAME: self._agent,
                AGENT_VERSION: assignment.version,
                FLAG_VARIANT: assignment.arm.value,
                OUTCOME: outcome.value,
            }
            if error_type is not None:
                attributes[ERROR_TYPE] = error_type
            if assignment.excluded is not None:
                attributes[EXCLUDED] = assignment.excluded
            if len(self._of_turn) >= 1000:
                self._of_turn.clear()
            self._of_turn[key] = attributes
        self._duration.record(latency, attributes)
        if assignment.first and (not assignment.unit or self._counted.add(assignment.unit)):
            self._assignments.add(
                1,
                {
                    AGENT_NAME: self._agent,
                    FLAG_VARIANT: assignment.arm.value,
                    FLAG_REASON: FLAG_REASONS[assignment.reason],
                    ROLLOUT: assignment.view.rollout,
                },
            )

    def outcome(self, outcome: Outcome, *, variant: str = "", shown: bool = True) -> None:
        """Count an outcome, and show it on the current span as a ``gen_ai.evaluation.result`` event.

        Args:
            outcome: The outcome.
            variant: ``stable`` or ``canary``, where it is known.
            shown: False for one that a span shows already.
        """
        counted: dict[str, Any] = {AGENT_NAME: self._agent, EVALUATION_NAME: outcome.name}
        if variant:
            counted[FLAG_VARIANT] = variant
        self._outcomes.add(1, counted)
        span = trace.get_current_span()
        if shown and self._traces and span.is_recording():
            attributes = {
                EVALUATION_NAME: outcome.name,
                EVALUATION_VALUE: outcome.value,
                EVALUATION_LABEL: outcome.label,
                EVALUATION_EXPLANATION: outcome.explanation,
                CONVERSATION_ID: self._id(outcome.conversation_id),
                OUTCOME_ID: outcome.id,
            }
            span.add_event(EVALUATION_EVENT, {name: value for name, value in attributes.items() if value is not None})

    def verdict(self, verdict: str) -> None:
        """Count a look by its verdict."""
        self._verdicts.add(1, {AGENT_NAME: self._agent, VERDICT: verdict})

    def degraded(self, kind: str) -> None:
        """Count a failure of ours by its kind."""
        self._degraded.add(1, {AGENT_NAME: self._agent, KIND: kind})

    def observe(self, *, weight: Callable[[], float], queue: Callable[[], int]) -> None:
        """Show the weight and the number of records that wait to be stored, whenever metrics are read."""
        attributes = {AGENT_NAME: self._agent}

        def weights(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(weight(), attributes)

        def waiting(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(queue(), attributes)

        self._meter.create_observable_gauge(
            "agentcanary.weight", [weights], unit="1", description="Share of new conversations given to the canary."
        )
        self._meter.create_observable_gauge(
            "agentcanary.recorder.queue", [waiting], unit="{record}", description="Records that wait to be stored."
        )

    def _id(self, unit: str) -> str:
        return unit if self._shown_id is None else self._shown_id(unit)

    def _common(self, assignment: Assignment) -> dict[str, Any]:
        """What all turns of a version on an arm have in common, under one view of the rollout."""
        view = assignment.view
        if view is not self._view:
            self._of_view, self._view = {}, view
        key = (assignment.arm, assignment.version)
        common = self._of_view.get(key)
        if common is None:
            common = {
                AGENT_NAME: self._agent,
                AGENT_VERSION: assignment.version,
                FLAG_KEY: self._agent,
                FLAG_VARIANT: assignment.arm.value,
                FLAG_PROVIDER: PROVIDER,
                FLAG_VERSION: str(view.revision),
                WEIGHT: view.weight,
            }
            if view.rollout:
                common |= {ROLLOUT: view.rollout, STAGE: view.stage}
            self._of_view[key] = common
        return common

    def _attributes(self, assignment: Assignment, turn_id: str) -> dict[str, Any]:
        """What is particular to a turn; for a span that is not ours, what is common too."""
        attributes = {
            FLAG_REASON: FLAG_REASONS[assignment.reason],
            BUCKET: assignment.buckets.assignment,
            TURN: turn_id,
        }
        if self._annotates:
            attributes |= self._common(assignment)
        if assignment.unit:
            attributes[CONVERSATION_ID] = self._id(assignment.unit)
        if assignment.epoch >= 0:
            attributes[EPOCH] = assignment.epoch
        if assignment.excluded is not None:
            attributes[EXCLUDED] = assignment.excluded
        return attributes

    def _flag(self, assignment: Assignment) -> dict[str, Any]:
        return {
            FLAG_KEY: self._agent,
            FLAG_VARIANT: assignment.arm.value,
            FLAG_REASON: FLAG_REASONS[assignment.reason],
            FLAG_PROVIDER: PROVIDER,
            FLAG_VERSION: str(assignment.view.revision),
        }
