"""What is accepted as an id that a client sent. Pure.

An id is taken exactly as it was sent or not at all: two ids that a look could not tell apart would become one
conversation. Whoever sends it chooses it, so it is limited in length and must be printable: none breaks a log line, a
header or a database.
"""

from __future__ import annotations

from enum import StrEnum

MAX_LENGTH = 256
SEPARATOR = "\x1f"
"""Joins the parts of a composite key; no part can contain it, because it is not printable."""


class Problem(StrEnum):
    """Why a request has no conversation id that can be used."""

    ABSENT = "absent"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    INVALID_UTF8 = "invalid_utf8"
    UNPRINTABLE = "unprintable"
    WRONG_TYPE = "wrong_type"
    IDS_DISAGREE = "ids_disagree"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED_JSON = "malformed_json"
    MALFORMED_FORM = "malformed_form"
    WRONG_CONTENT_TYPE = "wrong_content_type"
    BODY_TOO_LARGE = "body_too_large"
    COMPRESSED = "compressed"
    DISCONNECTED = "disconnected"
    EXTRACTOR_FAILED = "extractor_failed"


OURS_TO_GIVE = frozenset({Problem.ABSENT, Problem.EMPTY, Problem.BAD_SIGNATURE, Problem.WRONG_CONTENT_TYPE})
"""With these a client has said nothing of a conversation: it may be given our cookie."""


class UnusableIdError(ValueError):
    """There is something where an id was looked for, but it cannot be one.

    Attributes:
        problem: What is wrong with it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.value)
        self.problem = problem


def checked(raw: bytes | str, max_length: int = MAX_LENGTH) -> str:
    """An id exactly as it was sent: printable, 1 to ``max_length`` characters.

    White space around the value of a header or a cookie (bytes) does not belong to it (RFC 9110, 5.5).

    Raises:
        UnusableIdError: If it is empty, too long, not printable or not UTF-8.

    >>> checked(b" conversation-1 ")
    'conversation-1'
    """
    if isinstance(raw, bytes):
        raw = raw.strip(b" \t")
        # At most four bytes a character: no need to decode what is too long anyway.
        if len(raw) > 4 * max_length:
            raise UnusableIdError(Problem.TOO_LONG)
        try:
            raw = raw.decode()
        except UnicodeDecodeError:
            raise UnusableIdError(Problem.INVALID_UTF8) from None
    if not raw or raw.isspace():
        raise UnusableIdError(Problem.EMPTY)
    if len(raw) > max_length:
        raise UnusableIdError(Problem.TOO_LONG)
    if not raw.isprintable():
        raise UnusableIdError(Problem.UNPRINTABLE)
    return raw


def checked_json(value: object, max_length: int = MAX_LENGTH) -> str | None:
    """An id that stood in a JSON document; None for null, which clients send before they have one.

    Integers are ids to many applications; booleans, fractions, lists and objects are not.

    Raises:
        UnusableIdError: If it has another type, or is not accepted by ``checked``.

    >>> checked_json(41), checked_json("c-1"), checked_json(None)
    ('41', 'c-1', None)
    """
    if isinstance(value, str):
        return checked(value, max_length)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 256:
        return str(value)
    raise UnusableIdError(Problem.WRONG_TYPE)
