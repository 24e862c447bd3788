"""What stands for a conversation id with ``privacy: hash``: nothing else is stored, logged or traced. Pure."""

from __future__ import annotations

import re

from agentcanary.security.keys import keyed_hash

_PATTERN = re.compile(r"h-[0-9a-f]{32}")


class Pseudonyms:
    """Keyed hashes of conversation ids, the same in every process that has the key.

    Args:
        key: 16 to 64 bytes, secret. Whoever has it can tell whether an id that they guess is the one.

    >>> Pseudonyms(b"0123456789abcdef").of("conversation-1")
    'h-ea9db6e1a77e1ee43f4201e88b12725a'
    """

    def __init__(self, key: bytes) -> None:
        keyed_hash(key, "")
        self._key = key

    def of(self, conversation_id: str) -> str:
        """The pseudonym of an id, whatever the id looks like: for what clients send."""
        return f"h-{keyed_hash(self._key, conversation_id)}"

    def known_as(self, conversation_id: str) -> str:
        """``of``, but what is a pseudonym already stays one: for what applications and operators name."""
        return conversation_id if _PATTERN.fullmatch(conversation_id) else self.of(conversation_id)
