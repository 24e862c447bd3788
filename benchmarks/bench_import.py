"""What ``import agentcanary`` costs, beside ``import starlette.applications``. Contract: at most 6 times as much.

Run: ``python benchmarks/bench_import.py``. Each import happens in an interpreter of its own; what an interpreter costs
that imports nothing is taken off. Prints one table and writes ``benchmarks/results/import.json``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from benchmarks.interleaved import keep, report

ROUNDS = 15
LIMIT = 6.0
STATEMENTS = {
    "nothing": "pass",
    "starlette.applications": "import starlette.applications",
    "agentcanary": "import agentcanary",
    "agentcanary: Canary, CanaryMiddleware": "from agentcanary import Canary, CanaryMiddleware",
}
HEAVY = ("numpy", "pandas", "scipy", "altair", "typer", "narwhals")


def interpreter(statement: str) -> float:
    """Nanoseconds of processor time of an interpreter that runs a statement."""
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    return taken * 1e9


def loaded(statement: str) -> list[str]:
    """Which of the heavy packages a statement loads."""
    script = f"{statement}; import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return found.stdout.split()


def main() -> None:
    """Measure, print, keep; exit with 1 beyond the limit."""
    for statement in STATEMENTS.values():
        interpreter(statement)
    found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    names = list(STATEMENTS)
    for number in range(ROUNDS):
        for position in range(len(names)):
            name = names[(position + number) % len(names)]
            found[name].append(interpreter(STATEMENTS[name]))
    kept = report("an interpreter", found, base="starlette.applications", count=1, packages=("starlette",))
    bare = found["nothing"]

    def over_bare(name: str) -> float:
        return statistics.median(one - other for one, other in zip(found[name], bare, strict=True))

    ratios = {name: over_bare(name) / over_bare("starlette.applications") for name in names[2:]}
    heavy = {name: loaded(STATEMENTS[name]) for name in names[2:]}
    for name, ratio in ratios.items():
        print(f"import {name}: {ratio:.2f} x starlette.applications, limit {LIMIT}; heavy packages: {heavy[name]}")
    keep("import", kept, ratio_to_starlette=ratios, limit=LIMIT, heavy=heavy)
    sys.exit(max(ratios.values()) > LIMIT or any(heavy.values()))


if __name__ == "__main__":
    main()
