"""One POST, one connection: the least that the demo's users need of HTTP/1.1.

A pooling client holds each user to one of its connections, hence to one worker process, and costs a processor more
than the agent does. Here every turn is a new connection, as behind a load balancer: it goes to either worker.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

_END_OF_HEAD = b"\r\n\r\n"
_CRLF = b"\r\n"


class Response(NamedTuple):
    """What came back.

    Attributes:
        status: HTTP status.
        body: Of it, as much as arrived.
        complete: False when the body broke off.
    """

    status: int
    body: bytes
    complete: bool


async def post(port: int, path: str, body: bytes) -> Response:
    """The response to JSON that is posted to a server on this machine.

    Args:
        port: Of the server.
        path: Of the resource.
        body: JSON.

    Raises:
        OSError: If the server cannot be reached.
        ValueError: If the response is not HTTP.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        return parse(await reader.read())
    finally:
        writer.close()


def parse(received: bytes) -> Response:
    r"""The response in all that a server sent until it closed the connection.

    Raises:
        ValueError: If it is not HTTP.

    >>> parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
    Response(status=200, body=b'hi', complete=False)
    """
    head, end, body = received.partition(_END_OF_HEAD)
    start, *lines = head.split(_CRLF)
    if not end or not start.startswith(b"HTTP/1."):
        raise ValueError(f"not an HTTP response: {received[:40]!r}")
    status = int(start.split(b" ")[1])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if headers.get(b"transfer-encoding") == b"chunked":
        return Response(status, *_unchunked(body))
    return Response(status, body, len(body) == int(headers.get(b"content-length", b"-1")))


def _unchunked(body: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(_CRLF)
        length = int(size, 16)
        if length == 0:
            return b"".join(parts), True
        parts.append(rest[:length])
        body = rest[length + len(_CRLF) :]
    return b"".join(parts), False
