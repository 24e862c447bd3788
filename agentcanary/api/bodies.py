"""Request bodies: capped, JSON, and nothing that could make the parser fail in another way than by saying so."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from agentcanary.api.problems import Problem

MAX_BODY = 1_048_576


async def read_json(request: Request, *, max_bytes: int = MAX_BODY) -> Any:
    """The JSON value in a body.

    Args:
        request: Its body has not been read.
        max_bytes: Larger ones are refused before they are read to their end.

    Raises:
        Problem: 413 too large, 415 no JSON by its type, 400 no JSON by its bytes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, f"the body must be JSON: content-type: application/json, got {kind[:60]!r}")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "the body must not be compressed")
    return parsed(await _read(request, max_bytes))


def parsed(body: bytes) -> Any:
    """The JSON value in some bytes.

    Raises:
        Problem: 400 with the reason.
    """
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None


async def _read(request: Request, max_bytes: int) -> bytes:
    too_large = Problem(413, f"the body must have at most {max_bytes} bytes; send less at once")
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > max_bytes):
        raise too_large
    parts, length = [], 0
    try:
        async for part in request.stream():
            length += len(part)
            if length > max_bytes:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise Problem(400, "the body ended before its time") from None
    return b"".join(parts)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number; write null for missing")
