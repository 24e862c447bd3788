"""What of ours is mounted in the application: its paths are no turns of conversations.

A request for the API that names a conversation would else be a turn of that conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MARK = "agentcanary_is_ours"
_DEEPEST = 50


def is_ours(app: Any) -> None:
    """Mark an application as ours.

    Args:
        app: An ASGI application that takes attributes.
    """
    setattr(app, _MARK, True)


def paths_of_ours(app: Any) -> list[str]:
    """The beginnings of the paths below which applications of ours are mounted, each with a slash at its end.

    Args:
        app: The application around which the middleware lies, as Starlette builds it: applications inside
            applications (``app``), at last one with ``routes``, whose mounts have a ``path`` and an ``app``.

    >>> from starlette.applications import Starlette
    >>> from starlette.routing import Mount
    >>> ours = Starlette()
    >>> is_ours(ours)
    >>> paths_of_ours(Starlette(routes=[Mount("/ops", routes=[Mount("/canary", ours)])]))
    ['/ops/canary/']
    """
    return sorted(set(_found(app, "", _DEEPEST)))


def _found(app: Any, prefix: str, deeper: int) -> Iterator[str]:
    for _ in range(_DEEPEST):
        if getattr(app, _MARK, False):
            yield f"{prefix.rstrip('/')}/"
            return
        if hasattr(app, "routes"):
            break
        app = getattr(app, "app", None)
    for route in getattr(app, "routes", None) or ():
        path = getattr(route, "path", None)
        # Of a mount's path only the part before a parameter is known beforehand.
        if deeper and isinstance(path, str) and hasattr(route, "app") and "{" not in path:
            yield from _found(route.app, prefix + path, deeper - 1)
