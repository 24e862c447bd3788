"""Bearer tokens with scopes: who asks, and what they may do.

Tokens are random and long, so that one SHA-256 of each is kept and compared: nobody can find a token by trying, and a
configuration that leaks gives none away. Where no token is configured, everything is closed.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from agentcanary.config.values import Scope, Security
from agentcanary.errors import ConfigError, ForbiddenError, UnauthenticatedError

SHORTEST_TOKEN = 20
_LONGEST_TOKEN = 1024
# Each opens what its name says; AGENTCANARY_TOKEN opens everything.
ENVIRONMENT: Mapping[str, frozenset[Scope]] = {
    "AGENTCANARY_TOKEN": frozenset(Scope),
    "AGENTCANARY_READ_TOKEN": frozenset({Scope.READ}),
    "AGENTCANARY_OPERATE_TOKEN": frozenset({Scope.READ, Scope.OPERATE}),
    "AGENTCANARY_RECORD_TOKEN": frozenset({Scope.RECORD}),
}


class WithHeaders(Protocol):
    """A request or a WebSocket, of Starlette or of whatever has its headers by name in lower case."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who presented a token.

    Attributes:
        name: As configured; the actor in the audit log.
        scopes: What it may do.
        id: Stands for the token where the token itself must not be, such as in a session: 16 hexadecimal digits,
            another one for another token of the same name.
    """

    name: str
    scopes: frozenset[Scope]
    id: str

    def may(self, scope: Scope) -> bool:
        """True when it has the scope."""
        return scope in self.scopes


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes = field(repr=False)
    principal: Principal


class Guard:
    """Tells who presents a token, and refuses who may not.

    Args:
        tokens: Name, scopes and SHA-256 (32 bytes) of each token.

    Raises:
        ConfigError: If two of them are the same token.

    >>> guard = Guard([("ci", {Scope.READ}, digest_of("a-token-of-many-characters"))])
    >>> guard.principal_of("a-token-of-many-characters").name
    'ci'
    >>> guard.principal_of("another-token-of-many-characters") is None
    True
    """

    def __init__(self, tokens: Iterable[tuple[str, Iterable[Scope], bytes]] = ()) -> None:
        self._known: list[_Known] = []
        for name, scopes, digest in tokens:
            same = self._find(digest)
            if same is not None:
                raise ConfigError([f"security.tokens: {name!r} is the same token as {same.name!r}; make another one"])
            # Who acts must see what they act on.
            given = frozenset(scopes)
            given |= {Scope.READ} if Scope.OPERATE in given else set()
            principal = Principal(name=name, scopes=given, id=sha256(b"principal\x00" + digest).hexdigest()[:16])
            self._known.append(_Known(digest, principal))

    @classmethod
    def configured(cls, security: Security, environment: Mapping[str, str]) -> Guard:
        """The guard of a configuration, with the tokens that stand in the environment.

        A token whose variable is not set or empty is closed.

        Args:
            security: The section of the configuration.
            environment: Usually ``os.environ``. ``AGENTCANARY_TOKEN`` has every scope;
                ``AGENTCANARY_READ_TOKEN``, ``AGENTCANARY_OPERATE_TOKEN`` and ``AGENTCANARY_RECORD_TOKEN`` have one.

        Raises:
            ConfigError: If a token is too short, or given twice.
        """
        found: list[tuple[str, Iterable[Scope], bytes]] = []
        for token in security.tokens:
            if token.sha256 is not None:
                found.append((token.name, token.scopes, bytes.fromhex(token.sha256)))
            elif token.env is not None and environment.get(token.env, ""):
                found.append((token.name, token.scopes, _digest_in(environment, token.env)))
        named = {token.env for token in security.tokens}
        for variable, scopes in ENVIRONMENT.items():
            if variable not in named and environment.get(variable, ""):
                name = variable.removeprefix("AGENTCANARY_").lower()
                found.append((name, scopes, _digest_in(environment, variable)))
        return cls(found)

    @property
    def closed(self) -> bool:
        """True when no token opens anything."""
        return not self._known

    def principal_of(self, token: str) -> Principal | None:
        """Who a token belongs to, or None. Takes as long for a wrong one as for a right one."""
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        return self._find(digest_of(token))

    def by_id(self, principal_id: str) -> Principal | None:
        """Who has this ``Principal.id``, or None when the token is configured no more: for sessions."""
        presented = principal_id.encode("utf-8", "surrogatepass")
        found = None
        for known in self._known:
            if hmac.compare_digest(known.principal.id.encode(), presented):
                found = known.principal
        return found

    def authenticate(self, request: WithHeaders, scope: Scope) -> Principal:
        """Who makes a request that needs a scope.

        Args:
            request: With the header ``authorization: Bearer TOKEN``.
            scope: What the request does.

        Raises:
            UnauthenticatedError: Without a token, or with one that is not known.
            ForbiddenError: With one that does not have the scope.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise UnauthenticatedError("this needs the header: authorization: Bearer TOKEN")
        principal = self.principal_of(token.strip())
        if principal is None:
            raise UnauthenticatedError("this token is not known")
        self.require(principal, scope)
        return principal

    @staticmethod
    def require(principal: Principal, scope: Scope) -> None:
        """Refuse who does not have a scope.

        Raises:
            ForbiddenError: Naming the scope.
        """
        if not principal.may(scope):
            has = ", ".join(sorted(principal.scopes)) or "none"
            raise ForbiddenError(f"the token {principal.name!r} has the scopes {has}; this needs {scope.value}")

    def _find(self, digest: bytes) -> Principal | None:
        found = None
        for known in self._known:
            # No early end: the time tells nothing of which one it was.
            if hmac.compare_digest(known.digest, digest):
                found = known.principal
        return found


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token, which is what is kept of it.

    >>> digest_of("abc").hex()[:16]
    'ba7816bf8f01cfea'
    """
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def new_token() -> str:
    """A fresh random token: 256 bits, 46 characters, with a prefix by which scanners for secrets find it.

    >>> len(new_token()), new_token()[:3]
    (46, 'ac_')
    """
    return f"ac_{secrets.token_urlsafe(32)}"


def _digest_in(environment: Mapping[str, str], variable: str) -> bytes:
    token = environment[variable].strip()
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN:
        rule = f"must be a token of {SHORTEST_TOKEN} to {_LONGEST_TOKEN} characters"
        raise ConfigError([f"the environment's {variable} {rule}, got {len(token)}; make one with: agentcanary token"])
    return digest_of(token)
