"""The pages: what an operator sees and does in a browser.

``app.mount("/canary", canary.dashboard())``, or ``agentcanary dashboard --store URL``. Needs the extra ``dashboard``.
Rendered on the server, complete without a script; a small script of ours keeps them fresh. Nothing is loaded from
elsewhere.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agentcanary.errors import AgentCanaryError

if TYPE_CHECKING:
    from agentcanary.dashboard.asgi import application
    from agentcanary.dashboard.source import Source

__all__ = ["Source", "application"]

# Imported when they are asked for: the drawing process needs none of it.
_MODULES = {"Source": "source", "application": "asgi"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("agentcanary"):
            raise
        raise AgentCanaryError(f"the pages need {error.name}: pip install 'agentcanary[dashboard]'") from None
    return getattr(module, name)
