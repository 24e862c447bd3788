"""``agentcanary report`` on a real SQLite store, moved by the real controller, and on files."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import agentcanary
from agentcanary.assignment import assign, bucket, must_store
from agentcanary.cli import app
from agentcanary.config import load_config
from agentcanary.controller import Controller
from agentcanary.errors import StoreError, UnknownError
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.rollout import Rollout, view_of
from agentcanary.state_machine import new_rollout
from agentcanary.status.report import stored_report
from agentcanary.store import Store, Worker
from agentcanary.testing import FrozenClock, RecordingNotifier
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.history import Effect, generate_history

CONFIG = """
agent: support
stable: support-v1
canary: support-v2
horizon: 5m
canary_stages:
  - name: initial
    weight: 0.2
    duration: 40m
    min_requests: 50
    checks: ["error_rate_increase < 0.10", "satisfaction_regression < 0.05", "safety_violations == 0"]
  - {name: full, weight: 1.0, duration: 0s}
"""
HOUR = 3600.0


@dataclass
class Place:
    """A store into which a past is played."""

    store: Store
    controller: Controller
    clock: FrozenClock

    @property
    def rollout(self) -> Rollout:
        found = self.store.current("support")
        assert found is not None
        return found


def place_in(folder: Path) -> Place:
    (folder / "canary.yaml").write_text(CONFIG)
    config = load_config(folder / "canary.yaml")
    store, clock = Store(config.store), FrozenClock(time.time() - 6 * HOUR)
    controller = Controller(
        store,
        agent="support",
        stable=config.stable,
        canary=config.canary,
        plan=config.plan,
        clock=clock,
        owner="test",
        notify=RecordingNotifier(),
    )
    store.start(
        new_rollout("support", "support-v1", "support-v2", config.plan, now=clock(), new_salt=b"salt"),
    )
    controller.tick()
    clock.advance(10)
    return Place(store, controller, clock)


def serve(place: Place, conversations: int, *, canary_errors: float, rng: random.Random) -> None:
    """Ten minutes of conversations of one turn; then one look."""
    view = view_of("support", place.rollout, stable="support-v1", canary="support-v2", handover=2.0)
    records: list[Record] = []
    for number in range(conversations):
        at = place.clock() + 600 * number / conversations
        unit = f"c{at:.3f}"
        given = assign(view, unit, bucket(view.salt, unit), now=at, fresh=True)
        if must_store(given):
            place.store.put_pin("support", view.rollout, unit, given.pin, at)
        fails = rng.random() < (canary_errors if given.arm is Arm.CANARY else 0.05)
        latency = rng.lognormvariate(0.0, 0.5)
        ended = TurnOutcome.ERROR if fails else TurnOutcome.OK
        records += [
            TurnStarted(unit, given, at),
            TurnEnded(unit, given, at, at + latency, latency, latency / 2, ended),
            Outcome(
                id=f"done-{unit}",
                agent="support",
                conversation_id=unit,
                name="task_completion",
                value=float(rng.random() < 0.85),
                at=at + 20,
            ),
        ]
    place.store.apply(f"batch-{place.clock()}", records)
    now = place.clock.advance(600)
    place.store.heartbeat(
        Worker(
            id="w1",
            agent="support",
            host="h1",
            pid=1,
            config_hash="a",
            started_at=now - HOUR,
            reachable_since=now - HOUR,
            heartbeat_at=now,
            flushed_until=now,
        )
    )
    place.controller.tick()


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A rollout that was taken back after some looks: its canary fails more than three times as often."""
    folder = tmp_path_factory.mktemp("harmed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        place = place_in(folder)
        rng = random.Random(7)
        while not place.rollout.phase.ended:
            serve(place, 300, canary_errors=0.18, rng=rng)
        place.store.close()
        yield folder


@pytest.fixture
def here(harmed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(harmed)
    return harmed


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def test_the_report_of_a_rollout_says_verdict_evidence_split_and_audit(here: Path) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    for part in (
        "support: support-v1 → support-v2",
        "rolled back",
        "ROLL BACK: harm is proven: error_rate",
        "error_rate_increase < 0.1 ",
        "harmed",
        "the criterion of the rollout",
        "a check of the stage initial",
        "safety_violations == 0",
        "Asked for: 20 %. It is as asked for",
        "all criteria together: harm E = ",
        "estimates at a rollback for harm exaggerate",
    ):
        assert part in done.stdout, part
    markdown = run("--format", "markdown").stdout
    assert "## Audit log" in markdown
    assert "| agentcanary | rollback |" in markdown


def test_the_exit_code_says_the_verdict_when_it_is_asked_to(here: Path) -> None:
    assert run("--exit-code", "--format", "markdown").exit_code == 10


def test_as_json_it_has_the_evidence_at_every_look(here: Path) -> None:
    done = run("--json")
    data: dict[str, Any] = json.loads(done.stdout)
    assert data["verdict"] == "rollback"
    errors = next(check for check in data["checks"] if check["metric"] == "error_rate")
    looks = errors["over_time"]
    assert len(looks) >= 3
    assert [look["at"] for look in looks] == sorted(look["at"] for look in looks)
    # The last look is the one that decided.
    assert looks[-1]["harm"] == pytest.approx(errors["evidence"]["log_harm"])
    assert looks[-1]["harm"] > looks[0]["harm"]
    assert [weight for _, weight in data["rollout"]["weights"]] == [0.2, 0.0]


def test_as_html_it_is_one_file_with_the_evidence_over_time(here: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    done = run("--output", str(file))
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert f"rollback: written to {file}" in done.stderr
    html = file.read_text()
    for part in (
        "Evidence over time: error_rate_increase",
        "Weight over time",
        "Distribution: p95_latency",
        "Audit log",
    ):
        assert part in html, part


@pytest.mark.parametrize(
    ("name", "begins"), [("report.md", "# Roll back"), ("report.json", "{"), ("report.txt", "support: support-v1")]
)
def test_the_ending_of_the_file_says_the_format(here: Path, tmp_path: Path, name: str, begins: str) -> None:
    assert run("-o", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / name).read_text().startswith(begins)


def test_a_file_that_is_there_is_kept_unless_forced(here: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    file.write_text("mine")
    done = run("-o", str(file))
    assert done.exit_code == 1
    assert "is there already; replace it with --force" in done.stderr
    assert file.read_text() == "mine"
    assert run("-o", str(file), "--force").exit_code == 0
    assert file.read_text() != "mine"


def test_a_folder_that_is_not_there_is_named(here: Path, tmp_path: Path) -> None:
    done = run("-o", str(tmp_path / "nowhere" / "report.md"))
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rollout", "nothing"], "is not in"),
        (["--agent", "sales"], "has no rollout"),
    ],
)
def test_what_is_not_in_the_store_is_said(here: Path, arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stable", "v1"], "needs FILE"),
        (["outcomes.csv"], "a file needs --stable VERSION and --canary VERSION"),
        (["outcomes.csv", "--rollout", "r"], "not about both"),
        (["--json", "--format", "html"], "exclude each other"),
    ],
)
def test_options_that_do_not_go_together_are_refused(here: Path, arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_the_report_of_a_file_is_that_of_its_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = generate_history(
        days=5,
        conversations_per_day=1000,
        rng=np.random.default_rng(3),
        canary="support-v2",
        effect=Effect(errors=2.0),
    )
    frame.to_csv("outcomes.csv", index=False)
    versions = ("--stable", "support-v1", "--canary", "support-v2", "--check", "error_rate_increase < 0.10")
    done = run("outcomes.csv", *versions, "--cluster", "user_id", "--exit-code")
    assert done.exit_code == 10, done.output
    assert "ROLL BACK: error_rate_increase < 0.10" in done.stdout
    refused = run("outcomes.csv", "--stable", "support-v1", "--canary", "support-v9")
    assert refused.exit_code == 2
    assert "support-v9" in refused.stderr
    gone = run("nothing.csv", *versions)
    assert gone.exit_code == 2
    assert "nothing.csv" in gone.stderr


def test_a_rollout_without_conversations_has_a_report_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = place_in(tmp_path)
    report = stored_report(place.store, place.rollout, now=place.clock())
    place.store.close()
    assert report.verdict.value == "hold"
    assert {check.status for check in report.checks} == {Status.NO_DATA}
    assert "No conversations were counted." in report.to_markdown()
    words = repr(report.plots())
    assert "Weight of the canary: 20 %." in words
    assert "Evidence of" not in words


def test_a_notebook_reads_a_rollout_by_the_url_of_its_store(here: Path) -> None:
    url = load_config(here / "canary.yaml").store
    by_url = agentcanary.report(url)
    assert by_url.verdict.value == "rollback"
    assert by_url.course is not None
    assert agentcanary.report(url, rollout=by_url.course.rollout).checks == by_url.checks
    assert len(by_url["error_rate"].over_time) >= 3
    with pytest.raises(UnknownError, match="agent 'sales' has no rollout"):
        agentcanary.report(url, agent="sales")
    with pytest.raises(StoreError, match="there is no such file"):
        agentcanary.report("sqlite:///nothing.sqlite3")
    assert not Path("nothing.sqlite3").exists()


def test_analyze_writes_the_same_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = generate_history(days=2, conversations_per_day=400, rng=np.random.default_rng(3), canary="support-v2")
    frame.to_csv("outcomes.csv", index=False)
    versions = ("--stable", "support-v1", "--canary", "support-v2", "--check", "error_rate_increase < 0.10")
    done = CliRunner().invoke(app, ["analyze", "outcomes.csv", *versions, "--output", "report.md"])
    assert done.exit_code == 11, done.output
    assert run("outcomes.csv", *versions, "--output", "again.md").exit_code == 0
    assert Path("report.md").read_text() == Path("again.md").read_text()
