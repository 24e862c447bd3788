"""Users, as many as it takes: holds conversations with the demo's agents over HTTP and writes down what they saw.

``python -m agentcanary.demo.load PORT FILE SECONDS AGENT…``. It follows the script of ``conversations.py``, the same in
every run, and stops by itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from agentcanary.demo import leash
from agentcanary.demo.behaviour import INJECTION
from agentcanary.demo.conversations import Said, Script, scripts
from agentcanary.demo.post import Response, post
from agentcanary.demo.scenarios import CANARY, INJECTION_AFTER, Promise, scenario
from agentcanary.demo.timing import SPEED
from agentcanary.demo.turns import SeenTurn

_SEED = 20_260_301
_TIMEOUT = 20.0
_TOLD = ("version", "reason", "worker", "started_at", "violation_at")


class Users:
    """Everybody who talks with the agents.

    Args:
        port: Of the agents' server.
        out: Where lines go.
        began: Real Unix time at which the script began.
    """

    def __init__(self, port: int, out: IO[str], began: float) -> None:
        self._port = port
        self._out = out
        self._began = began
        self._injected = False

    async def hold(self, script: Script) -> None:
        """One conversation, to its end."""
        await asyncio.sleep(max(0.0, self._began + script.at - time.time()))
        attacked = scenario(script.scenario).promise is Promise.STOPPED
        turn, version = 0, ""
        for said in script.messages:
            await asyncio.sleep(said.thinks)
            if attacked and version == CANARY and self._may_inject():
                turn += 1
                seen = await self._say(script, turn, Said(thinks=0.0, text=INJECTION, streams=False))
                self._injected = seen.violation_at is not None
            turn += 1
            seen = await self._say(script, turn, said)
            version = seen.version

    def _may_inject(self) -> bool:
        """True once, when it is time; again if that came to nothing."""
        if self._injected or time.time() < self._began + INJECTION_AFTER:
            return False
        self._injected = True
        return True

    async def _say(self, script: Script, turn: int, said: Said) -> SeenTurn:
        body = {"conversation_id": script.conversation, "turn": turn, "message": said.text}
        seen = SeenTurn(
            scenario=script.scenario,
            conversation=script.conversation,
            turn=turn,
            sent_at=time.time(),
            streams=said.streams,
        )
        path = f"/{script.scenario}/{'stream' if said.streams else 'chat'}"
        try:
            async with asyncio.timeout(_TIMEOUT):
                seen = _told(seen, await post(self._port, path, json.dumps(body).encode()))
        except (OSError, ValueError, TimeoutError) as error:
            # The record says that there was no answer; what went wrong is in the log.
            print(f"{script.conversation} turn {turn}: {error!r}", file=sys.stderr)  # noqa: T201 (that log)
        self._out.write(seen.line())
        return seen


def _told(seen: SeenTurn, response: Response) -> SeenTurn:
    """What a response says of itself, in its body or in its events."""
    events = response.body.decode().splitlines()
    told: dict[str, Any] = {}
    for line in events:
        data = json.loads(line.removeprefix("data: ")) if line.startswith(("data: ", "{")) else {}
        told |= {name: value for name, value in data.items() if name in _TOLD}
    return replace(seen, status=response.status, complete=response.complete, **told)


async def talk(port: int, file: Path, seconds: float, names: Sequence[str]) -> None:
    """Hold all conversations that begin within so many real seconds.

    Args:
        port: Of the server.
        file: Gets a line for each turn.
        seconds: Real seconds after which everybody stops, in mid-conversation if need be.
        names: Of the scenarios.
    """
    plan = scripts([scenario(name) for name in names], seconds, speed=SPEED, rng=random.Random(_SEED))
    loop = asyncio.get_running_loop()
    with file.open("w", buffering=1) as out:
        users = Users(port, out, time.time())
        everybody = asyncio.gather(*(users.hold(script) for script in plan))
        for stop in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(stop, everybody.cancel)
        loop.call_later(seconds, everybody.cancel)
        try:
            await everybody
        except asyncio.CancelledError:
            return


def main() -> None:
    """Talk until the script ends, until told to stop, or until the demo is gone."""
    leash.hold()
    port, file, seconds, *names = sys.argv[1:]
    asyncio.run(talk(int(port), Path(file), float(seconds), names))


if __name__ == "__main__":
    main()
