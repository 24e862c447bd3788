"""The kinds of values that say how conversations are found and what is read in responses. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from agentcanary.config.refusals import refused
from agentcanary.config.values import Extractor, Place
from agentcanary.conversation import PRESETS
from agentcanary.protocols import PROTOCOLS, ErrorRule

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PATH_TEMPLATE = re.compile(r"/[^{}?#]*(?:\{[A-Za-z_]\w*\}[^{}?#]*)+")
_RULE = "'json: status' with 'one_of: [failed]' or without, or 'event: error'"


def _extractor(value: object) -> Extractor:
    places = ", ".join(place.value for place in Place)
    if not isinstance(value, dict) or len(value) != 1:
        raise refused(f"must be one 'place: name', such as 'header: x-session-id'; places are {places}; got {value!r}")
    ((place, name),) = value.items()
    if place not in set(Place):
        raise refused(f"looks in {place!r}, which is no place; places are {places}")
    if place == Place.COMPOSITE:
        if not isinstance(name, list) or not 2 <= len(name) <= 10:
            raise refused("needs 2 to 10 places after composite:, such as [json: userId, json: sessionId]")
        parts = tuple(_extractor(part) for part in name)
        if {part.place for part in parts} & {Place.COMPOSITE, Place.SIGNED_COOKIE}:
            raise refused("has a composite of a composite or of our signed cookie; name other places")
        return Extractor(Place.COMPOSITE, "", parts)
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        raise refused(f"needs a name of 1 to 200 printable characters after {place}:, got {name!r}")
    match Place(place):
        case Place.HEADER | Place.COOKIE | Place.SIGNED_COOKIE if _TOKEN.fullmatch(name) is None:
            raise refused(f"has the {place} {name!r}; names of headers and cookies have no spaces or separators")
        case Place.PATH if _PATH_TEMPLATE.fullmatch(name) is None:
            raise refused(f"has the path {name!r}; write it with a placeholder: /threads/{{thread_id}}/runs")
        case Place.JSON | Place.WEBSOCKET_FIRST_FRAME | Place.FIRST_MESSAGE if not all(name.split(".")):
            raise refused(f"has the JSON keys {name!r}; join keys by single dots: params.message.contextId")
        case Place.HEADER:
            return Extractor(Place.HEADER, name.lower())
        case found:
            return Extractor(found, name)


def _names(value: object, known: Mapping[str, object], what: str) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str) or name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            said = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise refused(f"names the {what} {name!r}, which is not known; {said}")
    if not names or len(set(names)) < len(names):
        raise refused(f"must name one {what} or several different ones")
    return tuple(names)


def _names_schema(known: Mapping[str, object]) -> WithJsonSchema:
    one = {"enum": list(known)}
    return WithJsonSchema({"anyOf": [one, {"type": "array", "minItems": 1, "uniqueItems": True, "items": one}]})


def _error_rule(value: object) -> ErrorRule:
    if not isinstance(value, dict) or not value or set(value) - {"json", "one_of", "event"}:
        raise refused(f"must be {_RULE}, got {value!r}")
    for key in {"json", "event"} & set(value):
        if not isinstance(value[key], str) or not 0 < len(value[key]) <= 200 or not all(value[key].split(".")):
            raise refused(f"needs a name of 1 to 200 characters after {key}:, got {value[key]!r}")
    values = value.get("one_of", [])
    if not isinstance(values, list) or not all(isinstance(item, str | int) for item in values):
        raise refused(f"has one_of: {values!r}; write a list of texts, whole numbers, true or false")
    try:
        return ErrorRule(json=value.get("json"), values=tuple(values), event=value.get("event"))
    except ValueError:
        raise refused(f"must be {_RULE}, got {value!r}") from None


_ERROR_RULE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "json": {"type": "string", "minLength": 1, "maxLength": 200},
        "one_of": {"type": "array", "items": {"type": ["string", "integer", "boolean"]}},
        "event": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    "oneOf": [{"required": ["json"]}, {"required": ["event"]}],
}
ErrorIf = Annotated[ErrorRule, PlainValidator(_error_rule), WithJsonSchema(_ERROR_RULE)]
IdPlace = Annotated[
    Extractor,
    PlainValidator(_extractor),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {
                **{place.value: {"type": "string", "minLength": 1, "maxLength": 200} for place in Place},
                Place.COMPOSITE.value: {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 10,
                    "items": {"type": "object", "minProperties": 1, "maxProperties": 1},
                },
            },
        }
    ),
]
PresetNames = Annotated[
    tuple[str, ...], PlainValidator(lambda value: _names(value, PRESETS, "preset")), _names_schema(PRESETS)
]
ProtocolNames = Annotated[
    tuple[str, ...], PlainValidator(lambda value: _names(value, PROTOCOLS, "protocol")), _names_schema(PROTOCOLS)
]
