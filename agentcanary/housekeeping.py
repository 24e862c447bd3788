"""Deletes what is older than the configuration keeps it, a little at a time, by whoever holds the lease."""

from __future__ import annotations

from typing import Protocol

import structlog

from agentcanary.config import Retention

log = structlog.get_logger("agentcanary")

# Real seconds.
EVERY = 60.0
# Transactions at a time, of some thousand rows each: other writers wait in between.
SLICES = 100
_DAY = 86_400.0
# What only we need: delivered messages, ids of batches that may be sent again, workers that died.
BOOKS_KEPT = 7 * _DAY


class Shelves(Protocol):
    """What can be tidied up."""

    def prune(self, before: float, *, slices: int = ...) -> int:
        """Delete conversations whose last turn was before a Unix time; their number."""

    def prune_nameless(self) -> int:
        """Delete forgotten conversations that were kept only to be counted; their number."""

    def prune_looks(self, before: float) -> int:
        """Delete looks of ended rollouts from before a Unix time; their number."""

    def prune_books(self, before: float) -> None:
        """Delete our own book-keeping from before a Unix time."""


def tidy_up(store: Shelves, retention: Retention, now: float) -> None:
    """Delete what is older than it has to be.

    Args:
        store: What is tidied.
        retention: How long what is kept.
        now: Unix time in seconds, of the rollouts' clock.

    Raises:
        StoreError: If the store does not answer; what is left is for the next time.
    """
    nameless = store.prune_nameless()
    conversations = looks = 0
    if retention.conversations is not None:
        conversations = store.prune(now - retention.conversations, slices=SLICES)
    if retention.looks is not None:
        looks = store.prune_looks(now - retention.looks)
    store.prune_books(now - BOOKS_KEPT)
    if conversations or looks or nameless:
        log.info("agentcanary.retention", conversations=conversations, looks=looks, nameless=nameless)
