"""Thresholds against historical variance: A/A replays of history through engine and state machine.

``calibrate`` replays, ``Calibration`` says what came of it. Pure: the generator of random numbers is an argument.
"""

from __future__ import annotations

from agentcanary.calibration.calibrating import calibrate
from agentcanary.calibration.history import HistoryError
from agentcanary.calibration.result import Calibration

__all__ = ["Calibration", "HistoryError", "calibrate"]
