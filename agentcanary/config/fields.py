"""The kinds of values that canary.yaml holds: durations, names, shares, places, URLs. Pure."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from agentcanary.config.notify_targets import SCHEMA, target
from agentcanary.config.refusals import refused
from agentcanary.config.values import Apprise, Log, SpanMode, Webhook
from agentcanary.durations import PATTERN, checked_seconds, parse_duration
from agentcanary.freeze import parse_hours, zone
from agentcanary.plan import MINUTE

_LARGEST = 1e12
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"


class Minutes:
    """The value of a ``…_minutes`` key on its way to the duration that it states."""

    def __init__(self, value: object, *, twice: bool) -> None:
        self.value = value
        self.twice = twice


def _seconds(value: object) -> float:
    if isinstance(value, Minutes):
        if value.twice:
            raise refused("is stated twice, with and without _minutes; keep one of them")
        if isinstance(value.value, bool) or not isinstance(value.value, int | float):
            raise refused(f"must be a number of minutes, got {value.value!r}; write 30")
        value = value.value
        seconds = float(value) * MINUTE if abs(value) < 1e9 else float("inf")
    elif isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise refused(f"{error}, got {value!r}") from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        raise refused(f"must have a unit, got {value}; write {value}s, {value}m, {value}h or {value}d")
    else:
        raise refused("must be a duration; write 30m or 6h")
    try:
        return checked_seconds(seconds)
    except ValueError as error:
        raise refused(f"{error}, got {value} minutes") from None


def _stated(value: object) -> object:
    if value is None:
        raise refused("is empty; write a value, or leave the key out")
    return value


class _WithoutNull:
    """Takes null out of the JSON Schema of an optional key: leaving it out is how it is not stated."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        stated: list[JsonSchemaValue] = [b for b in handler(core)["anyOf"] if b != {"type": "null"}]
        return stated[0] if len(stated) == 1 else {"anyOf": stated}


def _positive(value: float) -> float:
    if not value > 0:
        raise refused("must be longer than 0s")
    return value


def _name(value: object) -> object:
    if isinstance(value, str) and not (value.strip() == value and value and value.isprintable() and len(value) <= 200):
        raise refused(f"must be 1 to 200 printable characters without spaces around them, got {value[:60]!r}")
    return value


def _floor(value: object) -> float | dict[str, float]:
    if isinstance(value, dict):
        return {name: _one_floor(floor) for name, floor in value.items()}
    return _one_floor(value)


def _one_floor(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        raise refused("must be a number that is not negative, or one for each metric; write 0.005")
    return float(value)


def _hours(value: object) -> tuple[int, int]:
    # YAML 1.1 reads a plain 20:30 as the number 1230.
    if not isinstance(value, str):
        raise refused(f"must be two times of a day, got {value!r}; write hours: '20:00-08:00'")
    try:
        return parse_hours(value)
    except ValueError as error:
        raise refused(f"{error}, got {value[:60]!r}") from None


def _zone(value: object) -> str:
    if not isinstance(value, str):
        raise refused(f"must be the name of a time zone, got {value!r}; write UTC or Europe/Berlin")
    try:
        zone(value)
    except ValueError as error:
        raise refused(str(error)) from None
    return value


def _peer(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise refused(f"is no address or network, got {value[:60]!r}; write 10.0.0.7 or 10.0.0.0/8") from None


def _store(value: object) -> object:
    if not isinstance(value, str):
        return value
    remedy = "write sqlite:///folder/file.sqlite3 or postgresql+psycopg://user@host/database"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise refused(f"is no URL; {remedy}") from None
    match parts.scheme:
        case "sqlite" if not parts.netloc and len(parts.path) > 1 and ":memory:" not in value and "?" not in value:
            return value
        case "sqlite":
            raise refused(f"must name a file that all workers share, with three slashes and no options; {remedy}")
        # Several hosts to fail over to, or the folder of a socket, are named by the option ``host``.
        case "postgresql+psycopg" if (parts.hostname or "host=" in parts.query) and len(parts.path) > 1 and port != 0:
            return value
        case "postgresql+psycopg":
            raise refused(f"must name a host and a database; {remedy}")
        case "postgresql" | "postgres":
            raise refused(f"names no driver; {remedy}")
        case _:
            raise refused(f"is not the URL of a store that is supported; {remedy}")


T = TypeVar("T")
Unstated = Annotated[T | None, BeforeValidator(_stated), _WithoutNull()]
"""A key that may be left out, which is None; null in the file is refused."""
_DURATION_SCHEMA = {"type": "string", "minLength": 2, "maxLength": 40, "pattern": PATTERN, "examples": ["30m", "6h"]}
Duration = Annotated[float, BeforeValidator(_seconds), WithJsonSchema(_DURATION_SCHEMA)]
LongDuration = Annotated[Duration, AfterValidator(_positive)]
Text = Annotated[str, Field(pattern=_PRINTABLE)]
Name = Annotated[str, BeforeValidator(_name), Field(min_length=1, max_length=200)]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Count = Annotated[int, Strict(), Field(ge=0, le=1_000_000_000)]
StoreUrl = Annotated[str, BeforeValidator(_store)]
Secret = Annotated[str, Field(min_length=16, max_length=1024)]
TokenName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Peer = Annotated[str, AfterValidator(_peer), Field(max_length=100)]
Floor = Annotated[
    float | dict[str, float],
    PlainValidator(_floor),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": _LARGEST},
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": _LARGEST}},
            ]
        }
    ),
]
Switch = Annotated[bool, Strict()]
Hours = Annotated[
    tuple[int, int],
    PlainValidator(_hours),
    WithJsonSchema({"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$"}),
]
TimeZone = Annotated[str, PlainValidator(_zone), WithJsonSchema({"type": "string", "minLength": 1})]
Weight = Annotated[Number, Field(ge=0, le=1)]
Increase = Annotated[Number, Field(ge=0, lt=2)]
Drop = Annotated[Number, Field(ge=0, lt=1)]
Probability = Annotated[Number, Field(gt=0, lt=1)]
ErrorBudget = Annotated[Number, Field(gt=0, lt=0.5)]
Size = Annotated[Number, Field(ge=0, le=_LARGEST)]
# YAML 1.1 reads a plain off as false.
Span = Annotated[
    SpanMode,
    BeforeValidator(lambda value: "off" if value is False else value),
    WithJsonSchema({"enum": [*(mode.value for mode in SpanMode), False]}),
]
NotifyTarget = Annotated[Log | Webhook | Apprise, PlainValidator(target), WithJsonSchema(SCHEMA)]
