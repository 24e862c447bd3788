"""What an operator does to a rollout: decided on what is stored now, and stored as one change."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence

from agentcanary.clock import Clock
from agentcanary.errors import ConflictError, TransitionError
from agentcanary.plan import Pinned
from agentcanary.rollout import Phase, Rollout, Transition
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.status.reading import live
from agentcanary.store import Store

_ATTEMPTS = 3


def decide(store: Store, first: Rollout, action: Action, *, clock: Clock) -> tuple[Rollout, Transition]:
    """Act on an agent's newest rollout.

    When the controller changes it at the same moment, the action is decided again on what is stored then, unless
    that would do something else than the operator saw: another rollout, or a step from another stage.

    Args:
        store: The store.
        first: The rollout as the operator saw it.
        action: Anything but a restart, which makes a new rollout.
        clock: The time of rollouts.

    Returns:
        The rollout before, and what became of it.

    Raises:
        TransitionError: If its phase does not allow the action, or it changed under the operator's hands.
        ConflictError: If it was changed by others again and again.
    """
    before = first
    for _ in range(_ATTEMPTS):
        _refuse_another(first, before, action)
        now = clock()
        transition = advance(before, action, now=now)
        try:
            store.save(transition, expected_revision=before.revision, now=now)
        except ConflictError:
            before = store.current(first.agent) or first
            continue
        return before, transition
    raise ConflictError(
        f"rollout {first.id} was changed by others {_ATTEMPTS} times during this {action.kind.value}; nothing was "
        f"done by it, look at agentcanary status and try again"
    )


def restart(
    store: Store, before: Rollout, action: Action, *, clock: Clock, new_salt: bytes, during_drain: bool = False
) -> Transition:
    """Try the same canary again: a new rollout with a new split and fresh evidence.

    Args:
        store: The store.
        before: An ended rollout of the same versions.
        action: The restart, with the plan that the new rollout gets.
        clock: The time of rollouts.
        new_salt: Fresh random bytes.
        during_drain: Also while live conversations end on the version that a rollout left behind.

    Raises:
        TransitionError: If another rollout runs or drains, or this one has not ended.
        ConflictError: If somebody else started one meanwhile.
    """
    refuse_beside(store, before.agent, stable=before.stable, now=clock(), during_drain=during_drain)
    transition = advance(before, action, now=clock(), new_salt=new_salt)
    store.start(transition.rollout, transition.audit, transition.effects)
    return transition


def refuse_beside(store: Store, agent: str, *, stable: str, now: float, during_drain: bool) -> None:
    """Refuse a new rollout while another one runs, or has conversations that a new one would move.

    Args:
        store: The store.
        agent: Name of the agent.
        stable: The stable version of the new rollout.
        now: Unix time in seconds.
        during_drain: True lets them be moved.

    Raises:
        TransitionError: Saying what to do first.
    """
    existing: Sequence[Rollout] = store.rollouts(agent)
    for old in existing:
        if not old.phase.ended:
            raise TransitionError(
                f"agent {agent!r} has the rollout {old.id} ({old.stable} → {old.canary}), which is "
                f"{old.phase.value}; roll it back or promote it first"
            )
        taken_back = old.phase is Phase.ROLLED_BACK and old.plan.pinned.get(old.cause) is not Pinned.FINISH
        count = None if taken_back else live(store, old, now)
        if count and not during_drain:
            behind = old.stable if old.phase is Phase.PROMOTED else old.canary
            raise TransitionError(
                f"{count} live conversations of the rollout {old.id} end on {behind}; a new rollout would move them to "
                f"{stable}. Wait until none is left (agentcanary status), or add --during-drain"
            )


def actor_name() -> str:
    """Who acts, unless they say another name: the user at this machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A user without an entry, as in many containers.
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _refuse_another(first: Rollout, now: Rollout, action: Action) -> None:
    where = (now.phase, now.stage)
    if now.id == first.id and (action.kind is not ActionKind.ADVANCE or where == (first.phase, first.stage)):
        return
    raise TransitionError(
        f"rollout {first.id} changed at this moment: it was {first.phase.value} in stage {first.current_stage.name}, "
        f"now {now.id} is {now.phase.value} in stage {now.current_stage.name}; nothing was done, look again"
    )
