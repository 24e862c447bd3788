"""Hypothesis without a deadline: on a busy machine the time of one example says nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")
