"""The store: rollouts, pins, conversations, outcomes, counts."""

from __future__ import annotations

from agentcanary.store.batch import Batch, coalesce
from agentcanary.store.conversations import Known, Part
from agentcanary.store.outbox import Pending
from agentcanary.store.reading import Delivery
from agentcanary.store.reported import ReportedArm
from agentcanary.store.rollouts import Revision, StoredLook
from agentcanary.store.store import Store
from agentcanary.store.workers import DEAD_AFTER, Worker

__all__ = [
    "DEAD_AFTER",
    "Batch",
    "Delivery",
    "Known",
    "Part",
    "Pending",
    "ReportedArm",
    "Revision",
    "Store",
    "StoredLook",
    "Worker",
    "coalesce",
]
