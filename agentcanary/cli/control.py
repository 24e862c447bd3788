"""``agentcanary controller``: looks at the evidence from a process of its own."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from agentcanary.cli.options import CONFIG_FILE, ConfigOption
from agentcanary.cli.output import complain


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("controller")(controller)


def controller(
    config: ConfigOption = CONFIG_FILE,
    for_seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=0, help="End after this long.")
    ] = None,
) -> None:
    """Control the rollout from this process until Ctrl-C or SIGTERM; for workers with controller: false.

    Beside workers that control it too, exactly one acts at a time: the others wait to take over.
    """
    import os
    import uuid

    from agentcanary.cli.seat import seat
    from agentcanary.controller import Controller, ControlThread
    from agentcanary.deployment import mesh_weights
    from agentcanary.effects.notifications import NotifyAll, notifiers_from

    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    def failed(_kind: str, error: BaseException | None) -> None:
        complain(f"agentcanary: no look: {error}; the next one comes in {at.config.look_every:g} s")

    with seat(config, create=True) as at:
        thread = ControlThread(
            Controller(
                at.store,
                agent=at.config.agent,
                stable=at.config.stable,
                canary=at.config.canary,
                plan=at.config.plan,
                clock=at.clock,
                owner=f"{os.uname().nodename}:{uuid.uuid4().hex}",
                notify=NotifyAll(notifiers_from(at.config)),
                retention=at.config.retention,
                set_weight=mesh_weights(at.config),
            ),
            every=at.config.look_every,
            on_failure=failed,
        )
        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            complain(f"{at.agent}: looking every {at.config.look_every:g} s at {at.store.name}; Ctrl-C ends it")
            thread.start()
            ended.wait(for_seconds)
        finally:
            thread.stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        complain(f"{at.agent}: no look is under way, the lease is given back")
