"""Templates to HTML. Everything that is put into a template is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from agentcanary.dashboard.view import share
from agentcanary.status.figures import ago, change, count, e_value, moment, span, value
from agentcanary_analysis.metrics import Direction, Kind

_HERE = Path(__file__).parent


def render(name: str, request: Request, model: Mapping[str, Any]) -> str:
    """A template with what it shows.

    Args:
        name: Of the template, without its ending.
        request: Whose answer it is; the pages may be mounted anywhere.
        model: What it shows.
    """
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return _environment().get_template(f"{name}.html").render(model, root=root, path=request.scope["path"])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "span": span,
        "moment": moment,
        "ago": ago,
        "change": lambda stored: change(_float(stored)),
        "count": count,
        "e_value": lambda stored: e_value(_float(stored) or 0.0),
        "share": share,
        "arm": arm,
        "line_at": line_at,
        "status_word": lambda status: status.replace("_", " "),
    }
    environment.globals |= {"asset": _asset}
    return environment


def arm(line: Mapping[str, Any], which: str) -> str:
    """The value of one arm in words: ``5.0 % (50 of 1,000)``."""
    found = line[which]
    if found is None:
        return "–"
    kind = Kind(line["kind"])
    shown = value(_float(found["value"]), kind, line["unit"])
    if kind is Kind.PROPORTION and found["events"] is not None:
        return f"{shown} ({count(found['events'])} of {count(found['observed'])})"
    return f"{shown} ({count(found['observed'])})"


def line_at(line: Mapping[str, Any]) -> str:
    """The boundary in words: ``at most 6.0 %``."""
    boundary = line["boundary"]
    if "limit" in boundary:
        return f"at most {boundary['limit']:g}"
    at = _float(boundary["at"])
    if at is None:
        return f"{boundary['ratio']:g} × stable"
    limit = "at most" if boundary["direction"] == Direction.UP_IS_WORSE else "at least"
    return f"{limit} {value(at, Kind(line['kind']), line['unit'])}"


def _asset(name: str) -> str:
    """The address of a static file; a changed file has another one."""
    return f"static/{name}?v={_digest(name)}"


@cache
def _digest(name: str) -> str:
    return blake2b((_HERE / "static" / name).read_bytes(), digest_size=6).hexdigest()


def _float(stored: float | str | None) -> float | None:
    """A number as JSON holds it: an infinite one is the text ``inf``."""
    return None if stored is None else float(stored)
