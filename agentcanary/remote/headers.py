"""The headers that are handed on to another server, and back. Pure.

Source:
    RFC 9110, 7.6.1: a proxy takes out ``Connection``, what it names, and what concerns one connection only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# What a WebSocket client makes anew for each connection.
_HANDSHAKE = frozenset(
    {b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-protocol"}
)
_CANARY = b"x-canary"


def handed_on(scope: Mapping[str, Any], *, canary: bool) -> Headers:
    """The headers of a request as the other server gets them.

    Args:
        scope: ASGI scope of the request.
        canary: True adds ``x-canary: true``; what the client said of that is taken out either way, so that nobody
            gets to the canary past the assignment.

    >>> scope = {"headers": [(b"host", b"a"), (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"accept", b"*/*")]}
    >>> handed_on(scope | {"client": ("10.0.0.7", 5), "scheme": "https"}, canary=True)[:2]
    [(b'accept', b'*/*'), (b'x-canary', b'true')]
    """
    headers: Headers = scope["headers"]
    kept = [(name, value) for name, value in _end_to_end(headers) if name not in (b"host", _CANARY, *_HANDSHAKE)]
    if canary:
        kept.append((_CANARY, b"true"))
    before = [value for name, value in kept if name == b"x-forwarded-for"]
    kept = [(name, value) for name, value in kept if name != b"x-forwarded-for"]
    client = scope.get("client")
    if client:
        before.append(str(client[0]).encode())
    if before:
        kept.append((b"x-forwarded-for", b", ".join(before)))
    names = {name for name, _ in kept}
    host = next((value for name, value in headers if name == b"host"), None)
    if host is not None and b"x-forwarded-host" not in names:
        kept.append((b"x-forwarded-host", host))
    if b"x-forwarded-proto" not in names:
        kept.append((b"x-forwarded-proto", str(scope.get("scheme", "http")).encode()))
    return kept


def handed_back(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a response as the client gets them, in lower case as ASGI wants them.

    >>> handed_back([(b"Content-Type", b"text/plain"), (b"Transfer-Encoding", b"chunked")])
    [(b'content-type', b'text/plain')]
    """
    return _end_to_end([(name.lower(), value) for name, value in headers])


def _end_to_end(headers: Headers) -> Headers:
    named = {option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")}
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP and name not in named]
