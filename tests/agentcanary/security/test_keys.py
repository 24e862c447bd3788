from __future__ import annotations

import pytest

from agentcanary.security import keyed_hash, new_salt, new_secret

KEY = b"0123456789abcdef"


def test_salts_and_secrets_are_never_the_same_twice() -> None:
    assert len({new_salt() for _ in range(100)} | {new_secret().encode() for _ in range(100)}) == 200


def test_a_keyed_hash_depends_on_the_text_and_on_the_secret_and_shows_neither() -> None:
    hashes = [keyed_hash(KEY, "a"), keyed_hash(KEY, "b"), keyed_hash(KEY[::-1], "a")]
    assert len(set(hashes)) == 3
    assert hashes[0] == keyed_hash(KEY, "a")
    assert {len(digest) for digest in hashes} == {32}


def test_a_keyed_hash_takes_any_text() -> None:
    assert len({keyed_hash(KEY, text) for text in ("", "\x00", "é", "\ud800", "x" * 100_000)}) == 5


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 65])
def test_a_secret_that_is_too_short_or_too_long_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match=f"16 to 64 bytes, got {len(secret)}"):
        keyed_hash(secret, "a")
