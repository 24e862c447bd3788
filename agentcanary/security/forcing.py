"""Who may force an arm: testers with a signed token that expires, and peers that are trusted. Pure.

A tester sends the token in the header ``x-canary`` or, in a browser, in the cookie ``x-canary``. The plain value
``true`` is believed only from a trusted peer, or from everybody where ``security.trust_header`` says so.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from agentcanary_analysis.aggregates import Arm

HEADER = b"x-canary"
LONGEST = 30 * 86_400.0
_PURPOSE = "agentcanary.tester"
_PLAIN = b"true"
_COOKIE = b"x-canary="
_MAX_TOKEN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcingToken:
    """What a tester's token says.

    Attributes:
        agent: The agent for which it holds.
        name: Whose it is.
        arm: The arm that it forces.
        expires_at: Unix time in seconds.
    """

    agent: str
    name: str
    arm: Arm
    expires_at: float


class Forcing:
    """Tells which arm a request may force.

    Args:
        agent: Name of the agent.
        secret: Signs the tokens; None believes none.
        trust_header: True believes ``x-canary: true`` from everybody.
        trusted_peers: Addresses and networks from which it is believed.

    >>> forcing = Forcing("support", secret="0123456789abcdef")
    >>> token = forcing.token("ann", Arm.CANARY, expires_at=1000.0, now=0.0)
    >>> request = {"headers": [(b"x-canary", token.encode())]}
    >>> forcing.forced(request, now=999.0), forcing.forced(request, now=1000.0)
    (<Arm.CANARY: 'canary'>, None)
    """

    def __init__(
        self, agent: str, *, secret: str | None, trust_header: bool = False, trusted_peers: Sequence[str] = ()
    ) -> None:
        self._agent = agent
        self._trust_header = trust_header
        self._peers: list[IPv4Network | IPv6Network] = [ip_network(peer) for peer in trusted_peers]
        self._signer = None
        if secret is not None:
            kwargs = {"key_derivation": "hmac", "digest_method": sha256}
            self._signer = URLSafeSerializer(secret, salt=_PURPOSE, signer_kwargs=kwargs)

    def token(self, name: str, arm: Arm, *, expires_at: float, now: float) -> str:
        """A token for a tester.

        Args:
            name: Whose it is.
            arm: The arm that it forces.
            expires_at: Unix time in seconds, at most 30 days from now.
            now: Unix time in seconds.

        Raises:
            ValueError: If it would expire too late or at once, or there is no secret.
        """
        if not 0 < expires_at - now <= LONGEST:
            raise ValueError(f"a tester's token must expire within 30 days, got {expires_at - now:g} seconds from now")
        if self._signer is None:
            raise ValueError("a tester's token needs a secret that signs it")
        signed = self._signer.dumps([self._agent, name, arm.value, int(expires_at)])
        return signed if isinstance(signed, str) else signed.decode()

    def read(self, token: str | bytes, *, now: float) -> ForcingToken | None:
        """What a token says; None if it is not ours, of another agent, or expired."""
        if self._signer is None or len(token) > _MAX_TOKEN:
            return None
        try:
            agent, name, arm, expires_at = self._signer.loads(token)
            found = ForcingToken(agent=agent, name=name, arm=Arm(arm), expires_at=float(expires_at))
        except (BadData, ValueError, TypeError):
            return None
        return found if found.agent == self._agent and now < found.expires_at else None

    def forced(self, scope: MutableMapping[str, Any], *, now: float) -> Arm | None:
        """The arm that a request may force, or None.

        Args:
            scope: The ASGI scope of a connection.
            now: Unix time in seconds.
        """
        header, cookie = None, None
        for name, value in scope["headers"]:
            if name == HEADER:
                header = value
            elif name == b"cookie" and _COOKIE in value:
                cookie = value
        if header is not None:
            return self._believed(header, scope, now)
        if cookie is not None:
            for part in cookie.split(b";"):
                if part.strip().startswith(_COOKIE):
                    found = self.read(part.strip().removeprefix(_COOKIE), now=now)
                    return None if found is None else found.arm
        return None

    def _believed(self, value: bytes, scope: MutableMapping[str, Any], now: float) -> Arm | None:
        if value == _PLAIN:
            return Arm.CANARY if self._trust_header or self._is_trusted(scope.get("client")) else None
        found = self.read(value, now=now)
        return None if found is None else found.arm

    def _is_trusted(self, client: Sequence[Any] | None) -> bool:
        """True for an address in one of the networks; a Unix socket or an unknown client has none."""
        if not self._peers or not client:
            return False
        try:
            address = ip_address(client[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in peer for peer in self._peers)
