"""What serves a version: agent objects from a registry of factories, and ASGI applications with their lifespans."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from agentcanary.context import current_turn
from agentcanary.errors import UnknownError, VersionError

RETRY_AFTER = 10.0

Factory = Callable[[], Any]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class Registry:
    """Agent objects by version, each built by its factory on first use and kept.

    A version of the canary that cannot be built costs no user an answer: the turn goes to the stable version, and
    is recorded as an error of the canary, which has it taken back.

    Args:
        agent: Name of the agent.
        retry_after: Real seconds before a factory that failed is called again.
        monotonic: Real seconds that never go back.
    """

    def __init__(
        self, agent: str, *, retry_after: float = RETRY_AFTER, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._agent = agent
        self._retry_after = retry_after
        self._monotonic = monotonic
        self._factories: dict[str, Factory] = {}
        self._built: dict[str, Any] = {}
        self._building: dict[str, asyncio.Task[Any]] = {}
        self._failed: dict[str, tuple[float, VersionError]] = {}

    def register(self, version: str, factory: Factory) -> None:
        """Name the factory of a version: a function without arguments, plain or async.

        Raises:
            ValueError: If the version has one already.
        """
        if version in self._factories:
            raise ValueError(f"version {version!r} of agent {self._agent!r} has a factory already")
        self._factories[version] = factory

    async def get(self, version: str) -> Any:
        """The agent object of a version.

        When the running turn was given to this version and it cannot be built, the stable version's object, and the
        turn becomes an error of the canary.

        Raises:
            UnknownError: If the version has no factory.
            VersionError: If its factory fails.
        """
        built = self._built.get(version)
        if built is not None:
            return built
        try:
            return await self._build(version)
        except (UnknownError, VersionError) as error:
            turn = current_turn(self._agent)
            if turn is None or turn.assignment.version != version or turn.assignment.view.stable == version:
                raise
            cause = error.__cause__ or error
            turn.fall_back(type(cause).__qualname__)
            return await self.get(turn.assignment.version)

    async def _build(self, version: str) -> Any:
        factory = self._factories.get(version)
        if factory is None:
            known = ", ".join(sorted(self._factories)) or "none"
            raise UnknownError(
                f"version {version!r} of agent {self._agent!r} has no factory; registered: {known}; "
                f"call registry.register({version!r}, factory) at start"
            )
        failed = self._failed.get(version)
        if failed is not None and self._monotonic() - failed[0] < self._retry_after:
            raise failed[1]
        task = self._building.get(version)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.ensure_future(self._call(version, factory))
            self._building[version] = task
            task.add_done_callback(lambda done: self._forget(version, done))
        # Others wait for the same object: a client that leaves must not take it away from them.
        return await asyncio.shield(task)

    async def _call(self, version: str, factory: Factory) -> Any:
        try:
            built = factory()
            if inspect.isawaitable(built):
                built = await built
            built = _present(built)
        except Exception as error:
            failure = VersionError(
                f"version {version!r} of agent {self._agent!r} could not be built: {type(error).__qualname__}: {error}"
            )
            self._failed[version] = (self._monotonic(), failure)
            raise failure from error
        self._built[version] = built
        self._failed.pop(version, None)
        return built

    def _forget(self, version: str, done: asyncio.Task[Any]) -> None:
        if self._building.get(version) is done:
            del self._building[version]
        if not done.cancelled():
            done.exception()  # Retrieved here too, for the case that everybody who waited has left.


def _present(built: Any) -> Any:
    if built is None:
        raise TypeError("the factory returned None")
    return built


class VersionApp:
    """An ASGI application that serves one version, and its lifespan.

    Attributes:
        app: The application.
        state: What its lifespan yielded.
        failure: Why it cannot serve, or None.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self.failure: BaseException | None = None
        self._messages: asyncio.Queue[Message] | None = None
        self._task: asyncio.Task[None] | None = None
        self._answered: asyncio.Event | None = None
        self._answer: Message = {}

    async def start(self, scope: Scope) -> None:
        """Run the lifespan up to the point where it is started. Raises nothing: see ``failure``.

        Args:
            scope: The lifespan scope of the server.
        """
        self.failure, self.state = None, {}
        self._messages, self._answered = asyncio.Queue(), asyncio.Event()
        self._task = asyncio.create_task(self._run({**scope, "state": self.state}))
        await self._tell("lifespan.startup")
        if self._answer.get("type") == "lifespan.startup.failed":
            self.failure = VersionError(str(self._answer.get("message", "")) or "its lifespan reported a failure")

    async def stop(self) -> None:
        """Run the lifespan to its end. Raises nothing."""
        if self._task is not None and not self._task.done():
            await self._tell("lifespan.shutdown")
            await asyncio.wait([self._task], timeout=10.0)
            self._task.cancel()
        self._task = None

    async def _tell(self, kind: str) -> None:
        if self._messages is None or self._answered is None or self._task is None:
            return
        self._answered.clear()
        self._messages.put_nowait({"type": kind})
        answered = asyncio.create_task(self._answered.wait())
        await asyncio.wait([answered, self._task], return_when=asyncio.FIRST_COMPLETED)
        answered.cancel()

    async def _run(self, scope: Scope) -> None:
        messages, answered = self._messages, self._answered
        if messages is None or answered is None:
            return
        asked = False

        async def receive() -> Message:
            nonlocal asked
            asked = True
            return await messages.get()

        async def send(message: Message) -> None:
            self._answer = message
            answered.set()

        try:
            await self.app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 (an application may raise anything)
            # One that never asked for a message does not know lifespans, which the specification allows.
            if asked:
                self.failure = error
