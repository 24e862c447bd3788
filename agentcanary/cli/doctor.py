"""``agentcanary doctor``: looks at an installation and says what to do."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.output import Line, print_json, show
from agentcanary.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from agentcanary.cli.checkup import Check
    from agentcanary.cli.seat import Seat
    from agentcanary.config import Config

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_FREE_BYTES = 200 * 2**20
_JOURNAL_AGE = 60.0


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("doctor")(doctor)


def doctor(config: ConfigOption = CONFIG_FILE, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Look at configuration, store, workers, controller and outcomes, and say what to do.

    Exit code: 0 when nothing failed (there may be warnings), else 1; 2 when the configuration has mistakes.
    """
    from agentcanary.cli.checkup import Check, State

    try:
        found = list(_checks(config, agent))
        worst = ExitCode.ERROR if any(check.state is State.FAIL for check in found) else ExitCode.DONE
    except ConfigError as error:
        remedy = "agentcanary validate checks it again"
        found = [Check("configuration", State.FAIL, mistake, remedy) for mistake in error.mistakes]
        worst = ExitCode.USAGE
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        show(_lines(found))
    raise typer.Exit(worst)


def _checks(file: Path, agent: str | None) -> Iterator[Check]:
    from agentcanary.cli.checkup import Check, State
    from agentcanary.cli.seat import seat
    from agentcanary.config import load_config

    config = load_config(file)
    yield Check("configuration", State.OK, f"{file} has no mistakes")
    if os.environ.get("AGENTCANARY_DISABLED", "") not in ("", "0"):
        yield Check(
            "switch",
            State.WARN,
            "AGENTCANARY_DISABLED is set here: where workers have it too, stable serves everything",
            "unset it",
        )
    yield from _place(config)
    try:
        with seat(file, agent) as at:
            # A write that changes nothing: nobody has this name.
            at.store.release(at.agent, "agentcanary doctor")
            yield Check("store", State.OK, f"{at.store.name} opens, reads and writes")
            yield from _kept(at)
    except StoreError as error:
        remedy = "start the application once: it makes the store" if "no such file" in str(error) else "see the message"
        yield Check("store", State.FAIL, str(error), remedy)


def _place(config: Config) -> Iterator[Check]:
    """The disk under an SQLite store, and the journals beside it."""
    from agentcanary.cli.checkup import Check, State
    from agentcanary.cli.seat import sqlite_file
    from agentcanary.config.journals import journals_folder
    from agentcanary.status.figures import span
    from agentcanary.store.files import file_system

    path = sqlite_file(config.store)
    if path is not None and path.parent.exists():
        free = shutil.disk_usage(path.parent).free
        mounts = Path("/proc/mounts")
        kind = file_system(path.resolve(), mounts.read_text("utf-8", "replace")) if mounts.exists() else "unknown"
        said = f"{free / 2**30:.1f} GiB free at {path.parent} ({kind})"
        if free < _FREE_BYTES:
            yield Check("disk", State.FAIL, said, "make room: a full disk stops recording, and with it the verdicts")
        else:
            yield Check("disk", State.OK, said)
    waiting = sorted(journals_folder(config).glob("*.journal"))
    size = sum(one.stat().st_size for one in waiting)
    age = time.time() - min((one.stat().st_mtime for one in waiting), default=time.time())
    if size and age > _JOURNAL_AGE:
        yield Check(
            "journals",
            State.WARN,
            f"{size:,} bytes have waited to be stored for {span(age)}, in {waiting[0].parent}",
            "start the application, or look at why its workers cannot write to the store",
        )
    else:
        yield Check("journals", State.OK, "nothing waits to be stored")


def _kept(at: Seat) -> Iterator[Check]:
    """What the store tells of workers, controller, messages and outcomes."""
    from agentcanary.cli.checkup import (
        Check,
        State,
        controller_check,
        identity_checks,
        outbox_check,
        outcomes_checks,
        workers_checks,
    )
    from agentcanary.config.fingerprint import configuration_hash
    from agentcanary.controller import KEEP_LOOK_EVERY
    from agentcanary.status.drift import differences
    from agentcanary.store import DEAD_AFTER

    now, store, config = at.clock(), at.store, at.config
    yield from workers_checks(
        store.workers(at.agent),
        now=now,
        dead_after=DEAD_AFTER * at.clock.speed,
        config_hash=configuration_hash(config),
    )
    rollout = store.current(at.agent)
    if rollout is None:
        yet = (
            "the controller's next look starts it" if config.canary else "the file names no canary; history is recorded"
        )
        yield Check("rollout", State.OK, f"agent {at.agent!r} has none yet: {yet}")
        return
    yield Check("rollout", State.OK, f"{rollout.id} ({rollout.stable} → {rollout.canary}) is {rollout.phase.value}")
    for difference in differences(config, rollout, str(at.file)):
        yield Check("file and rollout", State.WARN, difference)
    looks = store.looks(rollout.id, limit=1)
    yield controller_check(
        rollout,
        looks[-1].at if looks else None,
        now=now,
        # A look may have been on its way, or one missed.
        kept_every=(KEEP_LOOK_EVERY + 3 * config.look_every) * at.clock.speed,
        in_workers=config.controller,
    )
    yield outbox_check(store.undone(rollout.id), now=now)
    counted = store.aggregates(rollout)
    yield from identity_checks(counted)
    yield from outcomes_checks(rollout, counted)


def _lines(found: list[Check]) -> Iterator[Line]:
    width = max(len(check.name) for check in found)
    for check in found:
        yield Line((f"{check.state.value:<4}", _STYLES[check.state.value]), f"  {check.name:<{width}}  {check.said}")
        if check.remedy:
            yield Line(f"→ {check.remedy}", indent=width + 8)
