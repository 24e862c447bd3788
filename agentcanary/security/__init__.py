"""Who is believed: bearer tokens with scopes, tokens for testers; secrets, and hashes that need one."""

from __future__ import annotations

from agentcanary.config.values import Scope
from agentcanary.security.forcing import Forcing, ForcingToken
from agentcanary.security.keys import keyed_hash, new_salt, new_secret
from agentcanary.security.pseudonyms import Pseudonyms
from agentcanary.security.tokens import Guard, Principal, WithHeaders, digest_of, new_token

__all__ = [
    "Forcing",
    "ForcingToken",
    "Guard",
    "Principal",
    "Pseudonyms",
    "Scope",
    "WithHeaders",
    "digest_of",
    "keyed_hash",
    "new_salt",
    "new_secret",
    "new_token",
]
