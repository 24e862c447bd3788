"""What is accepted as an id that a client sent. Pure.

Such ids are chosen by whoever sends them: they are limited in length, and what cannot be printed is taken out, so
that none breaks a log line, a header or a database.
"""

from __future__ import annotations

from enum import StrEnum

MAX_LENGTH = 256


class Problem(StrEnum):
    """Why a request has no conversation id that can be used."""

    ABSENT = "absent"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    INVALID_UTF8 = "invalid_utf8"
    WRONG_TYPE = "wrong_type"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED_JSON = "malformed_json"
    BODY_TOO_LARGE = "body_too_large"
    COMPRESSED = "compressed"
    DISCONNECTED = "disconnected"
    EXTRACTOR_FAILED = "extractor_failed"


class UnusableIdError(ValueError):
    """There is something where an id was looked for, but it cannot be one.

    Attributes:
        problem: What is wrong with it.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.value)
        self.problem = problem


def cleaned(raw: bytes | str, max_length: int = MAX_LENGTH) -> str:
    r"""An id as it is used: printable, without spaces around it, 1 to ``max_length`` characters.

    Raises:
        UnusableIdError: If it is empty, too long, or not UTF-8.

    >>> cleaned(b" conversation\x00-1\r\n")
    'conversation-1'
    """
    if isinstance(raw, bytes):
        # At most four bytes a character: no need to decode what is too long anyway.
        if len(raw) > 4 * max_length:
            raise UnusableIdError(Problem.TOO_LONG)
        try:
            raw = raw.decode()
        except UnicodeDecodeError:
            raise UnusableIdError(Problem.INVALID_UTF8) from None
    if not raw.isprintable():
        raw = "".join(filter(str.isprintable, raw))
    text = raw.strip()
    if not text:
        raise UnusableIdError(Problem.EMPTY)
    if len(text) > max_length:
        raise UnusableIdError(Problem.TOO_LONG)
    return text


def cleaned_json(value: object, max_length: int = MAX_LENGTH) -> str | None:
    """An id that stood in a JSON document; None for null, which clients send before they have one.

    Integers are ids to many applications; booleans, fractions, lists and objects are not.

    Raises:
        UnusableIdError: If it has another type, or is not accepted by ``cleaned``.

    >>> cleaned_json(41), cleaned_json("c-1"), cleaned_json(None)
    ('41', 'c-1', None)
    """
    if isinstance(value, str):
        return cleaned(value, max_length)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 256:
        return str(value)
    raise UnusableIdError(Problem.WRONG_TYPE)
