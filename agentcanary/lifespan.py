"""The lifespan of an application with ours around it, and those of the applications that serve versions inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

from agentcanary.errors import VersionError
from agentcanary.versions import ASGIApp, VersionApp

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Startable(Protocol):
    """What starts before the application and stops after it. Neither may raise."""

    async def start(self) -> None:
        """Start."""

    async def stop(self) -> None:
        """Stop."""


class Lifespan:
    """Runs lifespans in this order: ours, the versions', the application's; and back.

    Args:
        app: The application.
        versions: The applications that serve versions.
        ours: What is ours to start and stop.
        must_start: The version without which the server must not start: that of the stable arm.
    """

    def __init__(
        self, app: ASGIApp, versions: Mapping[str, VersionApp], ours: Startable, must_start: Callable[[], str]
    ) -> None:
        self._app = app
        self._versions = versions
        self._ours = ours
        self._must_start = must_start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan scope of a server."""
        asked = refused = False

        async def asking() -> Message:
            nonlocal asked, refused
            message = await receive()
            asked = True
            if message["type"] == "lifespan.startup":
                failure = await self._start(scope)
                if failure:
                    refused = True
                    await self._stop()
                    await send({"type": "lifespan.startup.failed", "message": failure})
                    raise _RefusedError(failure)
            return message

        async def answering(message: Message) -> None:
            if refused:
                return
            if message["type"] != "lifespan.startup.complete":
                await self._stop()
            await send(message)

        try:
            await self._app(scope, asking, answering)
        except Exception:
            if asked and not refused:
                raise
        if not asked:
            with suppress(_RefusedError):
                await _without_application(asking, answering)

    async def _start(self, scope: Scope) -> str:
        await self._ours.start()
        for app in self._versions.values():
            await app.start(scope)
        stable = self._versions.get(self._must_start())
        return "" if stable is None or stable.failure is None else f"the stable version did not start: {stable.failure}"

    async def _stop(self) -> None:
        for app in reversed(list(self._versions.values())):
            await app.stop()
        await self._ours.stop()


class _RefusedError(VersionError):
    """Ends the lifespan of an application that must not start; never seen outside of this module."""


async def _without_application(receive: Receive, send: Send) -> None:
    """For an application that does not know lifespans, which the specification allows: we and the versions do."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
