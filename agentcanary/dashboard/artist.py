"""Asks the drawing process for charts, and keeps what it drew."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import structlog

from agentcanary.dashboard.pictures import Picture

log = structlog.get_logger("agentcanary")

COMMAND = (sys.executable, "-m", "agentcanary.dashboard.drawing")
_KEPT = 400
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart.

    Attributes:
        svg: The picture.
        words: What it shows.
    """

    svg: str
    words: str


class Artist:
    """Draws charts in a process of its own, one after the other, and keeps the newest by what they show.

    The process is started when a chart is asked for, and ends when none is asked for any more.

    Args:
        command: The drawing process.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._kept: OrderedDict[tuple[str, str, int], Drawn] = OrderedDict()
        self._known = threading.Lock()
        self._busy = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        weakref.finalize(self, _end, self._running)

    def kept(self, picture: Picture, *, theme: str, width: int) -> Drawn | None:
        """A chart that was drawn before, or None."""
        with self._known:
            return self._kept.get((picture.key, theme, width))

    def words(self, picture: Picture) -> str:
        """What a chart shows in words: its own where it was drawn, else which chart it is."""
        with self._known:
            drawn = next((one for (key, _, _), one in self._kept.items() if key == picture.key), None)
        return picture.alternative if drawn is None else drawn.words

    def draw(self, picture: Picture, *, theme: str, width: int) -> Drawn | None:
        """A chart; waits until it is drawn. None where it cannot be: that is logged.

        Args:
            picture: What is shown.
            theme: ``light`` or ``dark``.
            width: In pixels.
        """
        with self._busy:
            found = self.kept(picture, theme=theme, width=width)
            if found is not None:
                return found
            line = json.dumps({"data": picture.data, "theme": theme, "width": width})
            try:
                answer = self._ask(line)
            except (OSError, ValueError) as error:
                _end(self._running)
                answer = {"error": f"{type(error).__qualname__}: {error}"}
            if "svg" not in answer:
                log.warning("agentcanary.chart_not_drawn", chart=picture.slot, error=answer.get("error", "no answer"))
                return None
            drawn = Drawn(answer["svg"], answer["words"])
            with self._known:
                self._kept[picture.key, theme, width] = drawn
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return drawn

    def close(self) -> None:
        """End the drawing process."""
        with self._busy:
            _end(self._running)

    def _ask(self, line: str) -> dict[str, str]:
        asked, answers = self._pipes()
        asked.write(line + "\n")
        asked.flush()
        if not select.select([answers], [], [], _PATIENCE)[0]:
            raise TimeoutError(f"no chart after {_PATIENCE:g} s")
        answer = answers.readline()
        if not answer:
            raise BrokenPipeError("the drawing process ended")
        found: dict[str, str] = json.loads(answer)
        return found

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if not self._running or self._running[0].poll() is not None:
            _end(self._running)
            process = subprocess.Popen(
                list(self._command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            self._running.append(process)
        process = self._running[0]
        if process.stdin is None or process.stdout is None:
            raise BrokenPipeError("the drawing process has no pipes")
        return process.stdin, process.stdout


def _end(running: list[subprocess.Popen[str]]) -> None:
    """End a process: it ends by itself when its pipe is closed, and is ended when it does not."""
    while running:
        process = running.pop()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # What was not sent is not needed any more.
                    pipe.close()
        process.terminate()
        process.wait(timeout=_PATIENCE)
