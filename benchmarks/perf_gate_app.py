"""The application that the performance gate measures: the real middleware with everything that runs beside it.

``factory`` wraps a bare application in ``CanaryMiddleware`` with a ``Canary`` on a new SQLite file: a rollout at 5 %,
past its hand-over; pins, snapshot and recorder active. The controller is left out, as it runs in one worker of many
and not on the path of requests.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from opentelemetry.trace import TracerProvider

from agentcanary.canary import Canary
from agentcanary.config import parse_config
from agentcanary.middleware import CanaryMiddleware
from agentcanary.security import new_salt
from agentcanary.state_machine import new_rollout
from agentcanary.transitions import enter

CONFIGURATION = """
agent: support
stable: support-v1
canary: support-v2
controller: false
store: sqlite:///{folder}/canary.sqlite3
canary_stages:
  - {{name: initial, weight: 0.05, duration_minutes: 30, min_requests: 50}}
  - {{name: full, weight: 1.0, duration_minutes: 0}}
"""


def factory(app: Any, tracer_provider: TracerProvider | None = None) -> CanaryMiddleware:
    """The application inside the middleware, on a rollout of its own that is a minute old."""
    folder = Path(tempfile.mkdtemp(prefix="agentcanary-gate-"))
    config = parse_config(CONFIGURATION.format(folder=folder))
    canary = Canary(config, tracer_provider=tracer_provider)
    begun = time.time() - 60.0
    rollout = new_rollout(config.agent, config.stable, "support-v2", config.plan, now=begun, new_salt=new_salt())
    canary.store.start(enter(rollout, 0, begun, "benchmark", "", {}).rollout)

    def stop() -> None:
        canary.stop_blocking()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return CanaryMiddleware(app, canary=canary)
