"""What a plan can prove with the traffic given, and what becomes of harmless and harmful canaries. Pure."""

from __future__ import annotations

from agentcanary.planning.expectations import Expectations, Expected, expect
from agentcanary.planning.outlook import Case, Chance, Outlook, cases, limit_of, outlook
from agentcanary.planning.proofs import Proof, StageProof, stage_proofs
from agentcanary.planning.warnings import warnings

__all__ = [
    "Case",
    "Chance",
    "Expectations",
    "Expected",
    "Outlook",
    "Proof",
    "StageProof",
    "cases",
    "expect",
    "limit_of",
    "outlook",
    "stage_proofs",
    "warnings",
]
