"""One sticky decision at 5 %, beside the SDKs that teams use for it. Contract: at most 1.5 µs.

Run: ``python benchmarks/bench_assignment.py``. Prints one table and writes ``benchmarks/results/assignment.json``.
Every decision is for another conversation. The SDKs hold their rule in memory; none asks a server.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

from growthbook import GrowthBook
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from agentcanary.assignment import RolloutView, assign, bucket, place
from benchmarks.interleaved import keep, measure, report

COUNT, ROUNDS, LIMIT_NS = 5_000, 25, 1500.0
VIEW = RolloutView(
    agent="support",
    rollout="support-0123456789",
    salt=b"0123456789abcdef0123456789abcdef",
    stable="support-v1",
    canary="support-v2",
    epoch=0,
    weight=0.05,
    max_weight=0.05,
    open=True,
)
UNITS = [f"conversation-{number * 2654435761 % 2**32:08x}" for number in range(50_000)]


def repeated(decide: Callable[[str], object]) -> Callable[[int], None]:
    """A function that decides for so many conversations, each another one."""
    units = itertools.cycle(UNITS)

    def run(count: int) -> None:
        for _ in range(count):
            decide(next(units))

    return run


def growthbook_decision() -> Callable[[str], object]:
    """GrowthBook's, with the rule of a 5 % rollout that is sticky by its hash."""
    rule = {"variations": ["support-v1", "support-v2"], "weights": [0.95, 0.05], "hashAttribute": "id", "key": "s"}
    sdk = GrowthBook(features={"support": {"defaultValue": "support-v1", "rules": [rule]}})

    def decide(unit: str) -> object:
        sdk.set_attributes({"id": unit})
        return sdk.eval_feature("support").value

    return decide


def openfeature_decision() -> Callable[[str], object]:
    """OpenFeature's own cost, with its provider in memory, which holds a value and draws nothing."""
    api.set_provider(InMemoryProvider({"support": InMemoryFlag("v1", {"v1": "support-v1", "v2": "support-v2"})}))
    client = api.get_client()
    return lambda unit: client.get_string_value("support", "support-v1", EvaluationContext(targeting_key=unit))


def main() -> None:
    """Measure, print, keep; exit with 1 beyond the limit."""
    variants = {
        "agentcanary: place()": repeated(lambda unit: place(VIEW, unit, unit, 10.0, True)),
        "agentcanary: bucket() and assign()": repeated(
            lambda unit: assign(VIEW, unit, bucket(VIEW.salt, unit), now=10.0, fresh=True)
        ),
        "growthbook": repeated(growthbook_decision()),
        "openfeature-sdk, without any draw": repeated(openfeature_decision()),
        "nothing": repeated(lambda _: None),
    }
    found = measure(variants, count=COUNT, rounds=ROUNDS)
    kept = report(
        "one sticky decision at 5 %",
        found,
        base="agentcanary: place()",
        count=COUNT,
        packages=("growthbook", "openfeature-sdk"),
    )
    taken = min(found["agentcanary: place()"]) - min(found["nothing"])
    print(f"one assignment: {taken:.0f} ns, limit {LIMIT_NS:.0f} ns")
    keep("assignment", kept, assignment_ns=round(taken), limit_ns=LIMIT_NS)
    sys.exit(taken > LIMIT_NS)


if __name__ == "__main__":
    main()
