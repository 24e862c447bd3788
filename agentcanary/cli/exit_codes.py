"""What a command's exit code says. Pure."""

from __future__ import annotations

from enum import IntEnum

from agentcanary.rollout import Phase, Rollout


class ExitCode(IntEnum):
    """Scripts may rely on these."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    ROLLBACK = 10
    HOLD = 11


GATE_HELP = "Exit code: 0 promoted, 10 rolled back or stopped, 11 not decided yet; 1 an error, 2 a mistake in the call."


def gate(rollout: Rollout) -> ExitCode:
    """What a script that waits for a rollout needs to know: promoted, taken back, or neither yet.

    A canary that a safety violation stopped is taken back, though the controller has yet to look.
    """
    if rollout.phase is Phase.ROLLED_BACK or rollout.stopped_at is not None:
        return ExitCode.ROLLBACK
    return ExitCode.DONE if rollout.phase is Phase.PROMOTED else ExitCode.HOLD
