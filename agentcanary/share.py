"""How much of a processor the recorder's thread may take from requests. Pure."""

from __future__ import annotations

# A process that uses less than this of one processor has time to spare, whatever the recorder takes.
_BUSY = 0.60
_IDLE_SHARE = 0.25
_LARGEST = 0.90
# Real seconds of backlog that double the share: an overload delays the verdict first, and then costs what it must.
_PATIENCE = 20.0


class Share:
    """An allowance of processor time that grows with real time and shrinks with what is spent.

    It holds one second's share at most, and owes at most as much: neither a quiet hour nor one long pass decides what
    happens in the next minute.

    Args:
        busy: Share of one processor while the process is busy, in (0, 1].
        now: Real seconds of a clock that never goes back.
        used: Seconds of processor that the process has used.
    """

    def __init__(self, busy: float, now: float, used: float) -> None:
        if not 0 < busy <= 1:
            raise ValueError(f"share must be a share of one processor in (0, 1], got {busy}")
        self._busy = busy
        self._now = now
        self._used = used
        self.allowance = busy

    def refill(self, now: float, used: float, waited: float) -> None:
        """Let the allowance grow.

        Args:
            now: Real seconds of the same clock.
            used: Seconds of processor that the process has used.
            waited: Real seconds for which the oldest batch has been waiting.

        >>> share = Share(0.1, now=0.0, used=0.0)
        >>> share.spend(0.1)
        >>> share.refill(0.5, used=0.5, waited=20.0)
        >>> share.allowance
        0.1
        """
        passed = now - self._now
        if passed <= 0:
            return
        idle = (used - self._used) / passed < _BUSY
        share = max(self._busy, _IDLE_SHARE) if idle else self._busy
        share = min(_LARGEST, share * (1 + waited / _PATIENCE))
        self.allowance = min(share, self.allowance + share * passed)
        self._now, self._used = now, used

    def spend(self, seconds: float) -> None:
        """Take seconds of processor from the allowance."""
        self.allowance = max(-self._busy, self.allowance - seconds)
