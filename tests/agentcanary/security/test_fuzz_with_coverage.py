"""Coverage-guided fuzzing of everything that reads what others wrote; slow, and only where atheris is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .fuzzing import DONE, TARGETS

RUNS = 5_000
SCRIPT = Path(__file__).with_name("fuzzing.py")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (group slow)")
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_nothing_that_others_send_makes_us_fail(target: str) -> None:
    command = [sys.executable, str(SCRIPT), target, str(RUNS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert DONE.decode() in done.stderr, done.stderr[-3000:]


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_targets_themselves_take_any_bytes(target: str) -> None:
    for data in (b"", b"\x00", b"{}", b"[]", b'{"a": 1}', b"\xff\xfe", b"agent: x\nstable: y", b"a\nb" * 100):
        assert TARGETS[target](data) is None
