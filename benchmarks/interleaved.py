"""Times variants in one run: each in every round, in changing order, so that a machine's drift hits all alike."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def measure(variants: Mapping[str, Callable[[int], None]], *, count: int, rounds: int) -> dict[str, list[float]]:
    """Nanoseconds of processor time for one operation, by variant and round.

    Args:
        variants: Functions that run their operation so many times.
        count: Operations in a round.
        rounds: Rounds; the first operations of each variant are a warm-up besides.
    """
    names = list(variants)
    for name in names:
        variants[name](max(1, count // 4))
    gc.collect()
    gc.freeze()
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for position in range(len(names)):
            name = names[(position + number) % len(names)]
            begun = time.process_time_ns()
            variants[name](count)
            found[name].append((time.process_time_ns() - begun) / count)
    gc.unfreeze()
    return found


def report(
    title: str, found: Mapping[str, list[float]], *, base: str, count: int, packages: tuple[str, ...]
) -> dict[str, Any]:
    """Print one table and return what is kept: spread, and the ratio to ``base`` within each round."""
    print(f"{title}\n{'variant':44s} {'min':>10s} {'median':>10s} {'max':>10s} ns   x {base}: min/median/max")
    rows = []
    for name, times in found.items():
        ratios = [one / other for one, other in zip(times, found[base], strict=True)]
        row = {
            "variant": name,
            "n": count,
            "rounds": len(times),
            "ns": {"min": min(times), "median": statistics.median(times), "max": max(times)},
            "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        }
        rows.append(row)
        print(
            f"{name:44s} {min(times):10.0f} {statistics.median(times):10.0f} {max(times):10.0f}      "
            f"{min(ratios):.2f}/{statistics.median(ratios):.2f}/{max(ratios):.2f}"
        )
    return {
        "title": title,
        "base": base,
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=RESULTS.parent
        ).stdout.strip(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "variants": rows,
    }


def keep(name: str, *reports: Mapping[str, Any], **more: Any) -> None:
    """Write ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"reports": reports, **more}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
