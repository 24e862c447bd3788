"""The assignment of the turn that is running, as a context variable."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Protocol

from agentcanary.assignment import Assignment
from agentcanary_analysis.aggregates import Arm


class RunningTurn(Protocol):
    """A turn between its start and its end.

    Attributes:
        assignment: The unit's assignment; its ``version`` is what serves the turn.
        outer: The turn that runs around it, of another agent, or None.
    """

    assignment: Assignment
    outer: RunningTurn | None

    @property
    def turn_id(self) -> str:
        """Unique id of the turn."""

    def fail(self, error_type: str) -> None:
        """Make ``error`` its outcome, whatever the response looks like."""

    def fall_back(self, error_type: str) -> None:
        """Let stable serve it, in place of a version that cannot: an error of that version all the same."""


running: ContextVar[RunningTurn | None] = ContextVar("agentcanary", default=None)
"""The innermost turn that runs; from there on, the outer ones."""

_stable_versions: dict[str, str] = {}

Bound = Token[RunningTurn | None]


def enter(turn: RunningTurn) -> Bound:
    """Make a turn the running one, inside those that run already. Undone by ``leave``."""
    turn.outer = running.get()
    return running.set(turn)


def leave(bound: Bound) -> None:
    """Undo ``enter``, in the same task or thread."""
    running.reset(bound)


def set_stable_version(agent: str, version: str) -> None:
    """State what ``current_version()`` is outside of turns, and where agentcanary is disabled."""
    _stable_versions[agent] = version


def current_turn(agent: str | None = None) -> RunningTurn | None:
    """The running turn, or None outside of one. See ``current``."""
    turn = running.get()
    while turn is not None and agent is not None and turn.assignment.view.agent != agent:
        turn = turn.outer
    return turn


def current(agent: str | None = None) -> Assignment | None:
    """The assignment of the running turn, or None outside of one.

    Args:
        agent: Name of the agent, where several nest; by default the innermost.
    """
    turn = current_turn(agent)
    return None if turn is None else turn.assignment


async def current_assignment() -> Assignment | None:
    """``current()`` as a FastAPI dependency: ``Depends(current_assignment)``. Takes no parameters, so that no query
    parameter of a request can name an agent.
    """  # noqa: D205 (the reason belongs to the first sentence)
    return current()


def current_version() -> str:
    """The version that serves the running turn; outside of turns the stable version of the only agent.

    Can be a FastAPI dependency: ``Depends(current_version)``.

    Raises:
        LookupError: Outside of a turn, where there is no ``Canary`` or there are several.
    """
    turn = running.get()
    if turn is not None:
        return turn.assignment.version
    if len(_stable_versions) == 1:
        return next(iter(_stable_versions.values()))
    known = ", ".join(sorted(_stable_versions)) or "none"
    raise LookupError(
        f"current_version() was called outside of a turn, where it is the stable version of the only agent; "
        f"agents in this process: {known}; call it while a request is served, or create one Canary first"
    )


def outbound_headers(agent: str | None = None) -> dict[str, str]:
    """Headers for calls to other services of the same release: ``{"x-canary": "true"}`` while the canary serves.

    >>> outbound_headers()
    {}
    """
    assignment = current(agent)
    if assignment is None or assignment.version == assignment.view.stable or assignment.arm is not Arm.CANARY:
        return {}
    return {"x-canary": "true"}
