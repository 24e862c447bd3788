"""YAML text → plain values that remember their lines. Pure.

Only what a configuration needs is read: mappings with text keys, lists, text, numbers, true/false and null. Nothing
that the text names is ever constructed; size, depth and the expansion of aliases are bounded before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import yaml

MAX_BYTES = 65_536
MAX_DEPTH = 20
MAX_VALUES = 10_000

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to correct.

    Attributes:
        line: From 1; 0 when the whole file is meant.
        text: What is wrong, the value, and what to write instead.
    """

    line: int
    text: str


class YamlError(Exception):
    """Text that is no usable YAML; carries every mistake found in it."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.text for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values and where they were written.

    Attributes:
        data: Nested dict, list, str, int, float, bool and None.
        lines: Line of each value by its path; a value of a mapping has the line of its key.
        written: The text of each scalar as it was written, by its path: ``1.10`` for the number 1.1.
        mistakes: What could be read past: duplicate keys, values of a kind that is not allowed.
        unread: Paths of the values that are None only because of such a mistake.
    """

    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    unread: set[Path] = field(default_factory=set)

    def line(self, path: Path) -> int:
        """The line of the value at ``path``, or of the nearest value around it; 1 for the whole document."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader that stops at ``MAX_DEPTH``, because composing is recursive."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(self.peek_event().start_mark.line + 1)  # type: ignore[no-untyped-call]  # stubs
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_yaml(text: str) -> Document:
    r"""The values of a YAML text, with lines.

    Raises:
        YamlError: If it is no YAML, more than one document, too large, too deep, or grows too much by its aliases.

    >>> document = read_yaml("agent: support\nalpha: 0.05")
    >>> document.data, document.line(("alpha",))
    ({'agent': 'support', 'alpha': 0.05}, 2)
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise YamlError([Mistake(0, f"the file has {size:,} bytes; a configuration may have {MAX_BYTES:,}")])
    try:
        root, loader = _compose(text)
    except _TooDeepError as error:
        raise YamlError(
            [Mistake(error.line, f"values are nested more than {MAX_DEPTH} deep; a configuration needs 5")]
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character {chr(error.character)!r} is not allowed in YAML; remove it"
        raise YamlError([Mistake(line, message)]) from None
    except yaml.MarkedYAMLError as error:
        raise YamlError([_syntax_mistake(error)]) from None
    document = Document(data=None)
    if root is None:
        return document
    document.lines[()] = root.start_mark.line + 1
    return replace(document, data=_Walk(document, loader).value(root, ()))


def _compose(text: str) -> tuple[yaml.Node | None, _BoundedLoader]:
    loader = _BoundedLoader(text)
    try:
        return loader.get_single_node(), loader
    finally:
        loader.dispose()


def _syntax_mistake(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = " ".join(str(part) for part in (error.problem, error.context) if part) or "it cannot be read"
    if "\\t" in problem:
        problem = "a tab at the start of a value; indent with spaces"
    elif "single document" in problem:
        problem = "a second document begins with '---'; write one configuration a file"
    return Mistake(line, f"no valid YAML: {problem}")


_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_TAGS = {_TIMESTAMP, *(f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "null", "bool", "int", "float", "str"))}
_MERGE = "tag:yaml.org,2002:merge"


class _Walk:
    """Builds plain values out of nodes and notes lines and mistakes in ``document``."""

    def __init__(self, document: Document, loader: _BoundedLoader) -> None:
        self._document = document
        self._loader = loader
        self._values = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > MAX_VALUES:
            raise YamlError([Mistake(line, f"aliases make the file grow beyond {MAX_VALUES:,} values; write them out")])
        self._document.lines.setdefault(path, line)
        if node.tag not in _TAGS:
            return self._unread(path, line, f"the tag {node.tag!r} is not allowed; leave it out")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, line)
        if id(node) in self._open:
            raise YamlError([Mistake(line, "an alias contains itself; write the values out")])
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                self._wrong(line, "merge keys (<<) are not read; write the keys out")
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(line, "a key must be text; put text in quotes that begins with [, { or *")
                continue
            key = key_node.value
            if not key.isprintable():
                self._wrong(line, f"the key {key!r} has characters that cannot be printed; remove them")
                continue
            if key in first_lines:
                self._wrong(line, f"duplicate key {key!r}, already on line {first_lines[key]}; keep one of them")
                continue
            first_lines[key] = line
            self._document.lines[(*path, key)] = line
            values[key] = self.value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path, line: int) -> Any:
        self._document.written[path] = node.value
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            return self._unread(path, line, f"half a surrogate pair in {node.value!r}; write the character itself")
        if node.tag == _TIMESTAMP:
            # A version such as 2026-05-01 is a name; nothing in the configuration is a point in time.
            return node.value
        try:
            return self._loader.construct_object(node)
        except (ValueError, LookupError, yaml.YAMLError):
            return self._unread(path, line, f"{node.value[:40]!r} cannot be read as a value; put text in quotes")

    def _unread(self, path: Path, line: int, text: str) -> None:
        self._document.unread.add(path)
        self._wrong(line, text)

    def _wrong(self, line: int, text: str) -> None:
        self._document.mistakes.append(Mistake(line, text))
