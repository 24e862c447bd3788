from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from agentcanary.assignment import Assignment, Buckets, Reason, RolloutView
from agentcanary.cli import app
from agentcanary.config import load_config
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm
from tests.agentcanary.calibration.conftest import PLAN, START, frame

SMALL = PLAN.replace("max_latency_increase: 0.50", "max_latency_increase: null")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.yaml").write_text(SMALL, encoding="utf-8")
    frame(days=3, per_hour=40).to_csv(tmp_path / "history.csv.gz", index=False)
    return tmp_path


def run(*arguments: str, replays: int = 20) -> Result:
    fast = ("--replays", str(replays), "--jobs", "1", "--longest", "1h")
    return CliRunner().invoke(app, ["calibrate", *arguments, *fast], env={"COLUMNS": "110", "NO_COLOR": "1"})


def test_it_says_what_replays_show_and_writes_the_tuned_plan(folder: Path) -> None:
    done = run("history.csv.gz", "--plan", "canary.yaml", "--output", "tuned.yaml")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "Of 20 harmless rollouts replayed from 3.0 days of history" in text
    assert "What becomes of canaries, by injected harm" in text
    assert "error_rate × 3" in text
    assert "Not known from this history" in text
    assert "Wrote tuned.yaml" in text
    assert done.stderr == ""
    tuned = (folder / "tuned.yaml").read_text(encoding="utf-8")
    assert tuned.startswith("# calibrated: Of 20 harmless")
    assert "# agreed with support" in tuned
    assert load_config(folder / "tuned.yaml").traffic.conversations_per_hour == pytest.approx(40, rel=0.02)


def test_json_is_data_only_and_the_same_again(folder: Path) -> None:
    first, again = (run("history.csv.gz", "--json", "--seed", "5") for _ in range(2))
    assert first.exit_code == 0, first.output
    data: dict[str, Any] = json.loads(first.stdout)
    assert first.stdout == again.stdout
    assert data["agent"] == "support"
    assert data["replays"]["number"] == 20
    assert data["recommended"].keys() == {"margins", "stages", "alpha"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("absent.csv",), 2, "absent.csv: there is no such file"),
        (("canary.yaml",), 2, "files are read by their ending: .csv, .csv.gz, .parquet"),
        (("sqlite:///absent.sqlite3",), 1, "absent.sqlite3"),
        (("history.csv.gz", "--plan", "absent.yaml"), 2, "there is no such file; write one with: agentcanary init"),
        (("history.csv.gz", "--version", "v9"), 2, "no conversation of 'v9', only of support-v1"),
        (("history.csv.gz", "--column", "error"), 2, "--column must be NAME=COLUMN"),
        (("history.csv.gz", "--column", "started_at=begun"), 2, "has no column 'begun', only conversation_id"),
        (("history.csv.gz", "--output", "canary.yaml"), 1, "canary.yaml is there already; replace it with --force"),
    ],
)
def test_what_a_person_can_mend_is_said_without_a_traceback(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_a_duration_that_is_none_is_refused(folder: Path) -> None:
    done = CliRunner().invoke(app, ["calibrate", "history.csv.gz", "--longest", "soon"])
    assert done.exit_code == 2
    assert "--longest must be a duration" in " ".join(done.stderr.replace("│", " ").split())


def test_the_history_that_a_store_recorded_outside_rollouts_is_replayed(folder: Path) -> None:
    rng = np.random.default_rng(2)
    view = RolloutView(agent="support", stable="support-v1", canary="support-v1")
    records: list[Record] = []
    for number in range(600):
        began = START + 300.0 * number
        name = f"c{number}"
        assignment = Assignment(
            view, name, Arm.STABLE, "support-v1", Reason.NO_ROLLOUT, -1, Buckets(0.3, 7), Reason.NO_ROLLOUT.value, True
        )
        outcome = TurnOutcome.ERROR if rng.random() < 0.1 else TurnOutcome.OK
        records += [
            TurnStarted(f"t{number}", assignment, began),
            TurnEnded(f"t{number}", assignment, began, began + 2.0, 2.0, 0.5, outcome),
            Outcome(
                id=f"o{number}", agent="support", conversation_id=name, name="task_completion", value=1.0, at=began + 9
            ),
        ]
    store = Store(f"sqlite:///{folder}/canary.sqlite3")
    store.apply("batch", records)
    store.close()
    done = run("sqlite:///canary.sqlite3", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["history"]["conversations"] == 600
    assert data["history"]["conversations_per_hour"] == pytest.approx(12, rel=0.01)
    by_metric = {one["metric"]: one for one in data["metrics"]}
    assert by_metric["error_rate"]["value"] == pytest.approx(0.1, abs=0.05)
    assert by_metric["task_completion_rate"]["value"] == 1
    assert by_metric["p95_latency"]["value"] == 2.0
    other = run("sqlite:///canary.sqlite3", "--version", "v7")
    assert other.exit_code == 2
    assert "has recorded no conversation of v7 outside rollouts" in " ".join(other.stderr.split())
