"""Hypothesis for every run: 60 examples a law, and no deadline: on a busy machine the time of one says nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("every run", deadline=None, max_examples=60)
settings.load_profile("every run")
