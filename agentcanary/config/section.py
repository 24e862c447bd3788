"""What every section of canary.yaml has in common: closed, frozen, with durations in two spellings. Pure."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from agentcanary.config.fields import Minutes
from agentcanary.durations import MAX_SECONDS, format_duration
from agentcanary.plan import MINUTE


class Section(BaseModel):
    """A mapping of the file.

    Each duration is written as text with a unit (``duration: 6h``) or, under its name with ``_minutes``, as a number
    of minutes (``duration_minutes: 360``).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    durations: ClassVar[tuple[str, ...]] = ()
    placeholders: ClassVar[dict[str, Any]] = {}
    """Something for each key without a default, so that the others can be read where it is wrong."""

    @classmethod
    def known_keys(cls) -> list[str]:
        """Every key that may be written."""
        return [*cls.model_fields, *(f"{name}_minutes" for name in cls.durations)]

    @classmethod
    def read(cls, value: object) -> Self | None:
        """The section, or None when it has a mistake."""
        try:
            return cls.model_validate(value)
        except ValidationError:
            return None

    @classmethod
    def readable(cls, value: object) -> dict[str, Any]:
        """What can be read of a section: its values and defaults by key, without those that have a mistake."""
        if not isinstance(value, dict):
            return {}
        bad: set[object] = set()
        try:
            section = cls.model_validate(value)
        except ValidationError as error:
            bad = {found["loc"][0] for found in error.errors(include_url=False) if found["loc"]}
            good = {key: kept for key, kept in value.items() if not {key, key.removesuffix("_minutes")} & bad}
            section = cls.model_validate(cls.placeholders | good)
        return {key: getattr(section, key) for key in cls.model_fields if key not in bad}

    @model_validator(mode="before")
    @classmethod
    def _join_minutes(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        joined = dict(data)
        for name in cls.durations:
            if f"{name}_minutes" in joined:
                joined[name] = Minutes(joined.pop(f"{name}_minutes"), twice=name in data)
        return joined

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        for name in cls.durations:
            written = schema["properties"][name]
            if isinstance(written.get("default"), float):
                written["default"] = format_duration(written["default"])
            schema["properties"][f"{name}_minutes"] = {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_SECONDS / MINUTE,
                "description": f"The same as {name}, as a number of minutes.",
            }
            schema.setdefault("allOf", []).append({"not": {"required": [name, f"{name}_minutes"]}})
        return schema
