"""Random salts and secrets, and hashes that nobody can make without one."""

from __future__ import annotations

import secrets
from hashlib import blake2b

SALT_BYTES = 32


def new_salt() -> bytes:
    """Fresh random bytes for a rollout's assignment: secret, and never used twice.

    >>> len(new_salt())
    32
    """
    return secrets.token_bytes(SALT_BYTES)


def new_secret() -> str:
    """Fresh random text that signs cookies, 43 characters of URL-safe base64.

    >>> len(new_secret())
    43
    """
    return secrets.token_urlsafe(SALT_BYTES)


def keyed_hash(secret: bytes, text: str) -> str:
    """What stands for a conversation id where the id itself must not be: the same for the same id and secret.

    Args:
        secret: 16 to 64 bytes.
        text: Any text.

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: If the secret is too short or too long.

    Source:
        BLAKE2 in keyed mode, RFC 7693, section 2.9.

    >>> keyed_hash(b"0123456789abcdef", "conversation-1")
    'ea9db6e1a77e1ee43f4201e88b12725a'
    """
    if not 16 <= len(secret) <= 64:
        raise ValueError(f"secret must have 16 to 64 bytes, got {len(secret)}")
    return blake2b(text.encode("utf-8", "surrogatepass"), key=secret, digest_size=16).hexdigest()
