"""What an application tells of its conversations: outcomes and segments, late ones too, confirmed or taken back."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from agentcanary.aliases import AliasKeeper
from agentcanary.assignment import Assignment, bucket
from agentcanary.clock import Clock
from agentcanary.config import Config
from agentcanary.errors import StoreError
from agentcanary.outcome_shapes import Reported
from agentcanary.outcomes import Judge, Outcome
from agentcanary.pins import PinKeeper
from agentcanary.recorder import Recorder
from agentcanary.security import Pseudonyms
from agentcanary.segments import segment
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.store import DEAD_AFTER, Store
from agentcanary.telemetry import Telemetry
from agentcanary_analysis.aggregates import Arm

_STORED_WITHIN = 5.0
# A worker stores its turns every tenth of a second; one that is so many seconds behind has them in its journal.
_BEHIND = 10.0


class Recording(ABC):
    """The part of ``Canary`` that takes outcomes. It makes none of what it works with.

    Attributes:
        config: The configuration.
        clock: The time of rollouts.
        disabled: True where agentcanary is switched off in this process.
        pseudonym: What stands for a conversation id that a client sent, or None where ids are kept as they are.
    """

    config: Config
    clock: Clock
    disabled: bool
    pseudonym: Callable[[str], str | None] | None
    store: Store
    recorder: Recorder
    snapshots: SnapshotKeeper
    pins: PinKeeper
    aliases: AliasKeeper
    telemetry: Telemetry
    _pseudonyms: Pseudonyms | None

    @abstractmethod
    def start_blocking(self) -> None:
        """Start threads and connections, unless they run."""

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return self.config.agent

    def record(
        self,
        conversation_id: str,
        name: str,
        value: float | None,
        *,
        id: str | None = None,  # noqa: A002 (the field's name everywhere)
        label: str | None = None,
        kind: Judge = Judge.CODE,
        explanation: str | None = None,
        turn_id: str | None = None,
        confirmed: bool = True,
    ) -> None:
        """Record an outcome of a conversation: at any time, in any process that shares the store.

        A confirmed safety violation of the canary is on disk and has stopped the canary in this process before this
        returns; every other process follows at its next poll. Any other outcome is stored within a tenth of a second.

        Args:
            conversation_id: The conversation.
            name: ``task_completion``, ``safety_violation``, ``satisfaction`` or any other.
            value: The number; None when there is none, which is missing and never 0.
            id: Makes it idempotent: the same id is counted once. By default a new one.
            label: A category, such as the kind of violation.
            kind: Who judged.
            explanation: For people.
            turn_id: The turn that it is about.
            confirmed: False for what a classifier suspects: counted, but it stops nothing.

        Raises:
            ValueError: If the value is no number or not finite, or the name or the conversation is empty.
        """
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(f"value of {name} must be a finite number or None for missing, got {value!r}") from None
        reported = Reported(
            conversation_id=conversation_id,
            name=name,
            value=number,
            id=id,
            label=label,
            kind=Judge(kind),
            explanation=explanation,
            turn_id=turn_id,
            confirmed=confirmed,
        )
        self.take(reported)

    def take(self, reported: Reported, *, shown: bool = True) -> None:
        """``record`` for an outcome that was sent.

        Args:
            reported: The outcome; it is received now, whenever it was made.
            shown: False for one that a span shows already.

        Raises:
            ValueError: As from ``record``.
        """
        outcome = Outcome(
            id=reported.id or uuid.uuid4().hex,
            agent=self.agent,
            conversation_id=self.unit_of(reported.conversation_id),
            name=reported.name,
            value=reported.value,
            at=self.clock(),
            label=reported.label,
            kind=reported.kind,
            explanation=reported.explanation,
            turn_id=reported.turn_id,
            confirmed=reported.confirmed,
        )
        if self.disabled:
            return
        known = self._known(outcome.conversation_id)
        if outcome.is_safety_violation:
            # First this worker, then the disk: nothing may be given to the canary meanwhile.
            tolerant = self.snapshots.rollout is not None and self.snapshots.rollout.plan.max_safety_violations > 0
            if known is not None and known.arm is Arm.CANARY and not tolerant:
                self.snapshots.stop_canary()
        self.recorder.put(outcome)
        self.telemetry.outcome(outcome, variant="" if known is None else known.arm.value, shown=shown)

    def unit_of(self, conversation_id: str) -> str:
        """The unit of a conversation id: itself, or its pseudonym with ``privacy: hash``.

        Raises:
            StoreError: With ``privacy: hash``, while its key could not be read from the store.
        """
        if self.pseudonym is None:
            return conversation_id
        if self._pseudonyms is None:
            self.start_blocking()
        if self._pseudonyms is None:
            raise StoreError("privacy: hash needs its key, which the store did not give yet; or set security.id_secret")
        return self._pseudonyms.known_as(conversation_id)

    def known_units(self, units: Sequence[str]) -> frozenset[str]:
        """Those of some units that have had a turn with this agent.

        Raises:
            StoreError: If that cannot be told: the store does not answer, or a worker has yet to bring its turns there.
        """
        known = self.store.known_units(self.agent, units)
        known |= {unit for unit in units if unit not in known and self._known(unit) is not None}
        if len(known) < len(set(units)):
            now, speed = self.clock(), self.clock.speed
            behind = now - self.store.watermark(self.agent, now, dead_after=DEAD_AFTER * speed)
            if behind > _BEHIND * speed:
                raise StoreError(
                    f"a worker has turns of the last {behind:.0f} s that are not stored yet; send it again"
                )
        return known

    def confirm(self, outcome_id: str, *, violation: bool, explanation: str | None = None) -> bool:
        """Say, as a person, whether what a classifier reported is a safety violation.

        A confirmed one stops the canary that served the conversation, as one that was reported as confirmed does; one
        that is none counts as 0 from now on. What is counted stays counted.

        Args:
            outcome_id: The ``id`` under which it was recorded.
            violation: True when it is one.
            explanation: For people.

        Returns:
            False if there is no such outcome.

        Raises:
            StoreError: If the store cannot be asked.
        """
        self.recorder.flush_and_wait(_STORED_WITHIN)
        found = self.store.outcome(self.agent, outcome_id)
        if found is None:
            return False
        self.take(
            Reported(
                conversation_id=found.conversation_id,
                name=found.name,
                value=(found.value or 1.0) if violation else 0.0,
                id=found.id,
                label=found.label,
                kind=Judge.HUMAN,
                explanation=explanation or found.explanation,
                turn_id=found.turn_id,
                confirmed=violation,
            )
        )
        return True

    def withdraw(self, outcome_id: str) -> bool:
        """Take an outcome back: its value is missing from now on. What was counted with it stays counted.

        Args:
            outcome_id: The ``id`` under which it was recorded.

        Returns:
            False if there is none.

        Raises:
            StoreError: If the store does not take it.
        """
        self.recorder.flush_and_wait(_STORED_WITHIN)
        return self.store.withdraw(self.agent, outcome_id, self.clock())

    async def arecord(self, conversation_id: str, name: str, value: float | None, **details: object) -> None:
        """``record``, and wait until the store has it.

        Args:
            conversation_id: The conversation.
            name: As in ``record``.
            value: As in ``record``.
            **details: The other arguments of ``record``.

        Raises:
            StoreError: If the store does not have it after five seconds. It is kept, and stored when that is possible.
        """
        self.record(conversation_id, name, value, **details)  # type: ignore[arg-type] # checked by record itself
        if not self.disabled and not await asyncio.to_thread(self.recorder.flush_and_wait, _STORED_WITHIN):
            raise StoreError(
                f"the store has not taken {name} of the conversation within {_STORED_WITHIN:g} s; it is kept in the "
                "journal and follows"
            )

    def segment(self, conversation_id: str, **segments: str) -> None:
        """Say to which segments a conversation belongs: ``canary.segment(id, language="de", tenant="acme")``.

        Metrics are then reported for each segment too, beside the whole; nothing is decided by them. A conversation
        is counted under what was known when it came of age; a name told twice counts with its later value.

        Args:
            conversation_id: The conversation.
            **segments: Name and value of each; up to five names and twenty values of each are counted.

        Raises:
            ValueError: If a name or a value cannot be one.
        """
        for told in [segment(name, value) for name, value in segments.items()]:
            self.record(conversation_id, told.outcome, 1.0)

    def _known(self, unit: str) -> Assignment | None:
        """The assignment of a unit that this process has seen lately, by its id or by one that a server made."""
        view, unit = self.snapshots.view, self.aliases.known(unit) or unit
        return self.pins.known(view, unit, bucket(view.salt, unit))
