"""The events that a notification target may choose are those that there are."""

from __future__ import annotations

import ast
from pathlib import Path

import agentcanary
from agentcanary.config.values import EVENTS

PACKAGE = Path(agentcanary.__file__).parent
TELLING = {"_notify": 0, "tell": 2, "mention": 2}


def told() -> set[str]:
    """The events in the calls that tell people something, in what decides."""
    found: set[str] = set()
    for name in ("transitions.py", "state_machine.py"):
        for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TELLING:
                found |= constants(node.args[TELLING[node.func.id]])
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "event":
                found |= constants(node.value)
    return found


def constants(node: ast.AST) -> set[str]:
    inside = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
    return {value for value in inside if isinstance(value, str)}


def test_every_event_can_be_chosen_and_there_is_none_that_never_happens() -> None:
    assert set(EVENTS) == told() - {"safety"}
