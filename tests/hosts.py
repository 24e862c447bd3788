"""Hosts: the agent under uvicorn, each in a process group and a folder of its own. And clients for them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httpx

APP = Path(__file__).parent / "end_to_end"


class Host:
    """One machine, as far as one machine can be several.

    Args:
        folder: For its configuration, its journals and its log.
        yaml: The configuration.
        workers: Processes of uvicorn.
    """

    def __init__(self, folder: Path, yaml: str, workers: int = 1) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.workers = workers
        self._config = folder / "canary.yaml"
        self._config.write_text(yaml)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        command = [sys.executable, "-m", "uvicorn", "agent_app:app", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", str(self.workers), "--log-level", "warning", "--timeout-keep-alive", "60"],
                env={**os.environ, "CANARY_YAML": str(self._config), "PYTHONPATH": str(APP)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, *, split: bool = False, seconds: float = 60.0) -> set[int]:
        """Wait until every worker answers, and, if asked, splits new conversations; their processes."""
        until = time.monotonic() + seconds
        ready: set[int] = set()
        while len(ready) < self.workers:
            assert time.monotonic() < until, (self.folder / "log").read_text()
            try:
                known = httpx.get(f"{self.url}/health", timeout=5.0).json()
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if not split or (known["open"] and known["handed_over"]):
                ready.add(known["pid"])
        return ready

    def kill(self) -> None:
        """kill -9, all of it."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


class Turn(NamedTuple):
    """What became of a request.

    Attributes:
        unit: The conversation.
        version: That answered; empty for a failure.
        pid: The worker.
        at: Unix time in seconds at which the agent's code ran.
        sent: Unix time at which it was sent.
        seconds: Until the last byte.
    """

    unit: str
    version: str
    pid: int
    at: float
    sent: float
    seconds: float


class Client:
    """One connection that is kept, and as little work for a request as possible."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def chat(self, unit: str, message: str = "hello") -> Turn:
        """One turn, answered whole."""
        sent = time.time()
        status, body = await self._post("/chat", unit, message)
        seconds = time.time() - sent
        if status != 200:
            return Turn(unit, "", 0, 0.0, sent, seconds)
        answer = json.loads(body)
        return Turn(unit, answer["version"], answer["pid"], answer["at"], sent, seconds)

    async def stream(self, unit: str, words: int) -> Turn:
        """One turn, answered word by word."""
        sent = time.time()
        status, body = await self._post("/stream", unit, str(words))
        seconds = time.time() - sent
        lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
        version = lines[0].split()[1].decode() if status == 200 and len(lines) == words else ""
        return Turn(unit, version, 0, 0.0, sent, seconds)

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _post(self, path: str, unit: str, message: str) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = json.dumps({"conversation_id": unit, "message": message}).encode()
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: agent\r\nx-conversation-id: {unit}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" in head:
            return status, await _chunks(reader)
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return status, await reader.readexactly(length)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


async def new_conversations(port: int, prefix: str, until: asyncio.Event, found: list[Turn]) -> None:
    """One turn after the other, each of a new conversation; on a new connection now and then, so by every worker."""
    client = Client(port)
    try:
        for number in itertools.count():
            if until.is_set():
                return
            if number % 10 == 0:
                client.close()
            found.append(await client.chat(f"{prefix}-{number}"))
    finally:
        client.close()
