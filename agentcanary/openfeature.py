"""An OpenFeature provider: teams that already ask OpenFeature get the same pinned answer as the middleware gives.

``api.set_provider(CanaryProvider(canary))``; the flag is the agent's name, the targeting key the conversation id. As
text the flag is the version that serves, as a boolean whether that is the canary, as an object both and more. Tracking
events are outcomes. Inside of a turn the answer is the turn's; outside of one the conversation is pinned by asking.

Source:
    OpenFeature specification, sections 2 (providers) and 6 (tracking).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from agentcanary.assignment import Assignment, Pin, assign, bucket, follow, needs_pin, on_stable
from agentcanary.assignment import Reason as Why
from agentcanary.context import current
from agentcanary.errors import StoreError
from agentcanary.outcomes import Judge
from agentcanary.seen import Recent
from agentcanary.settled import digest
from agentcanary.telemetry import FLAG_REASONS

if TYPE_CHECKING:
    from agentcanary.canary import Canary

# Conversations whose pin this provider remembers.
_CAPACITY = 65_536
_USER_KEYS = ("user_id", "userId", "user")

T = TypeVar("T", bound=FlagValueType)
_Object = Sequence[FlagValueType] | Mapping[str, FlagValueType]


class CanaryProvider(AbstractProvider):
    """Answers for one agent.

    Args:
        canary: The agent's ``Canary``; started when OpenFeature initialises the provider, if it is not yet.
    """

    def __init__(self, canary: Canary) -> None:
        super().__init__()
        self._canary = canary
        self._lock = threading.Lock()
        self._rollout = ""
        self._pins: Recent[Pin] = Recent(_CAPACITY)

    def get_metadata(self) -> Metadata:
        """The provider's name, as in ``feature_flag.provider.name``."""
        return Metadata(name="agentcanary")

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 (OpenFeature's signature)
        """Start the canary, unless it runs."""
        self._canary.start_blocking()

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """True when the canary version serves."""
        found = self._asked(flag_key, default_value, evaluation_context)
        return found if isinstance(found, FlagResolutionDetails) else _details(found, _is_canary(found))

    async def resolve_boolean_details_async(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.resolve_boolean_details, flag_key, default_value, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The version that serves."""
        found = self._asked(flag_key, default_value, evaluation_context)
        return found if isinstance(found, FlagResolutionDetails) else _details(found, found.version)

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.resolve_string_details, flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,  # noqa: ARG002 (OpenFeature's signature)
        default_value: int,
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002 (as above)
    ) -> FlagResolutionDetails[int]:
        """A version is no number: the default, with the error ``TYPE_MISMATCH``."""
        return _mismatch(default_value, "an integer")

    def resolve_float_details(
        self,
        flag_key: str,  # noqa: ARG002 (OpenFeature's signature)
        default_value: float,
        evaluation_context: EvaluationContext | None = None,  # noqa: ARG002 (as above)
    ) -> FlagResolutionDetails[float]:
        """A version is no number: the default, with the error ``TYPE_MISMATCH``."""
        return _mismatch(default_value, "a float")

    def resolve_object_details(
        self, flag_key: str, default_value: _Object, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[_Object]:
        """``version``, ``arm``, ``canary``, ``rollout`` and ``reason`` in one."""
        found = self._asked(flag_key, default_value, evaluation_context)
        if isinstance(found, FlagResolutionDetails):
            return found
        value: dict[str, FlagValueType] = {
            "version": found.version,
            "arm": found.arm.value,
            "canary": _is_canary(found),
            "rollout": found.rollout,
            "reason": found.reason.value,
        }
        return _details(found, value)

    async def resolve_object_details_async(
        self, flag_key: str, default_value: _Object, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[_Object]:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.resolve_object_details, flag_key, default_value, evaluation_context)

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Record an outcome: the event's name, its value (1 without one), and what the attributes say of it.

        ``outcome_id``, ``label``, ``kind``, ``explanation`` and ``turn_id`` among the attributes are those of
        ``Canary.record``. Without a targeting key nothing can be recorded.
        """
        conversation = None if evaluation_context is None else evaluation_context.targeting_key
        if not conversation:
            self._canary.degraded("openfeature_track", ValueError("a tracking event without a targeting key"))
            return
        details = tracking_event_details or TrackingEventDetails()
        said = {key: value for key, value in details.attributes.items() if isinstance(value, str)}
        try:
            self._canary.record(
                conversation,
                tracking_event_name,
                1.0 if details.value is None else details.value,
                id=said.get("outcome_id"),
                label=said.get("label"),
                kind=Judge(said.get("kind", Judge.CODE)),
                explanation=said.get("explanation"),
                turn_id=said.get("turn_id"),
            )
        except (ValueError, StoreError) as error:
            # OpenFeature's tracking raises nothing; whoever wants to know calls ``record``.
            self._canary.degraded("openfeature_track", error)

    def _asked(
        self, flag_key: str, default: T, evaluation_context: EvaluationContext | None
    ) -> Assignment | FlagResolutionDetails[T]:
        """The assignment that was asked for, or why there is none."""
        canary = self._canary
        if flag_key != canary.agent:
            said = f"the flag is the agent's name, {canary.agent!r}"
            return _refused(default, ErrorCode.FLAG_NOT_FOUND, said)
        if canary.disabled:
            return on_stable(canary.snapshots.view, "", Why.DISABLED)
        if evaluation_context is None or not evaluation_context.targeting_key:
            turn = current(canary.agent)
            if turn is not None:
                return turn
            said = "the targeting key is the conversation id"
            return _refused(default, ErrorCode.TARGETING_KEY_MISSING, said)
        try:
            unit = canary.unit_of(evaluation_context.targeting_key)
            turn = current(canary.agent)
            if turn is not None and turn.unit == unit:
                return turn
            return self._assignment(canary.store.alias(canary.agent, unit) or unit, _user(evaluation_context))
        except StoreError as error:
            canary.degraded("openfeature", error)
            return on_stable(canary.snapshots.view, "", Why.FALLBACK)

    def _assignment(self, unit: str, user: str | None) -> Assignment:
        """The unit's assignment, pinned: there may be no turn whose record is its pin."""
        canary = self._canary
        view, fresh = canary.view()
        now = canary.clock()
        buckets = bucket(view.salt, user if user is not None and canary.user_finder is not None else unit)
        if not (view.open and view.sticky):
            known = canary.pins.known(view, unit, buckets)
            if known is not None:
                return known
            if needs_pin(view, buckets):
                return canary.pins.resolve_blocking(view, unit, buckets, now=now, fresh=fresh)
            return assign(view, unit, buckets, now=now, fresh=fresh)
        pin = self._remembered(view.rollout, unit)
        if pin is None:
            store, idle_after = canary.store, canary.config.plan.idle_after
            pin = store.pin(view.agent, view.rollout, unit, now=now, idle_after=idle_after)
            if pin is None:
                found = assign(view, unit, buckets, now=now, fresh=fresh)
                pin = store.put_pin(view.agent, view.rollout, unit, found.pin, now)
                self._remember(view.rollout, unit, pin)
                return found if pin == found.pin else follow(view, unit, pin, buckets)
            self._remember(view.rollout, unit, pin)
        return follow(view, unit, pin, buckets)

    def _remembered(self, rollout: str, unit: str) -> Pin | None:
        with self._lock:
            if rollout != self._rollout:
                self._rollout, self._pins = rollout, Recent(_CAPACITY)
            return self._pins.get(digest(unit))

    def _remember(self, rollout: str, unit: str, pin: Pin) -> None:
        with self._lock:
            if rollout == self._rollout:
                self._pins.put(digest(unit), pin)


def _is_canary(assignment: Assignment) -> bool:
    view = assignment.view
    return assignment.version == view.canary != view.stable


def _user(context: EvaluationContext) -> str | None:
    """The user, for ``sticky_by: user``."""
    for key in _USER_KEYS:
        value = context.attributes.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _details(assignment: Assignment, value: T) -> FlagResolutionDetails[T]:
    view = assignment.view
    metadata: dict[str, bool | int | float | str] = {"revision": view.revision, "weight": view.weight}
    if assignment.rollout:
        metadata |= {"rollout": assignment.rollout, "stage": view.stage}
    if assignment.excluded is not None:
        metadata["excluded"] = assignment.excluded
    return FlagResolutionDetails(
        value=value,
        reason=Reason(FLAG_REASONS[assignment.reason].upper()),
        variant=assignment.arm.value,
        flag_metadata=metadata,
    )


def _refused(default: T, code: ErrorCode, said: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(value=default, reason=Reason.ERROR, error_code=code, error_message=said)


def _mismatch(default: T, wanted: str) -> FlagResolutionDetails[T]:
    said = f"a version is text, a boolean or an object, never {wanted}"
    return _refused(default, ErrorCode.TYPE_MISMATCH, said)
