"""Draws charts in a process of its own: ``python -m agentcanary.dashboard.drawing``.

A chart costs a few hundred milliseconds of computing, which would be taken from the requests of the agent. One JSON
object a line comes in and one goes out; the process ends when nobody asks for a while, or its parent is gone.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping
from typing import Any, TextIO

_IDLE = 120.0
_NICE = 10


def draw(data: Mapping[str, Any], *, theme: str, width: int) -> dict[str, str]:
    """One chart as SVG, and what it shows in words.

    Args:
        data: Of a ``Picture``.
        theme: ``light`` or ``dark``.
        width: In pixels.

    Raises:
        ValueError: If there is no such kind of chart, or nothing to draw.
    """
    from agentcanary_analysis import charts

    match data["kind"]:
        case "forest":
            chart = charts.forest([charts.compared(line) for line in data["lines"]], theme=theme, width=width, title="")
        case "evidence":
            chart = charts.evidence_over_time(_points(data), name=data["name"], theme=theme, width=width, title="")
        case "latency":
            arms = {arm: {int(number): int(n) for number, n in bins} for arm, bins in data["arms"].items()}
            chart = charts.latency_distributions(arms, quantile=data["quantile"], theme=theme, width=width, title="")
        case "split":
            splits = [
                charts.Split(weight=one["weight"], stable=one["stable"], canary=one["canary"]) for one in data["splits"]
            ]
            chart = charts.sample_ratio(splits, theme=theme, width=width, title="")
        case kind:
            raise ValueError(f"no chart is called {kind!r}")
    return {"svg": charts.to_svg(chart, transparent=True), "words": charts.describe(chart)}


def _points(data: Mapping[str, Any]) -> list[Any]:
    from agentcanary_analysis.analysis_result import EvidencePoint, Scale

    return [
        EvidencePoint(
            at=point["at"],
            conversations=point["conversations"],
            scale=Scale.LOG_E,
            harm=None if point["harm"] is None else float(point["harm"]),
            safe=None if point["safe"] is None else float(point["safe"]),
            harm_boundary=data["harm_needed"],
            safe_boundary=data["safe_needed"],
        )
        for point in data["points"]
    ]


def answer(line: str) -> str:
    """The answer to one line: a chart, or why there is none."""
    asked = json.loads(line)
    try:
        found = draw(asked["data"], theme=asked["theme"], width=asked["width"])
    except Exception as error:  # noqa: BLE001 (a chart that cannot be drawn is no reason to end)
        found = {"error": f"{type(error).__qualname__}: {error}"}
    return json.dumps(found)


def serve(asked: TextIO, answers: TextIO, *, idle: float = _IDLE) -> None:
    """Answer line after line until the parent is gone, or nothing was asked for ``idle`` seconds."""
    while select.select([asked], [], [], idle)[0]:
        line = asked.readline()
        if not line:
            return
        answers.write(answer(line) + "\n")
        answers.flush()


if __name__ == "__main__":
    os.nice(_NICE)
    # What a library prints must not come between the answers.
    answers_out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers_out)
