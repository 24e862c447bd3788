"""The JSON Schema of canary.yaml, for editors. Pure.

It accepts whatever ``load_config`` accepts; what only ``load_config`` sees (falling weights, unknown metrics) it lets
pass.
"""

from __future__ import annotations

from typing import Any

from agentcanary.config.sections import FileSection

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema, draft 2020-12.

    >>> json_schema()["required"]
    ['agent', 'stable']
    """
    schema = FileSection.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        section.pop("title", None)
        for key in section.get("properties", {}).values():
            key.pop("title", None)
            if key.get("default", 0) is None or isinstance(key.get("default"), dict | list):
                # null says nothing, and a section's own keys show their defaults.
                del key["default"]
    return {"$schema": DIALECT, "title": "canary.yaml", **schema}
