"""Our own conversation cookie, for browsers whose requests carry no id. Pure: the caller brings the id.

It is signed, so that nobody can choose an id, and is a session cookie: it ends with the browser's session.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from itsdangerous import BadSignature, Signer

from agentcanary.conversation.extractors import Scope, cookie_value
from agentcanary.conversation.identity import MAX_LENGTH, Problem, UnusableIdError, checked

_PURPOSE = "agentcanary.conversation"


@dataclass(frozen=True, slots=True)
class SignedCookie:
    """Reads and writes the cookie.

    Attributes:
        secret: The same in all workers.
        name: Name of the cookie.

    >>> cookie = SignedCookie("0123456789abcdef")
    >>> name, value = cookie.header("c-1", secure=True)
    >>> cookie({"headers": [(b"cookie", value.partition(b";")[0])]})
    'c-1'
    """

    secret: str = field(repr=False)
    name: str = "agentcanary"
    _signer: Signer = field(init=False, repr=False)
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_signer", Signer(self.secret, salt=_PURPOSE, key_derivation="hmac"))
        object.__setattr__(self, "_key", self.name.encode("latin-1"))

    def __call__(self, scope: Scope) -> str | None:
        """The id in a request's cookie, if it is there.

        Raises:
            UnusableIdError: If the signature is not ours.
        """
        value = cookie_value(scope, self._key)
        if value is None:
            return None
        if len(value) > 4 * MAX_LENGTH:
            raise UnusableIdError(Problem.TOO_LONG)
        try:
            return checked(self._signer.unsign(value))
        except BadSignature:
            raise UnusableIdError(Problem.BAD_SIGNATURE) from None

    def header(self, unit: str, *, secure: bool) -> tuple[bytes, bytes]:
        """The response header that gives an id to a browser.

        Args:
            unit: The id; made by us, so it needs no quoting.
            secure: True where the request came over TLS.
        """
        value = self._signer.sign(unit).decode()
        flags = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        return b"set-cookie", f"{self.name}={value}{flags}".encode("latin-1")


def is_browser(scope: Scope) -> bool:
    """True for an HTTP request of something that keeps cookies.

    Browsers send Fetch Metadata (``sec-fetch-mode``) over TLS and on localhost, and a user agent that begins with
    ``Mozilla/`` everywhere. To a client that drops cookies, each request would be a conversation of its own.
    """
    if scope["type"] != "http":
        return False
    return any(
        name == b"sec-fetch-mode" or (name == b"user-agent" and value.startswith(b"Mozilla/"))
        for name, value in scope["headers"]
    )
