"""A calibration as a piece of HTML, for notebooks. Pure; every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from agentcanary.plan import HOUR

if TYPE_CHECKING:
    from agentcanary.calibration.rates import Rate
    from agentcanary.calibration.result import Calibration


def page(calibration: Calibration) -> str:
    """The outcome in words, the detection table, the advice, and what is not known."""
    detection = [
        (
            one.metric or "harmless",
            f"× {one.ratio:g}" + (" (tolerated)" if one.tolerated and one.metric else ""),
            _share(one.rolled_back),
            _share(one.promoted),
            "–" if one.hours is None else f"{one.hours:.0f} h",
        )
        for one in calibration.detection
    ]
    advice = [(one.metric, f"{one.own:g}", f"{one.recommended:g}", one.reason) for one in calibration.margins]
    advice += [
        (f"stage {one.name}", f"{one.own / HOUR:g} h", f"{one.recommended / HOUR:g} h", one.reason)
        for one in calibration.stages
    ]
    alpha = calibration.alpha
    advice.append(("alpha", f"{alpha.own:g}", f"{alpha.recommended:g}", alpha.reason))
    return "".join(
        [
            "<div>",
            *(f"<p>{escape(sentence)}</p>" for sentence in calibration.sentences()),
            _table(("canary", "how bad", "rolled back", "promoted", "median until rolled back"), detection),
            _table(("setting", "now", "recommended", "why"), advice),
            _list("Not known from this history", calibration.unknown),
            _list("Notes", calibration.notes),
            "</div>",
        ]
    )


def _share(rate: Rate) -> str:
    return f"{rate.share:.0%} ({rate.low:.0%}–{rate.high:.0%})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<p><b>{escape(title)}</b></p><ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
