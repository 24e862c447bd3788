"""What pydantic found wrong → one message a mistake: what, which value, what to write instead. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic_core import ErrorDetails

from agentcanary.config.section import Section
from agentcanary.config.sections import FileSection
from agentcanary.config.yaml_lines import Document, Path

_SECRET_KEYS = {"webhook", "cookie_secret", "id_secret", "tester_secret", "env", "sha256", "store"}
_EXAMPLES = {"agent": "support", "stable": "support-v1", "name": "initial", "weight": "0.05", "scopes": "[read]"}
_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*")


def field_mistakes(errors: Sequence[ErrorDetails], document: Document) -> Iterator[tuple[Path, str]]:
    """Path and message of each error of ``FileSection.model_validate``."""
    for error in errors:
        path = written_path(error["loc"], document)
        yield path, _words(error, path, document)


def written_path(path: Path, document: Document) -> Path:
    """The path as it is written: a duration may stand under its name with ``_minutes``."""
    if path and path not in document.lines and isinstance(path[-1], str):
        minutes = (*path[:-1], f"{path[-1]}_minutes")
        if minutes in document.lines:
            return minutes
    return path


def where(path: Path) -> str:
    """A path as people write it.

    >>> where(("canary_stages", 0, "weight"))
    'canary_stages[0].weight'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def share_remedy(value: float) -> str:
    """What to write instead of a share that looks like a percentage.

    >>> share_remedy(5)
    'write 0.05 for 5 %'
    """
    return f"write {value / 100:g} for {value:g} %"


def _words(error: ErrorDetails, path: Path, document: Document) -> str:
    place = where(path)
    context: dict[str, Any] = error.get("ctx", {})
    got = _got(error["input"], path, document)
    match error["type"]:
        case "refused":
            return f"{place} {context['text']}"
        case "extra_forbidden":
            return _unknown_key(path)
        case "missing":
            return f"{place} is missing; write {path[-1]}: {_EXAMPLES.get(str(path[-1]), '…')}"
        case "string_type":
            remedy = "write text" if isinstance(error["input"], dict | list | None) else _quoted(path, document)
            return f"{place} must be text, got {got}; {remedy}"
        case "float_type" | "int_type" | "int_from_float":
            kind = "a number" if error["type"] == "float_type" else "a whole number"
            return f"{place} must be {kind}, got {got}; {_number_remedy(error['input'], kind)}"
        case "bool_type":
            return f"{place} must be true or false, got {got}; write it without quotes"
        case "list_type":
            return f"{place} must be a list, got {got}; write a line with '- ' for each item, or []"
        case "dict_type" | "model_type":
            return f"{place} must be a mapping, got {got}; write 'key: value' lines below it"
        case "enum" | "literal_error":
            return f"{place} must be {context['expected']}, got {got}{_nearest_choice(error['input'], context)}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"{place} must be {_bound(context)}, got {got}{_range_remedy(error['input'], context)}"
        case "too_short" | "too_long" | "string_too_short" | "string_too_long":
            return f"{place} must have {_length(error['type'], context)}, got {got}"
        case "finite_number":
            return f"{place} must be a finite number, got {got}; write a number"
        case "string_pattern_mismatch":
            return f"{place} must be {_pattern_rule(path)}, got {got}"
        case _:
            return f"{place}: {error['msg']}, got {got}"


def _got(value: object, path: Path, document: Document) -> str:
    if _SECRET_KEYS & set(path):
        return "a value that is not shown, because it may hold a secret"
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return f"a list of {len(value)}"
    written = document.written.get(path, str(value))
    short = written if len(written) <= 60 else f"{written[:57]}…"
    return repr(short) if isinstance(value, str) else short


def _quoted(path: Path, document: Document) -> str:
    return f'put it in quotes: "{document.written.get(path, "…")[:60]}"'


def _number_remedy(value: object, kind: str) -> str:
    if isinstance(value, str):
        percent = _PERCENT.fullmatch(value)
        if percent is not None:
            return share_remedy(float(percent[1]))
        if re.fullmatch(r"\s*[+-]?[0-9]*\.?[0-9]+\s*", value):
            return f"write {value.strip()} without quotes"
    return f"write {kind}"


def _nearest_choice(value: object, context: dict[str, Any]) -> str:
    choices = re.findall(r"'([^']+)'", str(context["expected"]))
    near = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _bound(context: dict[str, Any]) -> str:
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return " and ".join(f"{words[name]} {limit:g}" for name, limit in context.items() if name in words)


def _range_remedy(value: object, context: dict[str, Any]) -> str:
    top = context.get("le", context.get("lt"))
    if top in (0.5, 1, 2) and isinstance(value, int | float) and 1 < value <= 100:
        return f"; {share_remedy(value)}"
    if top == 0.5 and isinstance(value, int | float) and 0.5 < value < 1:
        return f"; write {1 - value:.2g}, the share of wrong decisions"
    if context.get("ge") == 0 and isinstance(value, int | float) and value < 0:
        return f"; write {-value:g}" if value > -1 else "; write a number that is not negative"
    return ""


def _length(error: str, context: dict[str, Any]) -> str:
    unit = "characters" if error.startswith("string") else "items"
    if "min_length" in context:
        return f"at least {context['min_length']} {unit}"
    return f"at most {context['max_length']} {unit}"


def _pattern_rule(path: Path) -> str:
    if path == ("agent",):
        return "1 to 100 letters, digits, dots, dashes and underscores that begin with a letter or digit"
    if path[-1] == "name":
        return "1 to 64 small letters, digits and underscores that begin with a letter"
    if path[-1] == "sha256":
        return "64 digits 0-9 and a-f, as agentcanary token prints them"
    return "text without control characters"


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    known = _keys_of(path[:-1])
    inside = f" in {where(path[:-1])}" if path[:-1] else ""
    elsewhere = [home for home in _homes(FileSection, "") if home.split(".")[-1] == key]
    if elsewhere:
        return f"unknown key {key!r}{inside}; it is written as {elsewhere[0]}"
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"unknown key {key!r}{inside}; did you mean {near[0]!r}?"
    return f"unknown key {key!r}{inside}; known here: {', '.join(sorted(known))}"


def _keys_of(path: Path) -> list[str]:
    section: type[Section] = FileSection
    for part in path:
        # A name that the user chose, as of a version, stands between two sections.
        if isinstance(part, str) and part in section.model_fields:
            found = _section_in(section.model_fields[part].annotation)
            if found is None:
                return []
            section = found
    return section.known_keys()


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner)) is not None), None)


def _homes(section: type[Section], before: str) -> Iterator[str]:
    for key in section.known_keys():
        yield f"{before}{key}"
        inner = _section_in(section.model_fields[key].annotation) if key in section.model_fields else None
        if inner is not None:
            written = str(section.model_fields[key].annotation)
            item = "[]" if "list" in written else ".NAME" if "dict" in written else ""
            yield from _homes(inner, f"{before}{key}{item}.")
