"""How numbers are written for people: shares, changes, e-values, counts. Pure, standard library only."""

from __future__ import annotations

import math

from agentcanary_analysis.metrics import Kind, Metric

_LARGE = math.log(1e6)
_LN_10 = math.log(10)


def value(number: float | None, kind: Kind, unit: str = "") -> str:
    """A metric's value in one arm.

    Args:
        number: Rate, mean, quantile or count; infinite where turns never ended.
        kind: Of the metric.
        unit: Written behind numbers that are no share: ``s``.

    >>> value(0.0612, Kind.PROPORTION), value(2.3456, Kind.QUANTILE, "s"), value(None, Kind.MEAN)
    ('6.1 %', '2.35 s', '–')
    >>> value(0.0123, Kind.QUANTILE, "s"), value(1003.4, Kind.MEAN)
    ('12.3 ms', '1,003')
    """
    if number is None:
        return "–"
    if math.isinf(number):
        return "never"
    if kind is Kind.PROPORTION:
        return f"{number * 100:.1f} %"
    if unit == "s" and number < 0.1:
        return f"{number * 1000:.3g} ms"
    shown = f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.3g}"
    return f"{shown} {unit}".rstrip()


def change(relative: float | None) -> str:
    """A relative change in percent with its sign.

    >>> change(0.1834), change(-0.5), change(None), change(24.0), change(float("inf"))
    ('+18 %', '−50 %', '–', '× 25', 'without limit')

    From three times as much on it is told as a multiple.
    """
    if relative is None:
        return "–"
    if math.isinf(relative):
        return "without limit"
    if relative >= 2:
        return f"× {1 + relative:.3g}"
    percent = relative * 100
    written = f"{abs(percent):.1f}" if abs(percent) < 9.95 else f"{abs(percent):.0f}"
    return f"{'−' if percent < 0 else '+'}{written.removesuffix('.0')} %"


def e_value(log_e: float) -> str:
    """An e-value, from its natural logarithm: it may be larger than any float.

    >>> e_value(0.0), e_value(3.0), e_value(-9.0), e_value(2000.0)
    ('1', '20.1', '0.000123', '1e868')
    """
    if log_e > _LARGE:
        return f"1e{math.floor(log_e / _LN_10)}"
    e = math.exp(log_e)
    return "0" if e < 1e-6 else f"{e:.3g}"


def count(number: int) -> str:
    """A whole number with separators.

    >>> count(12000)
    '12,000'
    """
    return f"{number:,}"


def unit_of(metric: Metric) -> str:
    """What is written behind a metric's values: turns are measured in seconds, other units are the user's own.

    >>> from agentcanary_analysis.metrics import ERROR_RATE, P95_LATENCY
    >>> unit_of(P95_LATENCY), unit_of(ERROR_RATE)
    ('s', '')
    """
    return "s" if metric.outcome in ("turn.latency", "turn.time_to_first_byte") else ""
