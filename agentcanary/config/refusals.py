"""Mistakes in our own words, for pydantic to place. Pure."""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def refused(text: str) -> PydanticCustomError:
    """A mistake in words that follow the name of the key: ``must be …, got …; write …``."""
    return PydanticCustomError("refused", "{text}", {"text": text})
