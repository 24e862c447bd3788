"""The fields of an urlencoded or multipart form. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcanary.conversation.body import Body, Media
from agentcanary.conversation.extractors import parameter
from agentcanary.conversation.identity import MAX_LENGTH, Problem, UnusableIdError, checked


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of a form; files are passed over.

    Attributes:
        name: Case matters.
        max_length: Most characters that an id may have.
    """

    name: str
    max_length: int = MAX_LENGTH
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.encode())

    def find(self, body: Body) -> str | None:
        """The id, or None where the form has no such field.

        Raises:
            UnusableIdError: If it cannot be an id, is there twice with two values, or the form cannot be read.

        >>> FormField("session_id").find(Body(Media.FORM, b"message=hi&session_id=s-1"))
        's-1'
        """
        if body.media is Media.FORM:
            return parameter(body.content, self._key, self.max_length)
        found: bytes | None = None
        for name, value in _multipart(body):
            if name == self._key:
                if found is not None and found != value:
                    raise UnusableIdError(Problem.IDS_DISAGREE)
                found = value
        if found is None:
            return None
        try:
            return checked(found.decode(), self.max_length)
        except UnicodeDecodeError:
            raise UnusableIdError(Problem.INVALID_UTF8) from None


def _multipart(body: Body) -> list[tuple[bytes, bytes]]:
    """Names and values of a multipart form's fields, without its files."""
    # Loaded by the few who have such forms.
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(body.content_type)
    found: list[tuple[bytes, bytes]] = []
    header, value, data, named = bytearray(), bytearray(), bytearray(), dict[bytes, bytes]()
    ended = False

    def begin() -> None:
        for collected in (header, value, data, named):
            collected.clear()

    def end_header() -> None:
        if header.lower() == b"content-disposition":
            named.update(parse_options_header(bytes(value))[1])
        header.clear()
        value.clear()

    def add_data(text: bytes, start: int, end: int) -> None:
        if b"filename" not in named:
            data.extend(text[start:end])

    def finish() -> None:
        if b"name" in named and b"filename" not in named:
            found.append((named[b"name"], bytes(data)))

    def finish_form() -> None:
        nonlocal ended
        ended = True

    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": begin,
                "on_header_field": lambda text, start, end: header.extend(text[start:end]),
                "on_header_value": lambda text, start, end: value.extend(text[start:end]),
                "on_header_end": end_header,
                "on_part_data": add_data,
                "on_part_end": finish,
                "on_end": finish_form,
            },
        )
        parser.write(body.content)
    except (KeyError, ValueError):
        raise UnusableIdError(Problem.MALFORMED_FORM) from None
    if not ended:
        raise UnusableIdError(Problem.MALFORMED_FORM)
    return found
