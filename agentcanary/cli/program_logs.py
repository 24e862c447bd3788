"""Where log lines of the command go: standard error, so that standard output holds data only.

The library never configures structlog. The command is an application, and does so, unless it runs inside another one.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_program = False


def this_is_the_program() -> None:
    """Called by the entry point: nobody else owns this process and its logs."""
    global _program
    _program = True


def log_to_stderr() -> None:
    """Send structlog's lines to standard error, if this process is ours. Imports structlog: call it when needed."""
    import structlog

    if not _program or structlog.is_configured():
        return

    def logger(*_: Any) -> Any:
        return structlog.PrintLogger(sys.stderr)

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR")),
        ],
        logger_factory=logger,
    )
