"""The documents of a manifest that somebody wrote, and what YAML itself says against it. Pure."""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from agentcanary.manifests.fault import Fault

_LARGEST = 2**20


def read_documents(text: str) -> tuple[list[object], list[Fault]]:
    r"""The documents of a YAML text, and its faults as YAML.

    A key that is written twice is a fault: most parsers keep the last one without a word, and so a route is lost.

    >>> read_documents("a: 1\na: 2")[1][0].where
    'line 2'
    """
    if len(text) > _LARGEST:
        return [], [Fault("the file", f"is longer than {_LARGEST:,} characters", "check one manifest at a time")]
    found: list[Fault] = []
    try:
        return _parsed(text, twice=False), found
    except DuplicateKeyError as error:
        key = str(error.problem).partition('"')[2].partition('"')[0]
        found.append(Fault(_line(error), f"has the key {key!r} a second time: the first one is lost", "write it once"))
    except YAMLError as error:
        return [], [_syntax(error)]
    try:
        return _parsed(text, twice=True), found
    except YAMLError as error:
        return [], [*found, _syntax(error)]


def _parsed(text: str, *, twice: bool) -> list[object]:
    parser = YAML(typ="safe", pure=True)
    parser.allow_duplicate_keys = twice
    return list(parser.load_all(text))


def _syntax(error: YAMLError) -> Fault:
    problem = getattr(error, "problem", None) or type(error).__name__
    return Fault(_line(error), f"is no YAML: {problem}", "mend it first")


def _line(error: YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return "the file" if mark is None else f"line {mark.line + 1}"
