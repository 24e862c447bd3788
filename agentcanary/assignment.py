"""Unit → arm: a salted hash against the weight. Pure.

The canary is given to a unit when its bucket lies below the weight at its first turn. Only the first turn asks;
afterwards the pin decides. The salt is random for each rollout, so that two rollouts never select the same users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS, Arm

_TWO_TO_MINUS_53 = 2.0**-53
_HALVES = Struct(">QQ").unpack
# A third of the cost of calling a named tuple's class, on the path of every request.
_new = tuple.__new__


class Buckets(NamedTuple):
    """Where a unit falls.

    Attributes:
        assignment: In [0, 1); the unit is the canary's when it lies below the weight.
        resampling: 0 … 199; independent of ``assignment``, so that each arm fills all of them.
    """

    assignment: float
    resampling: int


NOWHERE = Buckets(0.0, 0)
_STABLE, _CANARY = Arm.STABLE, Arm.CANARY


class Reason(StrEnum):
    """Why a unit is on its arm."""

    SPLIT = "split"
    PINNED = "pinned"
    TAKEN_BACK = "taken_back"
    FORCED = "forced"
    BEGAN_BEFORE = "began_before"
    HANDOVER = "handover"
    STALE_SNAPSHOT = "stale_snapshot"
    FALLBACK = "fallback"
    NO_CONVERSATION = "no_conversation_id"
    NO_ROLLOUT = "no_rollout"
    DISABLED = "disabled"


_SPLIT = Reason.SPLIT


def bucket(salt: bytes, unit: str) -> Buckets:
    """The two buckets of a unit under a rollout's salt.

    ``blake2b(salt ‖ 0x00 ‖ unit, 16 bytes)``; the first half gives the assignment bucket with 53 bits, the second
    half the resampling bucket.

    >>> bucket(b"salt", "conversation-1")
    Buckets(assignment=0.6275158787568327, resampling=96)
    """
    state = _salted(salt).copy()
    state.update(unit.encode("utf-8", "surrogatepass"))
    high, low = _HALVES(state.digest())
    return _new(Buckets, ((high >> 11) * _TWO_TO_MINUS_53, low % RESAMPLING_BUCKETS))


@lru_cache(maxsize=256)
def _salted(salt: bytes) -> blake2b:
    """The hash of a salt, to be continued by a unit: only ever copied."""
    return blake2b(salt + b"\x00", digest_size=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """What the request path knows of an agent's rollout. Immutable; a new one comes with every revision.

    Attributes:
        agent: Name of the agent.
        rollout: Id of the rollout, empty when there is none.
        revision: Revision of the rollout.
        salt: Its secret salt.
        stable: The version that serves the stable arm now.
        canary: The version that serves the canary arm now. The same as ``stable`` once the canary was taken back.
        epoch: Number of the current epoch, -1 outside a rollout.
        stage: Name of the current stage.
        weight: Share of new units that the canary gets.
        max_weight: The largest weight that this rollout ever had: units with a bucket above it were never ambiguous.
        min_weight: The smallest one: units with a bucket below it were the canary's in every epoch.
        previous_epoch: The epoch before, -1 for none.
        previous_weight: Its weight.
        handover_until: Unix time until which new units are still assigned in the previous epoch, because other
            workers may not have seen the new weight yet.
        open: True while new units are assigned to arms (progressing or paused); False before, and after the end.
        taken_back: True when the canary was taken back: its units are served by ``stable`` from their next turn on.
        new_units: The arm of new units while not ``open``: canary after a promotion, else stable.
        sticky: False when every request is its own unit.
        deployed: The arm that this Deployment is, where a mesh draws each request; None where our hash decides.
        salted: The hash of the salt, to be continued by a unit: only ever copied.
    """

    agent: str
    rollout: str = ""
    revision: int = 0
    salt: bytes = field(default=b"", repr=False)
    stable: str = ""
    canary: str = ""
    epoch: int = -1
    stage: str = ""
    weight: float = 0.0
    max_weight: float = 0.0
    min_weight: float = 0.0
    previous_epoch: int = -1
    previous_weight: float = 0.0
    handover_until: float = 0.0
    open: bool = False
    taken_back: bool = False
    new_units: Arm = Arm.STABLE
    sticky: bool = True
    deployed: Arm | None = None
    salted: blake2b = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "salted", _salted(self.salt))

    def version(self, arm: Arm) -> str:
        """The version that serves an arm now."""
        return self.canary if arm is Arm.CANARY else self.stable


class Pin(NamedTuple):
    """A stored assignment: what every later turn of the unit follows.

    Attributes:
        arm: The arm, for good.
        epoch: The epoch in which it was assigned, -1 when it was not assigned by this rollout.
        excluded: Why it is in no statistic (a ``Reason`` value), or None.
        fallback: True for a unit of the canary that is served by stable, because its pin could not be written before
            its first turn. It counts for the canary all the same.
    """

    arm: Arm
    epoch: int
    excluded: str | None = None
    fallback: bool = False


class Assignment(NamedTuple):
    """The arm of a unit, and what serves it now.

    Attributes:
        view: The rollout as the deciding worker saw it.
        unit: What is randomised and counted: the conversation id, or the request's own id when ``sticky: false``.
            Empty when there is none.
        arm: The arm in all statistics, fixed at the unit's first turn.
        version: The version that serves this turn.
        reason: Why.
        epoch: Number of the epoch in which the unit was assigned, -1 for none.
        buckets: Where its hash falls.
        excluded: Reason for being in no statistic (a ``Reason`` value), or None.
        first: True at the unit's first turn, as far as this process knows.
    """

    view: RolloutView
    unit: str
    arm: Arm
    version: str
    reason: Reason
    epoch: int = -1
    buckets: Buckets = NOWHERE
    excluded: str | None = None
    first: bool = False

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return self.view.agent

    @property
    def rollout(self) -> str:
        """Id of the rollout that the unit belongs to, empty outside one."""
        return "" if self.reason is Reason.NO_ROLLOUT else self.view.rollout

    @property
    def pin(self) -> Pin:
        """What is stored of this assignment."""
        return Pin(self.arm, self.epoch, self.excluded, self.arm is Arm.CANARY and self.reason is Reason.FALLBACK)


def on_stable(view: RolloutView, unit: str, reason: Reason, *, buckets: Buckets = NOWHERE) -> Assignment:
    """A unit outside all statistics, served by stable, for ``reason``; by what this Deployment is, in a mesh."""
    arm = view.deployed or _STABLE
    return Assignment(view, unit, arm, view.version(arm), reason, -1, buckets, reason.value, True)


def needs_pin(view: RolloutView, buckets: Buckets) -> bool:
    """True when a unit's arm depends on what it was given before: only then is its pin looked up.

    A unit whose bucket lies above every weight that the rollout ever had was never the canary's; and where one
    version serves both arms, nothing depends on the pin.
    """
    return view.sticky and buckets.assignment < view.max_weight and view.stable != view.canary


def assign(view: RolloutView, unit: str, buckets: Buckets, *, now: float, fresh: bool) -> Assignment:
    """The arm of a unit that has no pin.

    Args:
        view: The rollout.
        unit: The unit.
        buckets: ``bucket(view.salt, key)``, where the key is the unit or, with ``sticky_by: user``, the user.
        now: Unix time in seconds.
        fresh: False when the view is older than ``stale_after``; new units then stay on stable, in no statistic.
    """
    if not view.open:
        arm = view.deployed or view.new_units
        reason = Reason.NO_ROLLOUT
        return Assignment(view, unit, arm, view.version(arm), reason, -1, buckets, reason.value, True)
    if not fresh:
        return on_stable(view, unit, Reason.STALE_SNAPSHOT, buckets=buckets)
    epoch, weight = view.epoch, view.weight
    if now < view.handover_until:
        if view.previous_epoch < 0:
            return on_stable(view, unit, Reason.HANDOVER, buckets=buckets)
        epoch, weight = view.previous_epoch, view.previous_weight
    canary = buckets.assignment < weight if view.deployed is None else view.deployed is _CANARY
    if canary:
        return _new(Assignment, (view, unit, _CANARY, view.canary, _SPLIT, epoch, buckets, None, True))
    return _new(Assignment, (view, unit, _STABLE, view.stable, _SPLIT, epoch, buckets, None, True))


def place(view: RolloutView, unit: str, key: str, now: float, fresh: bool) -> Assignment | None:
    """``assign`` by the hash of ``key``, or None for a unit whose pin may say otherwise (``needs_pin``).

    The two in one, for the path of every request; positional for the same reason.
    """
    state = view.salted.copy()
    state.update(key.encode() if key.isascii() else key.encode("utf-8", "surrogatepass"))
    high, low = _HALVES(state.digest())
    share = (high >> 11) * _TWO_TO_MINUS_53
    if share < view.max_weight and view.sticky:
        return None
    buckets = _new(Buckets, (share, low % RESAMPLING_BUCKETS))
    if view.open and fresh and now >= view.handover_until and share >= view.weight and view.deployed is None:
        return _new(Assignment, (view, unit, _STABLE, view.stable, _SPLIT, view.epoch, buckets, None, True))
    return assign(view, unit, buckets, now=now, fresh=fresh)


def must_store(assignment: Assignment) -> bool:
    """True when a first assignment must be pinned before it is served: when another worker could decide otherwise.

    A unit that the split gives to the canary is given to it by every worker, for as long as the weight does not
    fall: the record of its turn, stored a moment later, is its pin, and no request waits for a write. Those that are
    on stable although their bucket lies below the weight are different: the hand-over was not over, the snapshot was
    stale, or the store did not answer.
    """
    view = assignment.view
    below = view.open and view.sticky and assignment.buckets.assignment < view.weight
    return below and not (assignment.arm is _CANARY and assignment.reason is _SPLIT)


def fall_back(assignment: Assignment) -> Assignment:
    """The same unit when its pin could not be read or written: served by stable, counted in the arm of its hash.

    Leaving it out would leave out canary units only, and only at the times when the store is in trouble, which are
    often the times when everything is: the canary's remaining units would look better than they are.
    """
    if assignment.excluded is not None:
        return assignment._replace(version=assignment.view.stable)
    return assignment._replace(version=assignment.view.stable, reason=Reason.FALLBACK)


def follow(view: RolloutView, unit: str, pin: Pin, buckets: Buckets) -> Assignment:
    """The assignment of a unit that has a pin: its arm, whatever the weight does meanwhile."""
    if pin.fallback:
        return Assignment(view, unit, pin.arm, view.stable, Reason.FALLBACK, pin.epoch, buckets, pin.excluded, False)
    reason = Reason.TAKEN_BACK if pin.arm is Arm.CANARY and view.taken_back else Reason.PINNED
    return Assignment(view, unit, pin.arm, view.version(pin.arm), reason, pin.epoch, buckets, pin.excluded, False)


def force(view: RolloutView, unit: str, arm: Arm, buckets: Buckets) -> Assignment:
    """A tester's turn on the arm that was asked for, in no statistic; stable when there is no open rollout."""
    if view.deployed is not None:
        arm = view.deployed
    elif not view.open or view.taken_back:
        arm = Arm.STABLE
    reason = Reason.FORCED
    return Assignment(view, unit, arm, view.version(arm), reason, -1, buckets, reason.value, True)
