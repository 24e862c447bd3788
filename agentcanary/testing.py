"""For tests of applications: a clock that stands still, a notifier that remembers, an arm that is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentcanary.assignment import RolloutView
from agentcanary.effects.events import Notification
from agentcanary.rollout import Rollout
from agentcanary.snapshot import SnapshotKeeper
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from agentcanary.canary import Canary


class FrozenClock:
    """A clock that moves only when it is told to; for ``Canary(config, clock=FrozenClock())``.

    Args:
        now: Unix time in seconds at which it stands.
        speed: Seconds of this clock in a second of the wall clock: how long what guards against the delays of real
            machines lasts on it.

    >>> clock = FrozenClock(now=100.0)
    >>> clock.advance(30.0)
    130.0
    >>> clock()
    130.0
    """

    def __init__(self, now: float = 1_750_000_000.0, *, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self._now = now
        self._speed = speed
        self._lock = threading.Lock()

    @property
    def speed(self) -> float:
        """Seconds of this clock in a second of the wall clock."""
        return self._speed

    def __call__(self) -> float:
        """Unix time in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move it forward, and return the time that it shows then.

        Raises:
            ValueError: If ``seconds`` is negative: rollouts are timed by clocks that do not go back.
        """
        if not seconds >= 0:
            raise ValueError(f"a clock goes forward only, got {seconds} seconds")
        with self._lock:
            self._now += seconds
            return self._now


class RecordingNotifier:
    """Remembers what people were told; for ``Canary(config, notifiers=[RecordingNotifier()])``.

    Args:
        failures: Messages whose delivery fails first, each once, so that they are tried again.

    Attributes:
        told: The messages that were delivered, in order.
    """

    def __init__(self, *, failures: int = 0) -> None:
        self.told: list[Notification] = []
        self._failures = failures

    def __call__(self, told: Notification) -> None:
        """Remember a message."""
        if self._failures > 0:
            self._failures -= 1
            raise ConnectionError("this delivery fails, as the test asked for")
        self.told.append(told)

    @property
    def events(self) -> list[str]:
        """What happened, in order: ``started``, ``stage_entered``, ``rolled_back``, …."""
        return [told.event for told in self.told]


@contextmanager
def forced_arm(canary: Canary, arm: Arm | str) -> Iterator[RolloutView]:
    """Serve every new conversation by one arm's version while the block runs, whatever the store says.

    Nothing is pinned and nothing counts: turns are recorded as if no rollout were open.

    Args:
        canary: What the application holds.
        arm: ``stable`` or ``canary``.

    Returns:
        What the request path sees meanwhile.

    Raises:
        ValueError: If the arm is neither, or the configuration names no canary.
    """
    if arm not in set(Arm):
        raise ValueError(f"arm is 'stable' or 'canary', got {arm!r}")
    config = canary.config
    if config.canary is None:
        raise ValueError(f"agent {config.agent!r} has no canary version: name one in its configuration")
    view = RolloutView(agent=config.agent, stable=config.stable, canary=config.canary, new_units=Arm(arm))
    before = canary.snapshots
    canary.snapshots = _Forced(before, canary, view)
    try:
        yield view
    finally:
        canary.snapshots = before


def arm_fixture(canary: Callable[[], Canary], *, arms: Sequence[Arm | str] = tuple(Arm)) -> Any:
    """A pytest fixture that runs each test that asks for it once with every arm.

    Write ``arm = arm_fixture(lambda: app.state.canary)`` into a test module or ``conftest.py``; a test with the
    argument ``arm`` gets the arm's name.

    Args:
        canary: Called for each test: what the application holds.
        arms: The arms to run with.
    """
    import pytest

    @pytest.fixture(name="arm", params=[Arm(arm) for arm in arms], ids=[str(arm) for arm in arms])
    def arm(request: pytest.FixtureRequest) -> Iterator[Arm]:
        with forced_arm(canary(), request.param):
            yield request.param

    return arm


class _Forced(SnapshotKeeper):
    """Shows one view, and leaves the thread and its polls to the keeper in whose place it stands."""

    def __init__(self, before: SnapshotKeeper, canary: Canary, view: RolloutView) -> None:
        config = canary.config
        super().__init__(
            canary.store, agent=config.agent, stable=config.stable, canary=config.canary, clock=canary.clock
        )
        self._before = before
        self.rollout: Rollout | None = None
        self.view = view

    @property
    def fresh(self) -> bool:
        """Always."""
        return True

    def start(self) -> None:
        self._before.start()

    def stop(self) -> None:
        self._before.stop()

    def poll(self) -> bool:
        return self._before.poll()

    def stop_canary(self) -> None:
        self._before.stop_canary()
