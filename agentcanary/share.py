"""How much of a processor the recorder's thread may take from requests. Pure."""

from __future__ import annotations

_LARGEST = 0.90
# Real seconds of backlog that double the share: an overload delays the verdict first, and then costs what it must.
_PATIENCE = 20.0


class Share:
    """An allowance of processor time that grows with real time and shrinks with what is spent.

    It holds one second's share at most, and owes at most as much: neither a quiet hour nor one long pass decides what
    happens in the next minute.

    Args:
        share: Share of one processor, in (0, 1].
        now: Real seconds of a clock that never goes back.
    """

    def __init__(self, share: float, now: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be a share of one processor in (0, 1], got {share}")
        self._share = share
        self._refilled = now
        self.allowance = share

    def refill(self, now: float, waited: float) -> None:
        """Let the allowance grow.

        Args:
            now: Real seconds of the same clock.
            waited: Real seconds for which the oldest batch has been waiting.

        >>> share = Share(0.1, now=0.0)
        >>> share.spend(0.1)
        >>> share.refill(0.5, waited=20.0)
        >>> share.allowance
        0.1
        """
        share = min(_LARGEST, self._share * (1 + waited / _PATIENCE))
        self.allowance = min(share, self.allowance + share * (now - self._refilled))
        self._refilled = now

    def spend(self, seconds: float) -> None:
        """Take seconds of processor from the allowance."""
        self.allowance = max(-self._share, self.allowance - seconds)
