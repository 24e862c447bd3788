"""Ends this process when the one that started it is gone, however that ended."""

from __future__ import annotations

import os
import signal
import sys
import threading


def hold() -> None:
    """Terminate this process as soon as its standard input ends; the demo holds the other end of that pipe."""
    threading.Thread(target=_wait, name="agentcanary-demo-leash", daemon=True).start()


def _wait() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
