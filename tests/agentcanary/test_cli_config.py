from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from jsonschema import Draft202012Validator
from typer.testing import CliRunner, Result

from agentcanary.cli.config import register
from agentcanary.config import load_config, parse_config
from agentcanary.config.shown_urls import shown_url, shown_webhook
from agentcanary.config.template import first_config
from agentcanary.config.words import in_data, in_words
from agentcanary.presets import PRESETS

CASES = Path(__file__).parent / "cases"
NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, arguments)


def test_init_writes_a_file_that_validates(folder: Path) -> None:
    done = run("init", "--preset", "safety_critical")
    assert done.exit_code == 0, done.output
    config = load_config(folder / "canary.yaml")
    assert (config.agent, config.stable, config.canary) == ("support", "support-v1", "support-v2")
    assert config.preset == "safety_critical"
    assert run("validate").exit_code == 0


def test_init_takes_names(folder: Path) -> None:
    done = run("init", "--agent", "billing", "--stable", "it's 1.10", "--canary", "1.11", "--config", "other.yaml")
    assert done.exit_code == 0, done.output
    config = load_config(folder / "other.yaml")
    assert (config.agent, config.stable, config.canary) == ("billing", "it's 1.10", "1.11")


def test_init_never_replaces_a_file_unless_forced(folder: Path) -> None:
    file = folder / "canary.yaml"
    file.write_text("mine")
    refused = run("init")
    assert (refused.exit_code, file.read_text()) == (1, "mine")
    assert "canary.yaml is there already; replace it with --force" in refused.stderr
    assert run("init", "--force").exit_code == 0
    assert load_config(file).preset == "standard"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--stable", "v1", "--canary", "v1"), 2, "canary must differ from stable"),
        (("--preset", "brave"), 2, "brave"),
        (("--config", "no/such/folder.yaml"), 1, "cannot be written: No such file or directory"),
    ],
)
def test_init_says_why_it_writes_nothing(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    refused = run("init", *arguments)
    assert refused.exit_code == code
    assert message in refused.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_that_init_shows_as_a_comment_is_the_default_and_valid(preset: str) -> None:
    text = first_config(agent="support", stable="v1", canary="v2", preset=preset)
    shown = parse_config(re.sub(r"^#(?! \S)(?=.)", "", text, flags=re.MULTILINE))
    plain = parse_config(text)
    assert shown.plan.stages == plain.plan.stages
    assert shown.plan.criteria[:3] == plain.plan.criteria
    assert (shown.plan.promotion, shown.plan.pinned) == (plain.plan.promotion, plain.plan.pinned)
    assert shown.conversation == plain.conversation
    assert [metric for metric in shown.plan.metrics if metric.name != "cost"] == list(plain.plan.metrics)


def test_validate_says_the_plan_in_words() -> None:
    done = run("validate", str(CASES / "article.yaml"))
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "support: support-v1 → support-v2"
    table = [line.split("  ") for line in lines if line.startswith(("initial", "medium_traffic", "full_rollout"))]
    assert [[cell.strip() for cell in row if cell.strip()] for row in table] == [
        ["initial", "5 %", "30m", "50", "error_rate_increase < 0.10, safety_violations == 0"],
        [
            "medium_traffic",
            "50 %",
            "2h",
            "1,000",
            "error_rate_increase < 0.03, task_completion_regression < 0.02, safety_violations == 0",
        ],
        ["full_rollout", "100 %", "30m", "–", "(harm pauses)"],
    ]
    assert "At least 4h in all. A conversation is counted 30m after its first turn." in lines
    assert "  errors: judged against 6.0 % where stable has 5.0 % (+10 % and half a point)" in lines
    assert "  safety violations: one that is confirmed stops the canary at once" in lines


def test_validate_uses_what_is_known_of_the_traffic() -> None:
    traffic = (
        "traffic: {conversations_per_hour: 900, stable: {error_rate: 0.05, p95_latency: 4, task_completion_rate: 0.85}}"
    )
    lines = in_words(parse_config(NAMES + "preset: standard\n" + traffic))
    assert "  errors: judged against 6.0 % at your 5.0 % (+10 % and half a point)" in lines
    assert "  p95 latency: judged against 6 at your 4 (+50 %)" in lines
    assert (
        "  task completion: judged against 80.2 % at your 85.0 % (−5 % and half a point); "
        "weight 1 needs proof within 82.8 % at your 85.0 % (−2 % and half a point)"
    ) in lines
    assert not any("takes about" in line for line in lines)
    slow = in_words(parse_config(NAMES + traffic.replace("900", "10")))
    assert "Stage initial takes about 4d4h: 50 canary conversations at 10 an hour." in slow


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("", "stages: preset standard, because the file has no canary_stages"),
        ("canary_stages: [{name: all, weight: 1}]", "stages: as in the file"),
        (
            "",
            "Not measured by any check: task completion. It counts once the outcome 'task_completion' is recorded.",
        ),
        ("", "No boundary for satisfaction: reported, never a reason to roll back."),
        (
            "canary_stages: [{name: all, weight: 1}]",
            "No stage lies between weight 0 and 1: the versions are never compared, and nothing is proven.",
        ),
        (
            "rollback: {max_safety_violations: 2}",
            "  safety violations: more than 2 confirmed ones stop the canary at once",
        ),
        (
            "promotion: {max_violation_rate: 0.001}",
            (
                "  safety violations: one that is confirmed stops the canary at once; weight 1 needs a rate of 0.001 "
                "ruled out, as 2,996 conversations without one do"
            ),
        ),
        ("rollback: {floor: 0.02}", "  errors: judged against 7.5 % where stable has 5.0 % (+10 % and 2 points)"),
        ("", "Of canaries within every boundary at most 5 % are rolled back, of those beyond one 5 % promoted."),
        ("max_duration: 7d\non_inconclusive: pause", "Undecided after 7d: paused."),
        ("rollback: {floor: 0}", "  errors: judged against 5.5 % where stable has 5.0 % (+10 %)"),
        (
            "metrics: [{name: cost, kind: mean, worse: up, floor: 0.1, rollback_margin: 0.2}]",
            "  cost: judged against 1.2 × stable's plus 0.1 (+20 % and 0.1)",
        ),
        ("notify: [log, webhook: 'https://h.example/T0/secret']", "Notifications: log, webhook https://h.example/…"),
        ("store: postgresql+psycopg://u:secret@db/x", "Store: postgresql+psycopg://u:***@db/x"),
    ],
)
def test_validate_says_what_matters(more: str, line: str) -> None:
    assert line in in_words(parse_config(NAMES + more))


def test_validate_prints_every_mistake_on_stderr(folder: Path) -> None:
    (folder / "canary.yaml").write_text("agent: support\nalpha: 5\n")
    refused = run("validate")
    assert refused.exit_code == 2
    assert refused.stdout == ""
    assert refused.stderr.splitlines() == [
        "canary.yaml:1: stable is missing; write stable: support-v1",
        "canary.yaml:2: alpha must be less than 0.5, got 5; write 0.05 for 5 %",
    ]


def test_validate_prints_data_only_for_json(folder: Path) -> None:
    (folder / "canary.yaml").write_text(NAMES)
    found = json.loads(run("validate", "--json").stdout)
    assert (found["valid"], found["preset"], found["not_measured"]) == (True, "standard", ["task_completion_rate"])
    assert [stage["weight"] for stage in found["stages"]] == [0.05, 0.15, 0.5, 1.0]
    (folder / "canary.yaml").write_text(NAMES + "alpha: 5")
    refused = run("validate", "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout) == {
        "valid": False,
        "mistakes": ["canary.yaml:4: alpha must be less than 0.5, got 5; write 0.05 for 5 %"],
    }


def test_validate_reads_one_file(folder: Path) -> None:
    (folder / "a.yaml").write_text(NAMES)
    assert run("validate", "--config", "a.yaml").exit_code == 0
    assert run("validate", "a.yaml").exit_code == 0
    refused = run("validate", "a.yaml", "--config", "b.yaml")
    assert refused.exit_code == 2
    assert "name one file" in re.sub(r"\s+", " ", refused.stderr)


def test_neither_words_nor_data_hold_a_secret() -> None:
    config = load_config(CASES / "everything.yaml")
    said = "\n".join(in_words(config)) + json.dumps(in_data(config))
    for secret in ("hunter2", "0123456789abcdef0123", "T0"):
        assert secret not in said


def test_schema_prints_the_schema() -> None:
    done = run("schema")
    assert done.exit_code == 0
    schema = json.loads(done.stdout)
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["agent", "stable"]


def test_urls_are_shown_without_their_secrets() -> None:
    assert shown_url("sqlite:////var/canary.sqlite3") == "sqlite:////var/canary.sqlite3"
    assert shown_url("postgresql+psycopg://db/x?password=secret") == "postgresql+psycopg://db/x"
    assert (
        shown_webhook("https://user:secret@hooks.example.com:8443/T0?key=secret") == "https://hooks.example.com:8443/…"
    )
