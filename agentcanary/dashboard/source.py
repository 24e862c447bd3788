"""What the pages show and act on: a store, the time, and who is believed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentcanary.clock import Clock
from agentcanary.config import Config
from agentcanary.errors import TransitionError, UnknownError
from agentcanary.operating import decide, restart
from agentcanary.plan import Plan
from agentcanary.rollout import Rollout, Transition
from agentcanary.security import Guard, new_salt
from agentcanary.state_machine import Action, ActionKind
from agentcanary.status.drift import differences
from agentcanary.status.history import EvidenceHistory
from agentcanary.status.reading import Counted, alive, counted, situation
from agentcanary.status.situation import Situation
from agentcanary.store import Delivery, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that one page of a rollout is made from.

    Attributes:
        situation: What is known of it now.
        history: The evidence at looks before, of each criterion.
        deliveries: Notifications and other effects, the newest first.
        newest: True for the agent's newest rollout: only that can be acted on.
    """

    situation: Situation
    history: EvidenceHistory
    deliveries: tuple[Delivery, ...]
    newest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Counts that were read, what they were read for, and when the judges' were, in seconds of this process."""

    key: object
    counted: Counted
    judges_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the pages show and act on. Everything here waits for the store: call it in a thread.

    Attributes:
        store: The store.
        clock: The time of rollouts.
        guard: Who is believed.
        agent: Only this agent's rollouts; None for those of every agent in the store.
        config: The agent's configuration, where it is known.
    """

    store: Store
    clock: Clock
    guard: Guard
    agent: str | None = None
    config: Config | None = None
    _histories: dict[str, EvidenceHistory] = field(default_factory=dict, compare=False, repr=False)
    _counts: dict[str, _Held] = field(default_factory=dict, compare=False, repr=False)

    def guarded_by(self, guard: Guard) -> Source:
        """The same, with other tokens."""
        return replace(self, guard=guard)

    def rollouts(self) -> list[Rollout]:
        """The newest first."""
        return self.store.rollouts(self.agent)

    def rollout(self, rollout: str) -> Rollout:
        """The rollout of that id.

        Raises:
            UnknownError: If there is none, or it is another agent's.
        """
        found = self.store.rollout(rollout)
        if self.agent not in (None, found.agent):
            raise UnknownError(f"rollout {rollout!r} is not in the store")
        return found

    def seen(self, name: str) -> Seen:
        """Everything that a page shows of a rollout.

        Raises:
            UnknownError: If there is no such rollout.
            StoreError: If the store cannot be read.
        """
        rollout = self.rollout(name)
        latest = self.store.revision(rollout.agent)
        history = self._histories.get(rollout.id, EvidenceHistory())
        known = self._histories[rollout.id] = history.read(self.store, rollout)
        while len(self._histories) > _KEPT:
            self._histories.pop(next(iter(self._histories)))
        return Seen(
            situation=situation(
                self.store,
                rollout,
                known=self._counted(rollout),
                now=self.clock(),
                speed=self.clock.speed,
                differences=lambda newest: () if self.config is None else tuple(self._differences(self.config, newest)),
            ),
            history=known,
            deliveries=tuple(self.store.deliveries(rollout.id, limit=_DELIVERIES)),
            newest=latest is not None and latest.id == rollout.id,
        )

    def act(self, rollout: str, action: Action, *, saw: Mapping[str, str], during_drain: bool = False) -> Transition:
        """Do what an operator asks for.

        Args:
            rollout: Its id.
            action: What is to be done.
            saw: ``phase`` and ``stage`` as they were on the page that the operator acted on.
            during_drain: A restart may move live conversations.

        Raises:
            TransitionError: If the rollout's phase does not allow it, or it is another one than the operator saw.
        """
        before = self.rollout(rollout)
        newest = self.store.current(before.agent)
        if newest is not None and newest.id != before.id:
            raise TransitionError(f"rollout {before.id} is not the newest, which is {newest.id}; nothing was done")
        now_at = {"phase": before.phase.value, "stage": before.current_stage.name}
        if action.kind is ActionKind.ADVANCE and dict(saw) != now_at:
            raise TransitionError(
                f"rollout {before.id} changed meanwhile: it is {now_at['phase']} in stage {now_at['stage']}, and was "
                f"{saw.get('phase', '')} in stage {saw.get('stage', '')} on the page; nothing was done, look again"
            )
        if action.kind is not ActionKind.RESTART:
            return decide(self.store, before, action, clock=self.clock)[1]
        planned = Action(kind=action.kind, actor=action.actor, reason=action.reason, plan=self._plan(before))
        return restart(self.store, before, planned, clock=self.clock, new_salt=new_salt(), during_drain=during_drain)

    def alive(self, agent: str) -> int:
        """How many workers of an agent have reported lately."""
        return len(alive(self.store, agent, self.clock(), speed=self.clock.speed))

    def _counted(self, rollout: Rollout) -> Counted:
        """What is counted: read again only when the controller has counted, or the rollout changed."""
        key = (rollout.revision, rollout.stopped_at, self.store.counted_until(rollout.id))
        held = self._counts.get(rollout.id)
        if held is None or held.key != key:
            now = time.monotonic()
            # Of thousands of conversations, and slow to change: read again once a minute.
            lately = held is not None and now - held.judges_at < _JUDGES_EVERY
            reported = held.counted.reported if held is not None and lately else None
            read = counted(self.store, rollout, reported=reported)
            judges_at = held.judges_at if held is not None and lately else now
            held = self._counts[rollout.id] = _Held(key=key, counted=read, judges_at=judges_at)
            while len(self._counts) > _KEPT:
                self._counts.pop(next(iter(self._counts)))
        return held.counted

    def _plan(self, before: Rollout) -> Plan:
        """The configured plan where the configuration is about the same versions, else the rollout's own."""
        config = self.config
        if config is None or (config.agent, config.stable, config.canary) != (
            before.agent,
            before.stable,
            before.canary,
        ):
            return before.plan
        return config.plan

    @staticmethod
    def _differences(config: Config, newest: Rollout) -> Any:
        return differences(config, newest, "canary.yaml" if config.file is None else config.file.name)


_KEPT = 20
_JUDGES_EVERY = 60.0
_DELIVERIES = 50
