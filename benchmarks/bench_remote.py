"""What a remote version adds: a request through ``RemoteVersion`` against the same one made of the agent directly.

Client, front and agent are three processes on loopback. The two ways are taken in turn, so that the machine's drift
hits both alike. Writes ``results/remote.json``.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

RESULTS = Path(__file__).parent / "results" / "remote.json"
REQUESTS = 3000
AGENT = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def chat(request):
    body = await request.json()
    return JSONResponse({"said": body["text"]})

app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", loop="uvloop", http="httptools")
"""
FRONT = """
import sys, uvicorn
from agentcanary.remote import RemoteVersion
app = RemoteVersion(f"http://127.0.0.1:{sys.argv[2]}", canary=True)
uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", loop="uvloop", http="httptools")
"""


def main() -> None:
    ports = [_free_port() for _ in range(2)]
    processes = [
        subprocess.Popen([sys.executable, "-c", AGENT, str(ports[0])]),
        subprocess.Popen([sys.executable, "-c", FRONT, str(ports[1]), str(ports[0])]),
    ]
    try:
        with httpx.Client() as client:
            for port in ports:
                _wait(client, port)
            took: dict[int, list[float]] = {port: [] for port in ports}
            for number in range(REQUESTS):
                for port in ports if number % 2 else reversed(ports):
                    took[port].append(_timed(client, port))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)
    direct, through = (took[port][REQUESTS // 10 :] for port in ports)
    result = {
        "requests": len(direct),
        "direct_ms": _spread(direct),
        "remote_ms": _spread(through),
        "added_p50_ms": round(1000 * (statistics.median(through) - statistics.median(direct)), 3),
        "ratio_p50": round(statistics.median(through) / statistics.median(direct), 2),
        "limit_added_p50_ms": 1.5,
        "load_average": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _timed(client: httpx.Client, port: int) -> float:
    begun = time.perf_counter()
    answer = client.post(f"http://127.0.0.1:{port}/chat", json={"text": "hello"})
    took = time.perf_counter() - begun
    answer.raise_for_status()
    return took


def _spread(seconds: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": round(1000 * cuts[49], 3), "p99": round(1000 * cuts[98], 3)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait(client: httpx.Client, port: int) -> None:
    for _ in range(200):
        try:
            _timed(client, port)
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the server on port {port} does not answer")


if __name__ == "__main__":
    main()
