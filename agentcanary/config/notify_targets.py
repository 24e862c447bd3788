"""What ``notify`` may say: where notifications go, which, and in whose words. Pure."""

from __future__ import annotations

from string import Formatter
from urllib.parse import urlsplit

from agentcanary.config.refusals import refused
from agentcanary.config.values import EVENTS, MESSAGE_FIELDS, Apprise, Log, Target, Webhook

_KEYS = {"webhook", "apprise", "events", "template"}
_REMEDY = "must be 'log' or 'webhook: https://…' or 'apprise: slack://…'"


def target(value: object) -> Target:
    """The target that an entry of ``notify`` states."""
    if value == "log":
        return Log()
    if not isinstance(value, dict) or set(value) - _KEYS or len({"webhook", "apprise"} & set(value)) != 1:
        raise refused(_REMEDY)
    events, template = _events(value.get("events", [])), _template(value.get("template"))
    if "webhook" in value:
        return Webhook(_webhook(value["webhook"]), events, template)
    return Apprise(_apprise(value["apprise"]), events, template)


def _webhook(url: object) -> str:
    # The URL itself is in no message: it may contain a token.
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise refused("has a webhook that is no URL; write webhook: https://host/path")
    # Read by what will send to it; httpx is loaded only where there is a webhook.
    from httpx import URL, InvalidURL

    try:
        parts = URL(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.host) and bool(urlsplit(url).netloc)
    except (InvalidURL, ValueError):
        valid = False
    if not valid:
        raise refused("has a webhook that is no http or https URL; write webhook: https://host/path")
    return url


def _apprise(url: object) -> str:
    scheme = url.partition("://")[0] if isinstance(url, str) else ""
    if not isinstance(url, str) or not url.isprintable() or not scheme.isalnum() or len(url) <= len(scheme) + 3:
        raise refused("has an apprise that is no URL of apprise; write apprise: slack://TokenA/TokenB/TokenC")
    return url


def _events(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(event, str) for event in value):
        raise refused(f"has events that are no list, got {value!r:.60}; write events: [rolled_back, safety_stop]")
    unknown = [event for event in value if event not in EVENTS]
    if unknown:
        raise refused(f"has the event {unknown[0]!r:.60}, which there is not; events are {', '.join(EVENTS)}")
    return tuple(value)


def _template(value: object) -> str | None:
    if value is None:
        return None
    known = ", ".join(f"{{{name}}}" for name in MESSAGE_FIELDS)
    if not isinstance(value, str) or not value.strip():
        raise refused("has a template that is no text; write template: '{severity}: {message}'")
    try:
        fields = list(Formatter().parse(value))
    except ValueError as error:
        raise refused(f"has a template with a stray brace: {error}; {{{{ is a brace, fields are {known}") from None
    for _, name, form, conversion in fields:
        if name is not None and (name not in MESSAGE_FIELDS or form or conversion):
            written = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise refused(f"has a template with {{{written}}}, which is no field; fields are {known}")
    return value


SCHEMA = {
    "anyOf": [
        {"const": "log"},
        *(
            {
                "type": "object",
                "required": [kind],
                "additionalProperties": False,
                "properties": {
                    kind: {"type": "string", "pattern": pattern},
                    "events": {"type": "array", "items": {"enum": list(EVENTS)}},
                    "template": {"type": "string", "minLength": 1},
                },
            }
            for kind, pattern in (("webhook", "^[Hh][Tt][Tt][Pp][Ss]?://"), ("apprise", "^[A-Za-z0-9]+://."))
        ),
    ]
}
