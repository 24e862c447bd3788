"""Runs the demo: starts the agent and its users, tells what happens, and says how it came out."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from agentcanary.demo import conclusion, report
from agentcanary.demo.agent import FOLDER
from agentcanary.demo.processes import Process, free_port
from agentcanary.demo.results import Result, counted, decided, rule_of_thumb, why_not
from agentcanary.demo.scenarios import CANARY, SCENARIOS, STABLE, STORE, Scenario, canary_yaml, scenario
from agentcanary.demo.serve import WORKERS
from agentcanary.demo.stickiness import stickiness, stop_of
from agentcanary.demo.story import Event, events_of, taken_back_at, weight_changes
from agentcanary.demo.summary import Summary
from agentcanary.demo.timing import Timing
from agentcanary.demo.turns import SeenTurn, seen_turn
from agentcanary.errors import AgentCanaryError
from agentcanary.looking import findings_of
from agentcanary.rollout import Phase
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.verdict import Findings

TURNS = "turns.jsonl"
# Real seconds.
_STARTS_WITHIN = 30.0
_POLL = 0.2
# After the last decision: so that users on a version that was taken back are seen to move.
_SETTLES = 3.0
_WRITTEN_WITHIN = 1.0
_CLOCKS_MEET_AFTER = 20.0


class DemoError(AgentCanaryError):
    """The demo could not be run."""


def run(
    *,
    seconds: float = 90.0,
    json_output: bool = False,
    keep: Path | None = None,
    only: Sequence[str] | None = None,
) -> int:
    """Run the demo.

    Args:
        seconds: Real seconds after which it ends at the latest, decided or not; a few more to say how it came out.
        json_output: Print nothing but the summary, as JSON.
        keep: Folder for everything that it makes; else one in the system's folder for temporary files.
        only: Names of the rollouts to run; all of them by default.

    Returns:
        Exit code: 0 when everything came out as promised, 1 when not, 2 when the folder cannot be used, 130 when
        interrupted.
    """
    console = Console(highlight=False, emoji=False, quiet=json_output)
    complaints = Console(stderr=True, highlight=False, emoji=False)
    scenarios = SCENARIOS if only is None else tuple(scenario(name) for name in only)
    folder = Path(tempfile.mkdtemp(prefix="agentcanary-demo-")) if keep is None else keep
    try:
        _fill(folder, scenarios)
    except OSError as error:
        complaints.print(f"agentcanary demo: {folder} cannot be used: {error}; name another with --keep")
        return 2
    began = time.time()
    try:
        with _interruptible():
            summary = _Demo(scenarios, folder.absolute(), console, began, until=began + seconds).run()
    except DemoError as error:
        complaints.print(f"agentcanary demo: {error}")
        return 1
    except KeyboardInterrupt:
        complaints.print(f"\ninterrupted; what it has so far is in {folder}")
        return 130
    if json_output:
        sys.stdout.write(json.dumps(summary.to_dict(), indent=2, allow_nan=False) + "\n")
    else:
        conclusion.summarise(console, summary)
        report.look_next(console, summary)
    return 0 if summary.passed else 1


class _Demo:
    """One run.

    Args:
        scenarios: The rollouts.
        folder: With their configurations in it.
        console: For people.
        began: Real Unix time.
        until: Real Unix time at which it ends at the latest.
    """

    def __init__(
        self, scenarios: Sequence[Scenario], folder: Path, console: Console, began: float, until: float
    ) -> None:
        self._scenarios = scenarios
        self._folder = folder
        self._console = console
        self._began, self._until = began, until
        self._timing = Timing(meets=until + _CLOCKS_MEET_AFTER)
        self._store = Store(f"sqlite:///{folder / STORE}")
        self._turns = _Lines(folder / TURNS)
        self._seen: list[SeenTurn] = []
        self._told: set[Event] = set()
        self._violations: list[Event] = []
        self._degraded: dict[str, Mapping[str, int]] = {}
        self._zero = 0.0

    def run(self) -> Summary:
        report.introduce(self._console, self._scenarios, str(self._folder / f"{self._scenarios[0].name}.yaml"))
        port = free_port()
        environment = self._timing.environment() | {FOLDER: str(self._folder)}
        names = [one.name for one in self._scenarios]
        started: list[Process] = []
        try:
            log = self._folder / "server.log"
            server = Process("agentcanary.demo.serve", [str(port)], log=log, environment=environment)
            started.append(server)
            self._await_start(server)
            load = Process(
                "agentcanary.demo.load",
                [str(port), str(self._folder / TURNS), f"{self._until - time.time():.1f}", *names],
                log=self._folder / "load.log",
                environment={},
            )
            started.append(load)
            self._follow(server, load)
            load.stop(within=3.0)
        finally:
            # The users first: nobody's turn is to break off because the server ends.
            for process in reversed(started):
                process.stop(within=8.0)
        self._tell_news(final=True)
        try:
            return self._summary()
        finally:
            self._store.close()

    def _await_start(self, server: Process) -> None:
        """Wait until every worker has reported and every rollout has begun."""
        deadline = time.time() + _STARTS_WITHIN
        while time.time() < deadline:
            self._refuse_dead(server)
            try:
                rollouts = [self._store.current(one.name) for one in self._scenarios]
                workers = [len(self._store.workers(one.name)) for one in self._scenarios]
            except AgentCanaryError:
                rollouts, workers = [], []
            if rollouts and all(one is not None and one.phase is not Phase.PENDING for one in rollouts):
                self._zero = min(one.stage_started_at for one in rollouts if one is not None)
                if min(workers) >= WORKERS:
                    return
            time.sleep(_POLL)
        raise DemoError(
            f"the agent's {WORKERS} workers did not begin their rollouts within {_STARTS_WITHIN:g} s; "
            f"{self._folder / 'server.log'} ends with:\n{server.last_words()}"
        )

    def _follow(self, server: Process, load: Process) -> None:
        """Tell what happens until everything is decided or the time is up."""
        settled_at = None
        while time.time() < self._until:
            self._refuse_dead(server, load)
            done = self._tell_news()
            if done and settled_at is None:
                settled_at = time.time() + _SETTLES
            if settled_at is not None and time.time() >= settled_at:
                return
            time.sleep(_POLL)

    @staticmethod
    def _refuse_dead(*processes: Process) -> None:
        for process in processes:
            if process.exit_code is not None:
                raise DemoError(
                    f"{process.module} ended by itself with exit code {process.exit_code}:\n{process.last_words()}"
                )

    def _tell_news(self, *, final: bool = False) -> bool:
        """Tell what is new, the latest only when it is final; True when everything is decided."""
        audited: list[Event] = []
        done = True
        for one in self._scenarios:
            rollout = self._store.current(one.name)
            if rollout is not None:
                audited += events_of(rollout, self._store.audit(rollout.id))
            done = done and decided(one, rollout)
            for worker in self._store.workers(one.name):
                self._degraded[worker.id] = worker.degraded
        for line in self._turns.new():
            seen = seen_turn(line)
            self._seen.append(seen)
            if seen.violation_at is not None:
                text = f"{seen.version} gives away an address in {seen.conversation}"
                clock = self._timing.meets + (seen.violation_at - self._timing.meets) * self._timing.speed
                self._violations.append(Event(at=clock, scenario=seen.scenario, text=text, style="bad"))
        # What was written a moment later may have happened before.
        settled = self._timing.clock() - (0.0 if final else _WRITTEN_WITHIN * self._timing.speed)
        news = [event for event in (*audited, *self._violations) if event.at <= settled]
        for event in sorted(set(news) - self._told, key=lambda event: event.at):
            self._told.add(event)
            clock = event.at - self._zero
            report.show_event(self._console, event, clock, clock / self._timing.speed)
        return done

    def _summary(self) -> Summary:
        degraded: Counter[str] = Counter()
        for kinds in self._degraded.values():
            degraded.update(kinds)
        return Summary(
            results=[self._result(one) for one in self._scenarios],
            turns=self._seen,
            timing=self._timing,
            began_at=self._zero,
            seconds=time.time() - self._began,
            folder=str(self._folder),
            degraded=degraded,
        )

    def _result(self, one: Scenario) -> Result:
        rollout = self._store.current(one.name)
        turns = [turn for turn in self._seen if turn.scenario == one.name]
        findings, units, changes, back, looks = Findings(), dict.fromkeys(Arm, 0), [], None, []
        if rollout is not None:
            aggregates = self._store.aggregates(rollout)
            findings, units = findings_of(rollout, aggregates), counted(aggregates)
            changes = [self._timing.real(at) for at in weight_changes(self._store.audit(rollout.id))]
            at = taken_back_at(rollout)
            back = None if at is None else self._timing.real(at)
            looks = [(look.at, look.look) for look in self._store.looks(rollout.id)]
        sticky = stickiness(turns, stable=STABLE, weight_changes=changes, taken_back_at=back)
        stop = stop_of(turns, CANARY)
        least = 0 if rollout is None else rollout.plan.stages[0].min_conversations
        return Result(
            scenario=one,
            rollout=rollout,
            findings=findings,
            counted=units,
            stickiness=sticky,
            stop=stop,
            rule=rule_of_thumb(looks, at_least=least),
            why_not=why_not(one, rollout, units, sticky, stop),
        )


class _Lines:
    """Reads the lines that another process appends to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def new(self) -> Iterator[str]:
        """The whole lines that came since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                yield line.decode()


def _fill(folder: Path, scenarios: Sequence[Scenario]) -> None:
    """Make the folder and its configurations.

    Raises:
        OSError: If it cannot be written, or holds an earlier demo.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / STORE).exists():
        raise FileExistsError(f"it holds an earlier demo ({STORE})")
    for one in scenarios:
        (folder / f"{one.name}.yaml").write_text(canary_yaml(one.name), encoding="utf-8")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets SIGTERM end the demo as SIGINT does, children included."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
