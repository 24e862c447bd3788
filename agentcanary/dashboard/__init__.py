"""The pages: what an operator sees and does in a browser.

``app.mount("/canary", canary.dashboard())``, or ``agentcanary dashboard --store URL``. Needs the extra ``dashboard``.
Rendered on the server, complete without a script; a small script of ours keeps them fresh. Nothing is loaded from
elsewhere.
"""

from __future__ import annotations

from agentcanary.dashboard.application import application
from agentcanary.dashboard.source import Source

__all__ = ["Source", "application"]
