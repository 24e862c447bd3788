"""Reports: one result as HTML, Markdown, JSON, a frame, in a terminal and in a notebook."""

from __future__ import annotations

from agentcanary_analysis.report.course import Course, Step
from agentcanary_analysis.report.report import Report

__all__ = ["Course", "Report", "Step"]
