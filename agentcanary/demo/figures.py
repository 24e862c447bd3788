"""How the demo writes numbers and columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

from agentcanary_analysis.evidence import ArmSummary, Interval


def share(value: float) -> str:
    """A share in percent, never rounded up to 100: one in a thousand that is missing must show.

    >>> share(1.0), share(0.99996)
    ('100 %', '99.9 %')
    """
    return "100 %" if value == 1 else f"{math.floor(value * 1000) / 10:.1f} %"


def measured(arm: ArmSummary | None, unit: str) -> str:
    """The value of one arm: a rate, or a quantile or mean in its unit."""
    if arm is None or arm.value is None:
        return "–"
    if arm.events is not None:
        return f"{arm.value * 100:.1f} %"
    return f"{arm.value:.2f} {unit}".rstrip()


def change(relative: float | None) -> str:
    """A relative change in percent, with its sign.

    >>> change(0.1834), change(-0.5), change(None)
    ('+18 %', '−50 %', '–')
    """
    return "–" if relative is None else f"{_signed(relative)} %"


def interval(found: Interval | None) -> str:
    """Both ends of an interval of a relative change, in percent.

    >>> interval(Interval(low=-0.79, high=-0.43, level=0.95, method="any"))
    '−79 … −43 %'
    """
    return "–" if found is None else f"{_signed(found.low)} … {_signed(found.high)} %"


def e_value(log_e: float) -> str:
    """An e-value, from its natural logarithm: it may be larger than any float.

    >>> e_value(0.0), e_value(3.0), e_value(-9.0), e_value(2000.0)
    ('1.00', '20.1', '0.00', '4e868')
    """
    if log_e < math.log(999.5):
        e = math.exp(log_e)
        return f"{e:.2f}" if e < 9.995 else f"{e:.3g}"
    power = math.floor(log_e / math.log(10))
    leading = math.exp(log_e - power * math.log(10))
    return f"{min(leading, 9.0):.0f}e{power}"


def columns(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), gap: int = 2) -> list[str]:
    """Rows with their cells below each other, without blanks at their ends.

    Args:
        rows: Cells; a shorter row ends earlier.
        left: Columns that are aligned on the left; all others are on the right.
        gap: Blanks between two columns.

    >>> columns([["a", "10"], ["bcd", "9"]])
    ['a    10', 'bcd   9']
    """
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    aligned = (
        [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        for row in rows
    )
    return [(" " * gap).join(cells).rstrip() for cells in aligned]


def _signed(relative: float) -> str:
    if math.isinf(relative):
        return "∞"
    return f"{'−' if relative < 0 else '+'}{abs(relative) * 100:.0f}"
