"""What went wrong, as ``application/problem+json``.

Source:
    RFC 9457, Problem Details for HTTP APIs; RFC 6750, section 3, for ``WWW-Authenticate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from agentcanary.errors import (
    AgentCanaryError,
    ConflictError,
    ForbiddenError,
    StoreError,
    TransitionError,
    UnauthenticatedError,
    UnknownError,
)

_STATUS: tuple[tuple[type[AgentCanaryError], int], ...] = (
    (UnauthenticatedError, 401),
    (ForbiddenError, 403),
    (UnknownError, 404),
    (TransitionError, 409),
    (ConflictError, 409),
    (StoreError, 503),
)
_RETRY_AFTER = "5"
PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Problem(Exception):  # noqa: N818 (it is what is sent: RFC 9457's own word)
    """Ends a request with a problem.

    Attributes:
        status: HTTP status.
        detail: What, which value, what instead; holds nothing secret.
        more: Further members of the problem.
    """

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer."""
        body = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        return JSONResponse(
            {**body, "detail": self.detail, **self.more},
            status_code=self.status,
            headers={**PRIVATE, **(headers or {})},
            media_type="application/problem+json",
        )


def problem_of(error: Exception) -> JSONResponse:
    """The answer for an error; what is ours to mend is told to our log, not to whoever asked."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, HTTPException):
        return Problem(error.status_code, error.detail).response(error.headers)
    for kind, status in _STATUS:
        if isinstance(error, kind):
            headers = {"www-authenticate": 'Bearer realm="agentcanary"'} if status == 401 else {}
            headers |= {"retry-after": _RETRY_AFTER} if status == 503 else {}
            return Problem(status, str(error)).response(headers)
    return Problem(500, "agentcanary failed; the application's log says how").response()
