"""The JSON API: outcomes in, rollouts out, actions; mountable without the pages, behind bearer tokens.

``app.mount("/canary", canary.api())``. Every answer that is no success is a problem in the form of RFC 9457.
"""

from __future__ import annotations

from agentcanary.api.application import application, routes
from agentcanary.api.host import Host
from agentcanary.api.problems import Problem, problem_of

__all__ = ["Host", "Problem", "application", "problem_of", "routes"]
