"""Whatever the text, there is a Config or a ConfigError, and the schema accepts what is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agentcanary.config import Config, parse_config
from agentcanary.config.schema import json_schema
from agentcanary.config.section import Section
from agentcanary.config.sections import FileSection
from agentcanary.config.yaml_lines import read_yaml
from agentcanary.errors import ConfigError
from agentcanary.plan import plan_from_dict

CASES = Path(__file__).parent / "cases"
TEXTS = [case.read_text(encoding="utf-8") for case in sorted(CASES.glob("*.yaml"))]
LINE = re.compile(r"canary\.yaml(:[1-9][0-9]*)?: \S.*", re.DOTALL)
VALIDATOR = Draft202012Validator(json_schema())

sections: list[type[Section]] = [FileSection, *Section.__subclasses__()]
keys = st.sampled_from(sorted({key for section in sections for key in section.known_keys()})) | st.text(max_size=5)
words = st.sampled_from(
    [
        *("support", "v1", "30m", "1h", "log", "up", "down", "mean", "quantile", "switch", "user", "error_rate", "~"),
        *("standard", "header", "x-id", "sqlite:///a", "https://h/p", "5%", "safety_violations == 0"),
        "error_rate_increase < 0.1",
    ]
)
numbers = st.sampled_from([0, 1, 0.05, 0.5, 5, -1, 30, 10**30]) | st.floats() | st.integers()
scalars = st.none() | st.booleans() | numbers | words | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def loaded(text: str) -> Config | None:
    """The Config, or None for a ConfigError whose every message names the file."""
    config, mistakes = None, []
    try:
        config = parse_config(text, "canary.yaml")
    except ConfigError as error:
        mistakes = error.mistakes
    if config is None:
        assert mistakes
        assert [mistake for mistake in mistakes if not LINE.fullmatch(mistake)] == []
        return None
    assert plan_from_dict(config.plan.to_dict()) == config.plan
    assert not list(VALIDATOR.iter_errors(read_yaml(text).data))
    return config


@given(st.text(max_size=200) | st.text(alphabet="agent:stble \n-[]{}&*!?|>'\"#%@`<.0123\t", max_size=120))
@settings(max_examples=70, deadline=None)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    loaded(text)


@given(st.dictionaries(keys, values, max_size=8))
@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_mapping_is_a_config_or_a_config_error(data: dict[str, Any]) -> None:
    named = {"agent": "support", "stable": "v1", **data}
    loaded(yaml.safe_dump(named, allow_unicode=True))


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=70, deadline=None)
def test_a_damaged_file_is_a_config_or_a_config_error(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    loaded(text[:at] + data.draw(st.text(max_size=6)) + text[at + length :])


@given(st.sampled_from(TEXTS), st.data())
@settings(max_examples=70, deadline=None)
def test_a_value_replaced_by_any_other_is_a_config_or_a_config_error(text: str, data: st.DataObject) -> None:
    lines = text.splitlines()
    index = data.draw(st.sampled_from([n for n, line in enumerate(lines) if re.match(r"[ -]*\w+: \S", line)]))
    value = yaml.safe_dump(data.draw(values), default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    lines[index] = re.sub(r": .*", lambda _: f": {value}", lines[index], count=1)
    loaded("\n".join(lines))


def test_the_cases_load() -> None:
    assert [loaded(text) is not None for text in TEXTS] == [True] * len(TEXTS)
