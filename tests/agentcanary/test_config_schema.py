from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agentcanary.config.schema import json_schema
from agentcanary.config.yaml_lines import read_yaml

CASES = Path(__file__).parent / "cases"
NAMES = "agent: support\nstable: support-v1\n"


def problems(text: str) -> list[str]:
    errors = Draft202012Validator(json_schema()).iter_errors(read_yaml(text).data)
    return [error.message for error in errors]


def test_it_is_a_valid_schema_of_its_dialect() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_accepts_every_case_that_loads(case: Path) -> None:
    assert problems(case.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "alpa: 0.05",
        "alpha: 5",
        "preset: brave",
        "canary_stages:",
        "canary_stages: []",
        "canary_stages: [{name: a}]",
        "canary_stages: [{name: a, weight: 5}]",
        "canary_stages: [{name: a, weight: 1, duration: 30}]",
        "canary_stages: [{name: a, weight: 1, duration: 30m, duration_minutes: 30}]",
        "bake_minutes: -1",
        "notify: [slack]",
        "conversation: {id_from: [haeder: x]}",
        "conversation: {id_from: [{header: x, query: y}]}",
        "metrics: [{name: cost, kind: average}]",
        "rollback: {floor: {error_rate: -1}}",
    ],
)
def test_it_marks_what_an_editor_can_see(wrong: str) -> None:
    assert problems(NAMES + wrong)


def test_every_default_in_it_is_accepted_by_it() -> None:
    schema = json_schema()
    wrong = []
    for name, section in {"file": schema, **schema["$defs"]}.items():
        for key, described in section.get("properties", {}).items():
            if "default" in described:
                validator = Draft202012Validator({"$defs": schema["$defs"], **described})
                wrong += [f"{name}.{key}: {error.message}" for error in validator.iter_errors(described["default"])]
    assert wrong == []


def keys_of(node: Any) -> set[str]:
    if isinstance(node, dict):
        return set(node) | {key for value in node.values() for key in keys_of(value)}
    return {key for item in node for key in keys_of(item)} if isinstance(node, list) else set()


def test_the_minutes_of_every_duration_are_in_it() -> None:
    assert {"duration_minutes", "bake_minutes", "idle_after_minutes", "horizon_minutes"} <= keys_of(json_schema())
