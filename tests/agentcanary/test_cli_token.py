"""Credentials from the command line: shown once, and believed by what they are for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from agentcanary import Canary
from agentcanary.cli import app
from agentcanary.config import Security, parse_config
from agentcanary.security import Guard, Scope
from agentcanary_analysis.aggregates import Arm

FILE = "agent: support\nstable: support-v1\ncanary: support-v2\n"
TESTERS = "security: {testers: true}\n"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def test_what_the_command_prints_opens_what_was_asked_for() -> None:
    printed = run("token", "oncall", "--scope", "read", "--scope", "record").splitlines()
    made = printed[0]
    (entry,) = [yaml.safe_load(line) for line in printed if line.strip().startswith("- {")]
    security = parse_config(FILE + yaml.safe_dump({"security": {"tokens": entry}})).security
    principal = Guard.configured(security, {}).principal_of(made)
    assert principal is not None
    assert (principal.name, set(principal.scopes)) == ("oncall", {Scope.READ, Scope.RECORD})


def test_a_token_from_the_command_line_may_stand_in_the_environment() -> None:
    made = json.loads(run("token", "--json"))["token"]
    assert Guard.configured(Security(), {"AGENTCANARY_TOKEN": made}).principal_of(made) is not None


def test_an_unknown_scope_is_named() -> None:
    assert "scope 'admin' is unknown; known are read, operate, record" in run("token", "--scope", "admin", code=2)


def test_a_testers_token_is_believed_by_the_application_of_the_same_store(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(FILE + TESTERS)
    made = json.loads(run("tester", "ann", "--expires", "1h", "--config", str(file), "--json"))
    canary = Canary.from_file(file)
    canary.start_blocking()
    try:
        request = {"headers": [(b"x-canary", made["token"].encode())]}
        assert canary.forcing is not None
        assert canary.forcing.forced(request, now=made["expires_at"] - 1) is Arm.CANARY
        assert canary.forcing.forced(request, now=made["expires_at"]) is None
    finally:
        canary.stop_blocking()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expires", "31d"], "must expire within 30 days"),
        (["--expires", "soon"], "agentcanary tester:"),
        (["--arm", "both"], "'both' is not a valid Arm"),
    ],
)
def test_a_testers_token_that_is_none_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(FILE + TESTERS)
    assert said in run("tester", "ann", *arguments, "--config", str(file), code=2)


def test_a_testers_token_that_nobody_would_believe_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(FILE)
    assert "security.testers is false" in run("tester", "ann", "--config", str(file), code=2)
