"""The demo's own processes: the server and the load. They end with it, however it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_TAIL = 2000


class Process:
    """A Python module that runs as a process of its own.

    Args:
        module: Run as ``python -m``.
        arguments: Of its command line.
        log: File that takes what it prints.
        environment: Added to this process's own.
    """

    def __init__(self, module: str, arguments: list[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self.module = module
        self._log = log
        inherited = {name: value for name, value in os.environ.items() if name != "AGENTCANARY_DISABLED"}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                # The other end of this pipe is the leash: it breaks when this process is gone.
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=inherited | dict(environment),
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The end of what it printed."""
        return self._log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()

    def stop(self, within: float) -> None:
        """Ask it to end, and make it end after so many real seconds."""
        if self.exit_code is None:
            self._process.terminate()
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
