"""An operator's decision, made on what is stored now and stored as one change."""

from __future__ import annotations

import getpass
import os
import socket

from agentcanary.cli.seat import Seat
from agentcanary.errors import ConflictError, TransitionError
from agentcanary.rollout import Rollout, Transition
from agentcanary.state_machine import Action, ActionKind, advance

_ATTEMPTS = 3


def decide(at: Seat, action: Action) -> tuple[Rollout, Transition]:
    """Act on the agent's newest rollout.

    When the controller changes it at the same moment, the action is decided again on what is stored then, unless
    that would do something else than the operator saw: another rollout, or a step from another stage.

    Returns:
        The rollout before, and what became of it.

    Raises:
        UnknownError: If the agent has no rollout.
        TransitionError: If its phase does not allow the action, or it changed under the operator's hands.
        ConflictError: If it was changed by others again and again.
    """
    first = at.current()
    before = first
    for _ in range(_ATTEMPTS):
        _refuse_another(first, before, action)
        now = at.clock()
        transition = advance(before, action, now=now)
        try:
            at.store.save(transition, expected_revision=before.revision, now=now)
        except ConflictError:
            before = at.current()
            continue
        return before, transition
    raise ConflictError(
        f"rollout {first.id} was changed by others {_ATTEMPTS} times during this {action.kind.value}; nothing was "
        f"done by it, look at agentcanary status and try again"
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
