"""The middleware: finds a request's conversation, assigns it to an arm, and hands it to the version that serves it.

Nothing here waits for anything of ours but the one pin look-up of ``pins.py`` and, where no lifespan was run, the
start at the first request. Whatever fails on our side, the request is served by stable.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol
from weakref import WeakSet

from agentcanary.assignment import (
    Assignment,
    Reason,
    RolloutView,
    assign,
    bucket,
    force,
    needs_pin,
    on_stable,
    place,
)
from agentcanary.context import running
from agentcanary.conversation import OURS_TO_GIVE, Finder, Found, SignedCookie, find_user, is_browser
from agentcanary.lifespan import Lifespan, Receive, Scope, Send
from agentcanary.mounted import paths_of_ours
from agentcanary.observe import HttpTurn, Sink, WebSocketTurn, with_cookie
from agentcanary.outcomes import Record
from agentcanary.pins import PinKeeper
from agentcanary.security import Forcing
from agentcanary.versions import ASGIApp, VersionApp
from agentcanary.watching import Watch, Watching

DISABLED = "AGENTCANARY_DISABLED"
START_DEADLINE = 2.0
_NO_ASGI: dict[str, str] = {}
# Turns, less one, after which the recorder is asked whether its queue is too long.
_CHECK_EVERY = 255


class Snapshot(Protocol):
    """What this process knows of the rollout; no lock, no I/O."""

    @property
    def fresh_until(self) -> float:
        """``perf_counter()`` from which on the view is too old to assign new units by it."""

    @property
    def view(self) -> RolloutView:
        """The rollout."""


class Queue(Protocol):
    """Where turns go."""

    @property
    def queue(self) -> deque[Record]:
        """What waits to be stored."""

    def check(self) -> None:
        """To be called now and then after something was appended to the queue."""


class Aliases(Protocol):
    """The ids that servers make for conversations."""

    async def unit_of(self, name: str) -> str:
        """The unit that an id stands for. May raise: the request is then served by stable."""

    async def bind(self, names: Iterable[str], unit: str) -> None:
        """Make ids aliases of a unit. Raises nothing."""


class Host(Sink, Protocol):
    """What the middleware needs of a ``Canary``. Attributes may be replaced between requests.

    Attributes:
        finder: Where conversation ids are looked for.
        user_finder: Where users are looked for with ``sticky_by: user``, else None.
        cookie: Our conversation cookie, or None when ids are not looked for there.
        pins: The pins.
        watching: How responses are watched, or None when they are not.
        forcing: Who may force an arm, or None when nobody may.
        pseudonym: What stands for a conversation id, or None when ids are kept as they are. Itself it returns None
            while it cannot tell.
    """

    finder: Finder
    user_finder: Finder | None
    cookie: SignedCookie | None
    pins: PinKeeper
    watching: Watching | None
    forcing: Forcing | None
    pseudonym: Callable[[str], str | None] | None

    @property
    def versions(self) -> Mapping[str, ASGIApp]:
        """Applications that serve a version each, by the configuration."""

    @property
    def recorder(self) -> Queue:
        """Takes every turn when it begins."""

    @property
    def aliases(self) -> Aliases:
        """The ids that servers make."""

    @property
    def snapshots(self) -> Snapshot:
        """The rollout as this process knows it."""

    def without_conversation(self, problem: str) -> None:
        """Count a request without a usable conversation id, by its ``Problem``."""

    async def start(self) -> None:
        """Start threads and connections, unless they run. May raise: requests are then served by stable."""

    async def stop(self) -> None:
        """Store what is left and end the threads. May raise."""


class _Extra(NamedTuple):
    """What is out of the ordinary about a request.

    Attributes:
        found: What was found in it.
        cookie: A cookie to set, or None.
        unknown: True when the store did not say which conversation it is.
    """

    found: Found
    cookie: tuple[bytes, bytes] | None
    unknown: bool = False


_middlewares: WeakSet[CanaryMiddleware] = WeakSet()


class CanaryMiddleware:
    """Pure ASGI middleware for HTTP, WebSocket and lifespan.

    ``AGENTCANARY_DISABLED=1`` in the environment at its creation makes it hand everything on untouched.

    Args:
        app: The application; it serves every version that has no application of its own.
        canary: The ``Canary``.
        versions: Applications that serve a version each, beside those of the configuration that are remote. Their
            lifespans are run with that of ``app``.
        exclude: Beginnings of paths that are no turns of conversations: health checks, metrics, static files.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        canary: Host,
        versions: Mapping[str, ASGIApp] | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        self.app = app
        self._host = canary
        served = {**canary.versions, **(versions or {})}
        self._versions = {version: VersionApp(application) for version, application in served.items()}
        self._exclude = tuple(exclude)
        self._ours: frozenset[str] = frozenset()
        self._disabled = os.environ.get(DISABLED, "") not in ("", "0")
        self._lifespan = Lifespan(app, self._versions, self, lambda: canary.snapshots.view.stable)
        self._starting: asyncio.Task[None] | None = None
        self._forked()
        _middlewares.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if self._disabled or kind not in ("http", "websocket"):
            if kind == "lifespan" and not self._disabled:
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        if self._exclude and (scope["path"].startswith(self._exclude) or scope["path"] in self._ours):
            await self.app(scope, receive, send)
            return
        begun = perf_counter()
        host = self._host
        unit = extra = watch = None
        try:
            if not self._started:
                await self._first_start()
                if self._exclude and (scope["path"].startswith(self._exclude) or scope["path"] in self._ours):
                    await self.app(scope, receive, send)
                    return
            snapshots = host.snapshots
            view, fresh = snapshots.view, begun < snapshots.fresh_until
            now = host.clock()
            if view.sticky:
                try:
                    unit = host.finder.first(scope)
                except Exception:  # noqa: BLE001 (``search`` below says what is wrong)
                    unit = None
            elif host.watching is None:
                unit = secrets.token_hex(8)
            key = unit
            if unit is None or (host.user_finder is not None and view.sticky):
                unit, key, receive, extra = await self._find(scope, receive, send, unit, sticky=view.sticky)
            elif host.pseudonym is not None:
                unit = key = host.pseudonym(unit)
            arm = None if host.forcing is None else host.forcing.forced(scope, now=now)
            if arm is not None:
                assignment = force(view, unit or "", arm, bucket(view.salt, key or ""))
            elif unit is None or key is None:
                unknown = extra is not None and extra.unknown
                assignment = on_stable(view, "", Reason.FALLBACK if unknown else Reason.NO_CONVERSATION)
            else:
                placed = place(view, unit, key, now, fresh)
                assignment = placed or await self._pinned(view, unit, key, now=now, fresh=fresh)
        except Exception as error:  # noqa: BLE001 (whatever we got wrong, the request is served)
            host.degraded("assignment", error)
            try:
                now, assignment = 0.0, on_stable(host.snapshots.view, "", Reason.FALLBACK)
            except Exception:  # noqa: BLE001 (not even the stable version is known)
                await self.app(scope, receive, send)
                return

        turn: HttpTurn | WebSocketTurn
        if kind == "http":
            if extra is not None and extra.cookie is not None:
                send = with_cookie(send, extra.cookie)
            turn = HttpTurn(host, assignment, perf_counter(), now, receive, send)
            if scope.get("asgi", _NO_ASGI).get("spec_version", "") >= "2.4":
                turn.tells = True
        else:
            if extra is not None and extra.found.send is not None:
                send = extra.found.send
            turn = WebSocketTurn(host, assignment, perf_counter(), now, receive, send)
        app, outgoing = self.app, turn.send
        try:
            if self._versions:
                app = self._app_for(turn, scope)
            state = scope.get("state")
            if state is None:
                scope["state"] = {"agentcanary": turn.assignment}
            else:
                state["agentcanary"] = turn.assignment
        except Exception as error:  # noqa: BLE001 (as above: a full disk, or a bug of ours)
            host.degraded("dispatch", error)
        try:
            if extra is None or host.watching is None:
                host.recorder.queue.append(turn)
            else:
                watch = Watch(host.watching, host, host.aliases, turn, extra.found)
                outgoing = watch.send
                if not watch.repeats:
                    host.recorder.queue.append(turn)
                watch.stated()
            if not turn.number & _CHECK_EVERY:
                host.recorder.check()
        except Exception as error:  # noqa: BLE001 (as above)
            host.degraded("record", error)
        telemetry = host.telemetry
        token = None
        if telemetry.on if begun < telemetry.look_at else telemetry.look(begun):
            turn.trace()
            token = telemetry.enter(turn.span)
        turn.outer = running.get()
        bound = running.set(turn)
        try:
            await app(scope, turn.receive, outgoing)
        except BaseException as error:
            turn.raised(error)
            raise
        else:
            if not turn.ended:
                turn.returned()
        finally:
            running.reset(bound)
            turn.over()
            if watch is not None and watch.finish():
                host.recorder.queue.append(turn)
            if token is not None:
                telemetry.leave(token)

    async def start(self) -> None:
        """Start the canary. Raises nothing."""
        try:
            await self._host.start()
        except Exception as error:  # noqa: BLE001 (an application must not fail to start because of us)
            self._host.degraded("start", error)
        self._running = True

    async def stop(self) -> None:
        """Stop the canary. Raises nothing."""
        self._started = self._running = False
        try:
            await self._host.stop()
        except Exception as error:  # noqa: BLE001 (as above)
            self._host.degraded("stop", error)

    async def _pinned(self, view: RolloutView, unit: str, key: str, *, now: float, fresh: bool) -> Assignment:
        """The assignment of a unit whose pin may have the say."""
        buckets = bucket(view.salt, key)
        known = self._host.pins.known(view, unit, buckets)
        if known is not None:
            return known
        if needs_pin(view, buckets):
            return await self._host.pins.resolve(view, unit, buckets, now=now, fresh=fresh)
        return assign(view, unit, buckets, now=now, fresh=fresh)

    async def _find(
        self, scope: Scope, receive: Receive, send: Send, unit: str | None, *, sticky: bool
    ) -> tuple[str | None, str | None, Receive, _Extra | None]:
        """Unit, key of the hash, what to read the request from, and what is out of the ordinary."""
        host = self._host
        extra, document, alias = None, None, False
        if unit is None:
            found = await host.finder.search(scope, receive, send)
            unit, receive, document = found.unit, found.receive, found.document
            if found.error is not None:
                host.degraded("extractor", found.error)
            cookie = None
            if not sticky:
                unit = secrets.token_hex(8)
            elif found.begins:
                unit = f"n-{secrets.token_urlsafe(16)}"
            elif unit is None:
                if host.cookie is not None and found.problem in OURS_TO_GIVE and is_browser(scope):
                    unit = f"c-{secrets.token_urlsafe(16)}"
                    cookie = host.cookie.header(unit, secure=scope.get("scheme") == "https")
                else:
                    host.without_conversation(found.problem.value)
            else:
                alias = found.preset is not None and bool(found.preset.made)
            if cookie is not None or found.send is not None or host.watching is not None:
                extra = _Extra(found, cookie)
        user = None
        if sticky and unit is not None and host.user_finder is not None:
            user, receive = await find_user(host.user_finder, scope, receive, document)
        if unit is not None and host.pseudonym is not None:
            unit = host.pseudonym(unit)
        if unit is not None and alias:
            try:
                unit = await host.aliases.unit_of(unit)
            except Exception:  # noqa: BLE001 (noted there; and what was read of the request must not be lost)
                return None, None, receive, _Extra(found, None, unknown=True)
        key = unit if user is None else user
        return unit, key, receive, extra

    def _app_for(self, turn: HttpTurn | WebSocketTurn, scope: Scope) -> ASGIApp:
        """What serves the turn's version; stable's in place of one that did not start, as an error of the canary."""
        served = self._versions.get(turn.assignment.version)
        if served is not None and served.failure is not None:
            stable = turn.assignment.view.stable
            if turn.assignment.version != stable:
                self._host.degraded("version", served.failure)
                turn.fall_back(type(served.failure).__qualname__)
                served = self._versions.get(stable)
        if served is None:
            return self.app
        if served.state:
            scope.setdefault("state", {}).update(served.state)
        return served.app

    async def _first_start(self) -> None:
        """Learn what of ours is mounted; start where no lifespan was run: in a mounted application, after a fork."""
        ours = paths_of_ours(self.app)
        self._exclude = tuple(dict.fromkeys([*self._exclude, *ours]))
        # What people type: the router answers /canary with a redirect to /canary/.
        self._ours = frozenset(path.rstrip("/") for path in ours)
        if self._running:
            self._started = True
            return
        if self._starting is None or self._starting.get_loop() is not asyncio.get_running_loop():
            self._starting = asyncio.ensure_future(self.start())
        await asyncio.wait([self._starting], timeout=START_DEADLINE)
        self._started = True

    def _forked(self) -> None:
        """Forget what does not live on in a forked process."""
        self._started = self._running = False
        self._starting = None


def _after_fork() -> None:
    for middleware in list(_middlewares):
        middleware._forked()


os.register_at_fork(after_in_child=_after_fork)
