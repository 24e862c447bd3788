"""The requests that the pages answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import structlog
from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from agentcanary.api import Problem, problem_of
from agentcanary.dashboard.artist import Artist
from agentcanary.dashboard.forms import read_form
from agentcanary.dashboard.pictures import Picture, pictures
from agentcanary.dashboard.rendering import render
from agentcanary.dashboard.sessions import Session, Sessions, require_same_site
from agentcanary.dashboard.source import Seen, Source
from agentcanary.dashboard.view import headline, notifications, offered, progress, tone
from agentcanary.errors import AgentCanaryError, UnauthenticatedError
from agentcanary.security import Scope
from agentcanary.state_machine import Action, ActionKind
from agentcanary.status.conclusion import conclusion
from agentcanary.status.rollout_data import rollout_data
from agentcanary.status.status_data import status_data

log = structlog.get_logger("agentcanary")

_THREADS = 3
_FRESH = 1.0
_KEPT = 50
_MAX_REASON = 1000
_AUDIT_SHOWN = 200
WIDTHS = (340, 560)
THEMES = ("light", "dark")
PRIVATE = {"cache-control": "no-store"}

T = TypeVar("T")


class Pages:
    """Answers the requests of browsers.

    Args:
        source: What the pages show and act on.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._artist = Artist()
        # Threads of ours: those of the framework may all be busy with the agent's own work.
        self._asking = CapacityLimiter(_THREADS)
        self._drawing = CapacityLimiter(1)
        self._sessions: Sessions | None = None
        self._models: dict[str, tuple[float, dict[str, Any]]] = {}

    async def rollouts(self, request: Request) -> Response:
        """The list of rollouts."""
        session = await self._session(request)
        if session is None:
            return _to_login(request)
        found = await self._ask(self._source.rollouts)
        rows = [rollout_data(one) | {"verdict": conclusion(one), "headline": headline(one)} for one in found]
        model = {"rollouts": rows, "now": self._source.clock(), "agent": self._source.agent}
        return await self._page(request, "rollouts", session, model)

    async def rollout(self, request: Request) -> Response:
        """One rollout."""
        session = await self._session(request)
        if session is None:
            return _to_login(request)
        model = await self._model(request.path_params["rollout"])
        return await self._page(request, "rollout", session, {**model, "done": request.query_params.get("done", "")})

    async def chart(self, request: Request) -> Response:
        """One chart of a rollout, as SVG; it is drawn when it is asked for."""
        session = await self._session(request)
        if session is None:
            raise UnauthenticatedError("sign in first")
        slot, theme, width = _chart_name(request.path_params["chart"])
        model = await self._model(request.path_params["rollout"])
        picture: Picture | None = model["pictures"].get(slot)
        if picture is None:
            raise HTTPException(404, "this rollout has no such chart yet")
        drawn = self._artist.kept(picture, theme=theme, width=width)
        if drawn is None:
            # One after the other; whoever waits here keeps no thread.
            drawn = await to_thread.run_sync(
                partial(self._artist.draw, picture, theme=theme, width=width), limiter=self._drawing
            )
        if drawn is None:
            raise HTTPException(503, "the chart could not be drawn; the log says why")
        # The key is in the address: what it names never changes.
        fresh = request.query_params.get("v") == picture.key
        headers = {"cache-control": "private, max-age=86400, immutable"} if fresh else PRIVATE
        policy = {"content-security-policy": "default-src 'none'; sandbox"}
        return Response(drawn.svg, media_type="image/svg+xml", headers=headers | policy)

    async def act(self, request: Request) -> Response:
        """Pause, resume, advance, promote, roll back, restart: with a reason and a confirmation."""
        require_same_site(request)
        session = await self._session(request)
        if session is None:
            return _to_login(request)
        sessions = await self._open_sessions()
        form = await read_form(request)
        sessions.require_form_token(session, form.get("form_token"))
        self._source.guard.require(session.principal, Scope.OPERATE)
        name, kind = request.path_params["rollout"], request.path_params["action"]
        if kind not in set(ActionKind):
            raise HTTPException(404, "there is no such action")
        reason = str(form.get("reason", "")).strip()
        if not 0 < len(reason) <= _MAX_REASON or not "".join(reason.splitlines()).isprintable():
            raise Problem(422, f"say why, in 1 to {_MAX_REASON} printable characters, for the audit log")
        if form.get("confirm") != "yes":
            raise Problem(422, "nothing was done: tick the box that confirms it")
        action = Action(
            kind=ActionKind(kind),
            actor=session.principal.name,
            reason=" ".join(reason.splitlines()),
            during_freeze=form.get("during_freeze") == "yes",
        )
        saw = {"phase": str(form.get("phase", "")), "stage": str(form.get("stage", ""))}
        during_drain = form.get("during_drain") == "yes"
        transition = await self._ask(lambda: self._source.act(name, action, saw=saw, during_drain=during_drain))
        self._models.clear()
        target = f"{_root(request)}/rollout/{quote(transition.rollout.id, safe='')}?done={action.kind.value}"
        return RedirectResponse(target, status_code=303)

    async def login(self, request: Request) -> Response:
        """The form for a token, and the session that it opens."""
        sessions = await self._open_sessions()
        wanted = _local(request, request.query_params.get("next", ""))
        if request.method == "GET":
            return self._login_page(request, wanted, "", 200)
        require_same_site(request)
        form = await read_form(request)
        wanted = _local(request, str(form.get("next", "")))
        principal = self._source.guard.principal_of(str(form.get("token", "")).strip())
        if principal is None:
            return self._login_page(request, wanted, "This token is not known.", 401)
        if not principal.may(Scope.READ):
            return self._login_page(request, wanted, "This token may not read; the pages need the scope read.", 403)
        response = RedirectResponse(wanted, status_code=303, headers=PRIVATE)
        sessions.sign_in(request, response, principal)
        log.info("agentcanary.dashboard_signed_in", principal=principal.name)
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        require_same_site(request)
        sessions = await self._open_sessions()
        session = sessions.of(request)
        if session is not None:
            sessions.require_form_token(session, (await read_form(request)).get("form_token"))
        response = RedirectResponse(f"{_root(request)}/login", status_code=303, headers=PRIVATE)
        sessions.sign_out(request, response)
        return response

    async def failed(self, request: Request, error: Exception) -> Response:
        """An error as a page; for what asks for JSON, as a problem."""
        if not isinstance(error, Problem | AgentCanaryError | HTTPException):
            log.error("agentcanary.page_failed", path=request.scope["path"], error_type=type(error).__qualname__)
        problem = problem_of(error)
        if "text/html" not in request.headers.get("accept", ""):
            return problem
        status = problem.status_code
        said = error.detail if isinstance(error, Problem | HTTPException) else str(error)
        message = "agentcanary failed; the application's log says how" if status == 500 else said
        back = request.scope["path"].rpartition("/")[0] if request.method == "POST" else f"{_root(request)}/"
        model = {"status": status, "message": message, "back": back, "session": None}
        return HTMLResponse(render("error", request, model), status_code=status, headers=PRIVATE)

    async def _page(self, request: Request, name: str, session: Session, model: dict[str, Any]) -> Response:
        """A page, or the part of it that changes; not sent again while it is the same."""
        sessions = await self._open_sessions()
        told = {
            **model,
            "session": session,
            "may_act": session.principal.may(Scope.OPERATE),
            "form_token": sessions.form_token(session),
        }
        part = request.query_params.get("part") == "1"
        text = render(f"_{name}" if part else name, request, told)
        if not part:
            return HTMLResponse(text, headers=PRIVATE)
        tag = f'"{blake2b(text.encode(), digest_size=12).hexdigest()}"'
        headers = {"cache-control": "no-cache, private", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(text, headers=headers)

    async def _model(self, rollout: str) -> dict[str, Any]:
        """What a rollout's page says; asked of the store once a second at most, however many look at it."""
        known = self._models.get(rollout)
        if known is not None and time.monotonic() - known[0] < _FRESH:
            return known[1]
        model = await self._ask(lambda: self._read(rollout))
        self._models[rollout] = (time.monotonic(), model)
        while len(self._models) > _KEPT:
            self._models.pop(next(iter(self._models)))
        return model

    def _read(self, rollout: str) -> dict[str, Any]:
        seen: Seen = self._source.seen(rollout)
        found = seen.situation
        data = status_data(found)
        drawn = pictures(data, seen)
        return {
            "data": data,
            "tone": tone(data),
            "headline": headline(found.rollout),
            "progress": progress(data["stage"]),
            "offered": offered(found.rollout, now=found.now, newest=seen.newest, live=found.live),
            "newest": seen.newest,
            "pictures": drawn,
            "words": {slot: self._artist.words(picture) for slot, picture in drawn.items()},
            "notifications": notifications(seen),
            "audit": list(reversed(found.audit))[:_AUDIT_SHOWN],
            "workers": found.workers,
            "now": found.now,
        }

    def _login_page(self, request: Request, wanted: str, problem: str, status: int) -> Response:
        model = {"next": wanted, "problem": problem, "closed": self._source.guard.closed, "session": None}
        return HTMLResponse(render("login", request, model), status_code=status, headers=PRIVATE)

    async def _session(self, request: Request) -> Session | None:
        session = (await self._open_sessions()).of(request)
        if session is None or not session.principal.may(Scope.READ):
            return None
        return session

    async def _open_sessions(self) -> Sessions:
        if self._sessions is None:
            secret = await self._ask(lambda: self._source.store.secret("dashboard"))
            self._sessions = Sessions(secret, self._source.guard)
        return self._sessions

    async def _ask(self, question: Callable[[], T]) -> T:
        return await to_thread.run_sync(question, limiter=self._asking)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _to_login(request: Request) -> Response:
    if request.query_params.get("part") == "1":
        # The script shows that it has to be loaded again.
        return Response(status_code=401, headers=PRIVATE)
    path = request.scope["path"] if request.method == "GET" else ""
    return RedirectResponse(f"{_root(request)}/login?next={quote(path, safe='')}", status_code=303, headers=PRIVATE)


def _local(request: Request, wanted: str) -> str:
    """Where to go after the sign-in: a page of ours, never another site."""
    home = f"{_root(request)}/"
    parts = urlsplit(wanted)
    local = not parts.scheme and not parts.netloc and wanted.startswith(home) and "\\" not in wanted
    return wanted if local and not wanted.startswith("//") and wanted.isprintable() else home


def _chart_name(name: str) -> tuple[str, str, int]:
    """Slot, theme and width of ``evidence-error_rate.dark.560.svg``."""
    parts = name.split(".")
    if len(parts) == 4 and parts[1] in THEMES and parts[2] in {str(width) for width in WIDTHS} and parts[3] == "svg":
        return parts[0], parts[1], int(parts[2])
    raise HTTPException(404, "there is no such chart")
