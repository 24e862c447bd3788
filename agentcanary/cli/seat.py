"""What a command works on: the configuration, its store, the agent, the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentcanary.cli.program_logs import log_to_stderr
from agentcanary.clock import Clock, SystemClock
from agentcanary.errors import StoreError, UnknownError

if TYPE_CHECKING:
    from agentcanary.config import Config
    from agentcanary.rollout import Rollout
    from agentcanary.status.situation import Situation
    from agentcanary.store import Store

_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """What a command works on.

    Attributes:
        config: The configuration.
        file: Where it was read from.
        store: Its store, open.
        agent: Name of the agent that the command is about.
        clock: The time of rollouts.
    """

    config: Config
    file: Path
    store: Store
    agent: str
    clock: Clock

    def situation(self, rollout: Rollout) -> Situation:
        """What is known of a rollout now.

        Raises:
            StoreError: If the store cannot be read.
        """
        from agentcanary.status.drift import differences
        from agentcanary.status.reading import situation

        return situation(
            self.store,
            rollout,
            now=self.clock(),
            speed=self.clock.speed,
            differences=lambda newest: tuple(differences(self.config, newest, str(self.file))),
        )

    def alive(self) -> int:
        """How many of the agent's workers have reported lately."""
        from agentcanary.status.reading import alive

        return len(alive(self.store, self.agent, self.clock(), speed=self.clock.speed))

    def current(self) -> Rollout:
        """The agent's newest rollout.

        Raises:
            UnknownError: If it has none.
        """
        rollout = self.store.current(self.agent)
        if rollout is None:
            others = [name for name in self.store.agents() if name != self.agent]
            known = f"; the store knows {', '.join(others)}: choose one with --agent" if others else ""
            raise UnknownError(
                f"agent {self.agent!r} has no rollout in {self.store.name} yet{known}. The controller starts one when "
                f"{self.file} names a canary; by hand: agentcanary start --reason TEXT"
            )
        return rollout

    def rollout(self, rollout: str | None) -> Rollout:
        """The rollout of that id; None for the agent's newest.

        Raises:
            UnknownError: If there is none.
        """
        if rollout is None:
            return self.current()
        try:
            return self.store.rollout(rollout)
        except UnknownError:
            raise UnknownError(
                f"rollout {rollout!r} is not in {self.store.name}; agentcanary rollouts lists those that are"
            ) from None


@contextmanager
def seat(file: Path, agent: str | None = None, *, create: bool = False) -> Iterator[Seat]:
    """The configuration's store, opened, and closed afterwards.

    Args:
        file: The configuration.
        agent: Name of an agent; None takes the configuration's.
        create: True makes an SQLite file that is not there; a command that only reads must not.

    Raises:
        ConfigError: If the configuration cannot be used.
        StoreError: If the store cannot be opened.
    """
    from agentcanary.config import load_config
    from agentcanary.store import Store

    log_to_stderr()
    config = load_config(file)
    store = Store(config.store) if create else existing_store(config.store, file)
    try:
        store.open()
        yield Seat(config=config, file=file, store=store, agent=agent or config.agent, clock=SystemClock())
    finally:
        store.close()


def existing_store(url: str, file: Path | None = None) -> Store:
    """The store at a URL; a command that only reads makes none.

    Args:
        url: As in the configuration.
        file: The configuration that names it.

    Raises:
        StoreError: If there is no such file.
    """
    from agentcanary.store import Store

    path = sqlite_file(url)
    if path is not None and not path.exists():
        remedy = f"is {file} the file that the application uses?" if file else "is this the URL of its store?"
        raise StoreError(
            f"store {url}: there is no such file yet. The application makes it when it starts, agentcanary start too; "
            f"{remedy}"
        )
    return Store(url)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite store; None for another database.

    >>> sqlite_file("sqlite:///data/support.sqlite3").as_posix()
    'data/support.sqlite3'
    """
    if not url.startswith(_SQLITE):
        return None
    return Path(url.removeprefix(_SQLITE).partition("?")[0])
