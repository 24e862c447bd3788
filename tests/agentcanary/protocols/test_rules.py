"""A team's own rules of what makes a turn an error."""

from __future__ import annotations

import pytest

from agentcanary.protocols import BodyReader, ErrorRule, EventReader, Facts, Noticed, protocol_of

RULES = protocol_of(
    [
        ErrorRule(json="result.status", values=("failed", 3, False)),
        ErrorRule(json="problem"),
        ErrorRule(event="crashed"),
    ]
)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"result": {"status": "failed"}}', "failed"),
        (b'{"result": {"status": 3}}', "3"),
        (b'{"result": {"status": false}}', "result.status"),
        (b'{"result": {"status": 0}}', None),
        (b'{"result": {"status": "ok"}}', None),
        (b'{"result": null}', None),
        (b'{"problem": {"title": "no"}}', "problem"),
        (b'{"problem": null}', None),
        (b'{"problem": ""}', None),
        (b'["problem"]', None),
    ],
    ids=str,
)
def test_a_value_in_json_makes_an_error(body: bytes, error: str | None) -> None:
    found = BodyReader([RULES]).feed(body, last=True)
    assert found == (None if error is None else Noticed(Facts(error)))


def test_the_name_of_an_event_makes_an_error() -> None:
    assert EventReader([RULES]).feed(b"event: crashed\ndata: at line 3\n\n") == Noticed(Facts("crashed"))
    assert EventReader([RULES]).feed(b"event: message\ndata: crashed\n\n") is None


def test_a_rule_is_about_one_thing() -> None:
    with pytest.raises(ValueError, match="one of them"):
        ErrorRule(json="a", event="b")
    with pytest.raises(ValueError, match="one of them"):
        ErrorRule()
    with pytest.raises(ValueError, match="no value to compare"):
        ErrorRule(event="b", values=("x",))
