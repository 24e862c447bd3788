"""Serves an ASGI application from a command, until Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from agentcanary.errors import AgentCanaryError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette


def serve(
    app: Starlette, *, host: str, port: int, ready: Callable[[str], None], for_seconds: float | None = None
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        app: The application.
        host: Address to listen at.
        port: 0 takes a free one.
        ready: Called with the URL as soon as it can be opened.
        for_seconds: End after this long.

    Raises:
        AgentCanaryError: If uvicorn is not installed, or the address cannot be had.
    """
    try:
        import uvicorn
    except ImportError:
        raise AgentCanaryError('the pages are served by uvicorn: pip install "agentcanary[dashboard]"') from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise AgentCanaryError(
                f"cannot listen at {host}:{port}: {error.strerror or error}; choose another one with --port"
            ) from None
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        with suppress(KeyboardInterrupt):  # How one leaves it.
            asyncio.run(_serve(server, listener, lambda: ready(url), for_seconds))


async def _serve(
    server: uvicorn.Server, listener: socket.socket, ready: Callable[[], None], for_seconds: float | None
) -> None:
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():
        await asyncio.sleep(0.02)
    if server.started:
        ready()
    if for_seconds is not None:
        await asyncio.wait([task], timeout=for_seconds)
        server.should_exit = True
    await task
