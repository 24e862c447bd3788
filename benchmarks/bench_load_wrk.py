"""What a request costs under wrk with 64 connections: agentcanary against bare Starlette, in turns, in one run.

Run: ``python -m benchmarks.bench_load_wrk [ROUNDS]``. Prints a table and writes ``benchmarks/results/wrk.json``. One
uvicorn process each; every fourth request begins a conversation. The machine is saturated, so latency is mostly
waiting: the ratio of the throughputs says what a request costs.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from agentcanary.store import Store
from benchmarks.bench_load_rollback import YAML, under_way

RESULT = Path(__file__).parent / "results" / "wrk.json"
SECONDS = 4
LUA = """
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-conversation-id"] = "c-" .. tostring({}):sub(8) .. math.floor(n / 4)
  return wrk.format("GET", "/hello")
end
"""


def serve(config: Path | None) -> tuple[subprocess.Popen[bytes], int]:
    """A uvicorn process that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "CANARY_YAML"}
    if config is not None:
        environment["CANARY_YAML"] = str(config)
    command = [sys.executable, "-m", "uvicorn", "benchmarks.load_app:create", "--factory", "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "error"], env=environment)
    until = time.monotonic() + 120.0
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/hello").raise_for_status()
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return process, port


def measure(port: int, script: Path) -> dict[str, float]:
    """Requests a second, and milliseconds of latency."""
    command = ["wrk", "-c64", "-t1", f"-d{SECONDS}s", "--latency", "-s", str(script), f"http://127.0.0.1:{port}/hello"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in shown:
        raise RuntimeError(shown)
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    found = {"requests_per_second": float(re.findall(r"Requests/sec:\s+([\d.]+)", shown)[0])}
    for percent in ("50", "99"):
        number, unit = re.findall(rf"{percent}%\s+([\d.]+)(us|ms|s)", shown)[0]
        found[f"p{percent}_ms"] = float(number) * units[unit]
    return found


def main(rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {"bare": [], "agentcanary": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "wrk.lua").write_text(LUA)
        store = Store(f"sqlite:///{folder / 'store.sqlite3'}")
        store.start(under_way(0))
        store.close()
        (folder / "canary.yaml").write_text(YAML.format(store=f"sqlite:///{folder / 'store.sqlite3'}"))
        servers = {"bare": serve(None), "agentcanary": serve(folder / "canary.yaml")}
        try:
            for number in range(rounds + 1):
                for name in list(servers)[:: 1 if number % 2 else -1]:
                    measured = measure(servers[name][1], folder / "wrk.lua")
                    if number:  # the first round warms up
                        found[name].append(measured)
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait(20)
    pairs = list(zip(found["bare"], found["agentcanary"], strict=True))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load_of_the_machine": os.getloadavg(),
        "rounds": rounds,
        "seconds_each": SECONDS,
        **found,
        "added_ms": {
            key: {"min": min(added), "median": statistics.median(added), "max": max(added)}
            for key in ("p50_ms", "p99_ms")
            for added in [[round(ours[key] - bare[key], 3) for bare, ours in pairs]]
        },
        "throughput_ratio": {
            "min": min(ratios := [ours["requests_per_second"] / bare["requests_per_second"] for bare, ours in pairs]),
            "median": statistics.median(ratios),
            "max": max(ratios),
        },
    }
    print(json.dumps({key: result[key] for key in ("added_ms", "throughput_ratio", "load_of_the_machine")}, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
