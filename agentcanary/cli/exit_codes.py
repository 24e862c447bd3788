"""What a command's exit code says. Pure."""

from __future__ import annotations

from enum import IntEnum

from agentcanary.rollout import Rollout
from agentcanary.status.conclusion import conclusion


class ExitCode(IntEnum):
    """Scripts may rely on these."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    ROLLBACK = 10
    HOLD = 11


_CODES = {"promote": ExitCode.DONE, "rollback": ExitCode.ROLLBACK, "hold": ExitCode.HOLD}
GATE_HELP = "Exit code: 0 promoted, 10 rolled back or stopped, 11 not decided yet; 1 an error, 2 a mistake in the call."


def gate(rollout: Rollout) -> ExitCode:
    """What a script that waits for a rollout needs to know: promoted, taken back, or neither yet."""
    return _CODES[conclusion(rollout)]
