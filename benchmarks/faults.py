"""The long form of the fault tests: all of them on both databases, again and again, and what was survived how often.

Run: ``python -m benchmarks.faults [ROUNDS]``. Writes ``benchmarks/results/faults.json``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "faults.json"


def main(rounds: int) -> None:
    survived: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    began = time.time()
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found.xml"
            command = [
                sys.executable,
                "-m",
                "pytest",
                "tests/faults",
                "-q",
                "-m",
                "slow or not slow",
                f"--junitxml={found}",
            ]
            subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
            for case in ElementTree.parse(found).getroot().iter("testcase"):  # our own file
                name = f"{str(case.get('classname')).rpartition('.')[2]}: {str(case.get('name')).removeprefix('test_')}"
                broken = case.find("failure") is not None or case.find("error") is not None
                (failed if broken else survived)[name.replace("_", " ")] += 1
        print(f"round {number + 1}: {survived.total()} survived, {failed.total()} failed", flush=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "rounds": rounds,
        "seconds": round(time.time() - began),
        "faults": len(survived | failed),
        "injected": survived.total() + failed.total(),
        "survived": survived.total(),
        "list": {name: {"survived": survived[name], "failed": failed[name]} for name in sorted(survived | failed)},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
