"""Canary releases for AI agents, inside the agent's own Python process.

Names are loaded at their first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentcanary.assignment import Assignment, Reason
    from agentcanary.calibration import Calibration, HistoryError, calibrate
    from agentcanary.canary import Canary
    from agentcanary.clock import AcceleratedClock, Clock, SystemClock
    from agentcanary.config import Config, load_config, parse_config
    from agentcanary.context import current, current_assignment, current_version, outbound_headers
    from agentcanary.errors import AgentCanaryError, ConfigError, ConflictError, StoreError, TransitionError
    from agentcanary.middleware import CanaryMiddleware
    from agentcanary.outcomes import Judge, Outcome, TurnOutcome
    from agentcanary.status.report import report
    from agentcanary_analysis.aggregates import Arm

_WHERE = {
    "AcceleratedClock": "agentcanary.clock",
    "AgentCanaryError": "agentcanary.errors",
    "Arm": "agentcanary_analysis.aggregates",
    "Assignment": "agentcanary.assignment",
    "Calibration": "agentcanary.calibration",
    "Canary": "agentcanary.canary",
    "CanaryMiddleware": "agentcanary.middleware",
    "Clock": "agentcanary.clock",
    "Config": "agentcanary.config",
    "ConfigError": "agentcanary.errors",
    "ConflictError": "agentcanary.errors",
    "HistoryError": "agentcanary.calibration",
    "Judge": "agentcanary.outcomes",
    "Outcome": "agentcanary.outcomes",
    "Reason": "agentcanary.assignment",
    "StoreError": "agentcanary.errors",
    "SystemClock": "agentcanary.clock",
    "TransitionError": "agentcanary.errors",
    "TurnOutcome": "agentcanary.outcomes",
    "calibrate": "agentcanary.calibration",
    "current": "agentcanary.context",
    "current_assignment": "agentcanary.context",
    "current_version": "agentcanary.context",
    "load_config": "agentcanary.config",
    "outbound_headers": "agentcanary.context",
    "parse_config": "agentcanary.config",
    "report": "agentcanary.status.report",
}

__all__ = [
    "AcceleratedClock",
    "AgentCanaryError",
    "Arm",
    "Assignment",
    "Calibration",
    "Canary",
    "CanaryMiddleware",
    "Clock",
    "Config",
    "ConfigError",
    "ConflictError",
    "HistoryError",
    "Judge",
    "Outcome",
    "Reason",
    "StoreError",
    "SystemClock",
    "TransitionError",
    "TurnOutcome",
    "calibrate",
    "current",
    "current_assignment",
    "current_version",
    "load_config",
    "outbound_headers",
    "parse_config",
    "report",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
