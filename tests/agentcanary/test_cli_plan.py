from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentcanary.cli import app
from agentcanary.presets import PRESETS

CASES = Path(__file__).parent / "cases"
NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"
# One stage and one criterion: five canaries, quickly simulated.
SMALL = (
    NAMES
    + """
canary_stages:
  - {name: half, weight: 0.5, duration: 1h, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {max_error_increase: 0.5, max_completion_drop: null, max_latency_increase: null}
"""
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.yaml").write_text(SMALL, encoding="utf-8")
    return tmp_path


def run(*arguments: str, columns: int = 80, runs: int = 10, **environment: str) -> Result:
    shown = {"COLUMNS": str(columns), "NO_COLOR": "1", **environment}
    return CliRunner().invoke(app, ["plan", "--runs", str(runs), *arguments], env=shown)


def data(*arguments: str) -> dict[str, Any]:
    done = run("--json", *arguments)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_says_what_is_assumed_what_is_provable_and_what_becomes_of_canaries(folder: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "200 conversations an hour assumed" in text
    assert "errors of stable 5.0 % assumed" in text
    assert "--conversations-per-hour, --error-rate" in text
    assert "half weight 0.5, lasts 2h30m (its minimum of conversations takes longer than 1h), 200 canary" in text
    assert "too few to prove its limit, at most 6.0 %: that takes" in text
    assert "10 simulated rollouts of each (seed 1)" in text
    assert "× 1.25 6.2 % *" in text
    assert "Expected duration of harmless canaries' rollouts: half of them take up to" in text
    assert "Warning: Checks that can never be decided within their stage" in text
    assert done.stderr == ""


def test_it_is_readable_at_80_columns_and_without_colours(folder: Path) -> None:
    lines = run().stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "\x1b" not in "".join(lines)
    # The rows of the table of canaries are not broken.
    assert sum("±" in line and line.count("%") >= 3 for line in lines) == 5


def test_the_same_seed_prints_the_same_numbers(folder: Path) -> None:
    first, again, other = run("--seed", "7"), run("--seed", "7"), run("--seed", "8")
    assert first.stdout == again.stdout != other.stdout
    assert "(seed 7)" in " ".join(first.stdout.split())


def test_the_files_traffic_is_used_and_an_option_wins_over_it(folder: Path) -> None:
    with_traffic = SMALL + "traffic: {conversations_per_hour: 1000, stable: {error_rate: 0.02}}\n"
    (folder / "canary.yaml").write_text(with_traffic, encoding="utf-8")
    stated = data()
    assert stated["traffic"] == {"conversations_per_hour": 1000.0, "stated": True}
    assert [(one["stable"], one["stated"]) for one in stated["metrics"]] == [(0.02, True)]
    given = data("--conversations-per-hour", "50", "--error-rate", "0.2")
    assert given["traffic"]["conversations_per_hour"] == 50
    assert given["metrics"][0]["stable"] == 0.2
    assert "is no more than a guess" not in run().stdout


def test_json_has_every_number_and_nothing_else_is_printed(folder: Path) -> None:
    found = data()
    [half, full] = found["stages"]
    [check] = half["checks"]
    assert (half["canary_conversations"], half["hours"], half["waits_for_conversations"]) == (200, 2.5, True)
    assert check["boundary"]["ratio"] == 1.1
    assert check["boundary"]["value"] == pytest.approx(0.06)
    assert check["detectable"]["ratio"] > 1
    assert check["certifiable"]["value"] > check["boundary"]["value"]
    assert check["decidable"] is False
    assert full["checks"] == []
    simulation = found["simulation"]
    assert (simulation["runs"], simulation["seed"]) == (10, 1)
    assert [one["ratio"] for one in simulation["canaries"]] == [1.0, 1.25, 1.5, 2.0, 3.0]
    for one in simulation["canaries"]:
        assert one["rolled_back"]["count"] + one["promoted"]["count"] + one["undecided"]["count"] == 10
        assert one["promoted"]["standard_error"] > 0
    assert simulation["canaries"][0]["rolled_back"]["count"] <= 2
    assert simulation["canaries"][-1]["rolled_back_for_harm"]["count"] == 10
    assert len(found["warnings"]) >= 1


def test_completion_takes_part_when_its_rate_is_stated(folder: Path) -> None:
    (folder / "canary.yaml").write_text(SMALL.replace("max_completion_drop: null", "max_completion_drop: 0.05"))
    without = run()
    assert "Without task completion" in without.stdout
    assert "--completion-rate" in without.stdout
    found = data("--completion-rate", "0.9")
    assert found["left_out"] == []
    assert {one["metric"] for one in found["simulation"]["canaries"]} == {None, "error_rate", "task_completion_rate"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--error-rate", "5"), "--error-rate: error_rate must be between 0 and 1, got 5"),
        (("--completion-rate", "0"), "--completion-rate: task_completion_rate must be between 0 and 1"),
        (("--conversations-per-hour", "0"), "conversations_per_hour must be positive, got 0"),
        (("--seed", "-1"), "--seed"),
    ],
)
def test_an_impossible_number_is_a_mistake_in_the_call(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "canary.yaml").write_text(NAMES, encoding="utf-8")
    refused = run(*arguments, columns=200)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert refused.stdout == ""


def test_an_impossible_number_in_the_file_is_named_by_its_key(folder: Path) -> None:
    (folder / "canary.yaml").write_text(SMALL + "traffic: {stable: {error_rate: 0}}\n", encoding="utf-8")
    refused = run(columns=200)
    assert refused.exit_code == 2
    assert "traffic.stable.error_rate must be between 0 and 1, got 0" in refused.stderr


def test_a_missing_file_is_a_mistake_in_the_call(folder: Path) -> None:
    refused = run("--config", "no.yaml")
    assert refused.exit_code == 2
    assert "no.yaml" in refused.stderr


# The harmless canary, and four harmful ones for each metric that is judged: one of everything.yaml only warns.
@pytest.mark.parametrize(("case", "canaries"), [("article.yaml", 13), ("everything.yaml", 9)])
def test_the_case_files_can_be_planned(case: str, canaries: int) -> None:
    found = data("--config", str(CASES / case))
    assert len(found["simulation"]["canaries"]) == canaries
    assert found["simulation"]["canaries"][0]["rolled_back"]["count"] <= 3


def test_a_first_configuration_can_be_planned(folder: Path) -> None:
    assert CliRunner().invoke(app, ["init", "--force"]).exit_code == 0
    found = data()
    assert [stage["name"] for stage in found["stages"]] == [stage.name for stage in PRESETS["standard"].stages]
    assert [left["metric"] for left in found["left_out"]] == ["task_completion_rate"]
