"""``agentcanary analyze``: exit codes, data on standard output and nothing else there, mistakes with their remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from agentcanary.cli import app

VERSIONS = ["--stable", "support-v1", "--canary", "support-v2"]


def table(rows: int = 6000, *, errors: tuple[float, float] = (0.06, 0.06), slower: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    canary = rng.random(rows) < 0.4
    return pd.DataFrame(
        {
            "conversation_id": [f"c-{number}" for number in range(rows)],
            "version": np.where(canary, "support-v2", "support-v1"),
            "user_id": rng.integers(0, rows // 4, rows),
            "error": (rng.random(rows) < np.where(canary, errors[1], errors[0])).astype(int),
            "latency_s": rng.lognormal(0.5, 0.7, rows) * np.where(canary, slower, 1.0),
            "started_at": pd.Timestamp("2026-01-05", tz="UTC") + pd.to_timedelta(np.arange(rows) * 60, unit="s"),
        }
    )


def analyze(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["analyze", *map(str, arguments)])


def written(folder: Path, frame: pd.DataFrame, name: str = "outcomes.csv.gz") -> Path:
    path = folder / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("errors", "slower", "code", "verdict"),
    [((0.08, 0.03), 0.8, 0, "promote"), ((0.04, 0.10), 1.0, 10, "rollback"), ((0.06, 0.064), 1.0, 11, "hold")],
    ids=["promote", "rollback", "hold"],
)
@pytest.mark.parametrize("name", ["outcomes.csv.gz", "outcomes.parquet"])
def test_the_exit_code_is_the_verdict_and_json_is_all_there_is(
    errors: tuple[float, float], slower: float, code: int, verdict: str, name: str, tmp_path: Path
) -> None:
    result = analyze(written(tmp_path, table(errors=errors, slower=slower), name), *VERSIONS, "--json")
    assert result.exit_code == code, result.output
    data = json.loads(result.stdout)
    assert data["verdict"] == verdict
    assert {check["check"] for check in data["checks"]} == {"error_rate_increase < 0.10", "p95_latency_increase < 0.50"}
    assert result.stderr == ""


def test_a_person_reads_the_verdict_first(tmp_path: Path) -> None:
    result = analyze(written(tmp_path, table(errors=(0.04, 0.10))), *VERSIONS)
    assert result.exit_code == 10
    shown = result.stdout
    assert "ROLL BACK:" in shown
    assert shown.index("ROLL BACK:") < shown.index("judged against")


def test_every_option_reaches_the_analysis(tmp_path: Path) -> None:
    frame = table().rename(columns={"latency_s": "seconds", "conversation_id": "id"})
    frame["domain"] = np.where(frame.index % 2, "air", "retail")
    call = [
        *("--unit", "id", "--cluster", "user_id", "--strata", "domain", "--weight", "0.4", "--alpha", "0.01"),
        *("--check", "p95_latency_increase < 0.3", "--check", "error_rate_increase < 0.2", "--seed", "3"),
        *("--column", "latency_s=seconds", "--method", "group-sequential", "--looks", "4", "--json"),
    ]
    result = analyze(written(tmp_path, frame), *VERSIONS, *call)
    assert result.exit_code in (0, 11), result.output
    data = json.loads(result.stdout)
    assert (data["unit"], data["cluster"], data["weight"], data["alpha"]) == ("id", "user_id", 0.4, 0.01)
    assert data["method"] == "group-sequential"
    assert [check["check"] for check in data["checks"]] == ["p95_latency_increase < 0.3", "error_rate_increase < 0.2"]
    assert [epoch["label"] for epoch in data["epochs"]] == ["domain air", "domain retail"]
    assert data["sample_ratio"]["status"] == "ok"


def test_spans_are_read_and_what_was_skipped_is_said_beside_the_data(tmp_path: Path) -> None:
    lines = []
    for number in range(200):
        attributes = {
            "agentcanary.turn": f"t-{number}",
            "gen_ai.conversation.id": f"c-{number}",
            "gen_ai.agent.version": f"support-v{1 + number % 2}",
            "agentcanary.outcome": "ok",
        }
        written_as = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
        start = 1_767_600_000_000_000_000 + number * 10**9
        span: dict[str, Any] = {
            "traceId": f"{number:032x}",
            "spanId": f"{number + 1:016x}",
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + 10**9),
            "attributes": written_as,
        }
        lines.append(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    path = tmp_path / "spans.jsonl"
    path.write_text("\n".join([*lines, lines[0][:30]]))
    result = analyze(path, *VERSIONS, "--json")
    assert result.exit_code == 11, result.output
    assert json.loads(result.stdout)["sample_ratio"]["stable"] in (99, 100)
    assert "1 truncated last line" in result.stderr


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such file": (["nothing.csv", *VERSIONS], "nothing.csv: there is no such file"),
    "no versions": (["outcomes.csv.gz"], "--stable VERSION and --canary VERSION"),
    "an unknown version": (["outcomes.csv.gz", "--stable", "a", "--canary", "b"], "it has support-v1 ("),
    "an unknown check": (["outcomes.csv.gz", *VERSIONS, "--check", "errors < 1"], "unknown metric 'errors'"),
    "an unknown unit": (["outcomes.csv.gz", *VERSIONS, "--unit", "session"], "no column 'session' for unit"),
    "alpha in percent": (["outcomes.csv.gz", *VERSIONS, "--alpha", "5"], "write 0.05 for 5 %"),
    "a weight in percent": (["outcomes.csv.gz", *VERSIONS, "--weight", "40"], "write 0.05 for 5 %"),
    "anytime without a weight": (["outcomes.csv.gz", *VERSIONS, "--method", "anytime"], "which share the canary"),
    "another method": (["outcomes.csv.gz", *VERSIONS, "--method", "peeking"], "peeking"),
    "a broken mapping": (["outcomes.csv.gz", *VERSIONS, "--column", "latency_s"], "NAME=COLUMN"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_call_ends_with_2_and_the_remedy(
    call: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, table(50))
    monkeypatch.chdir(tmp_path)
    result = analyze(*call, "--json")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "canary.sqlite3"
    result = analyze(f"sqlite:///{path}")
    assert result.exit_code == 1
    assert "there is no such file" in result.stderr
    assert not path.exists()
