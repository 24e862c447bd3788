"""Who is signed in: a session cookie that holds no token, and the tokens of forms against forged requests."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from agentcanary.errors import ForbiddenError
from agentcanary.security import Guard, Principal

COOKIE = "agentcanary_session"
LASTS = 12 * 3600
_SESSION, _FORM = "agentcanary.dashboard.session", "agentcanary.dashboard.form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in of one browser.

    Attributes:
        principal: Who signed in.
        nonce: Random; forms are bound to it.
    """

    principal: Principal
    nonce: str


class Sessions:
    """Makes and reads sessions.

    The cookie names the token by its id and is signed: it cannot be made by others, says nothing of the token, and is
    worth nothing once the token is configured no more.

    Args:
        secret: Of 32 bytes, the same in every worker.
        guard: Who is believed.
    """

    def __init__(self, secret: bytes, guard: Guard) -> None:
        self._cookies = URLSafeTimedSerializer(secret, salt=_SESSION)
        self._forms = URLSafeSerializer(secret, salt=_FORM)
        self._guard = guard

    def sign_in(self, request: Request, response: Response, principal: Principal) -> None:
        """Put a new session into the answer."""
        value = self._cookies.dumps([principal.id, secrets.token_urlsafe(16)])
        self._set(request, response, str(value), LASTS)

    def sign_out(self, request: Request, response: Response) -> None:
        """Take the session out of the browser."""
        self._set(request, response, "", 0)

    def of(self, request: Request) -> Session | None:
        """The session of a request, or None."""
        signed = request.cookies.get(COOKIE, "")
        if not signed or len(signed) > 512:
            return None
        try:
            principal_id, nonce = self._cookies.loads(signed, max_age=LASTS)
        except (BadSignature, ValueError, TypeError):
            return None
        principal = self._guard.by_id(str(principal_id))
        return None if principal is None else Session(principal=principal, nonce=str(nonce))

    def form_token(self, session: Session) -> str:
        """What each form of a session carries; worth nothing without the session's cookie, and as long as it."""
        return str(self._forms.dumps([session.principal.id, session.nonce]))

    def require_form_token(self, session: Session, token: object) -> None:
        """Refuse a form that this session was not given.

        Raises:
            ForbiddenError: Without the session's own token.
        """
        try:
            held = self._forms.loads(str(token))
        except (BadSignature, ValueError):
            held = None
        if held != [session.principal.id, session.nonce]:
            raise ForbiddenError("this form is not from this session, or too old; go back, load the page and try again")

    @staticmethod
    def _set(request: Request, response: Response, value: str, max_age: int) -> None:
        response.set_cookie(
            COOKIE,
            value,
            max_age=max_age,
            path=request.scope.get("root_path") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )


def require_same_site(request: Request) -> None:
    """Refuse a form that another site sent: browsers say where it comes from.

    Raises:
        ForbiddenError: If it comes from elsewhere.

    Source:
        Fetch Metadata Request Headers (W3C), ``Sec-Fetch-Site``; the Fetch standard, ``Origin``.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        # Browsers too old to say it send the origin of every form.
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign:
        raise ForbiddenError("this form was sent by another site; nothing was done")
