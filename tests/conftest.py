"""What tests need of the machine beyond Python, and what happens where it is missing.

A test marked ``needs("postgresql")`` is skipped with its reason where the component is absent, and fails there when
``AGENTCANARY_ALL_COMPONENTS=1`` says that the machine was set up with everything.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postgresql_server import PostgresServer, running

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _postgresql() -> bool:
    return any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


COMPONENTS: dict[str, tuple[Callable[[], bool], str]] = {
    "postgresql": (_postgresql, "no PostgreSQL server under /usr/lib/postgresql (Debian package postgresql)"),
    "chromium": (lambda: shutil.which("chromium") is not None, "no chromium on the PATH (Debian package chromium)"),
    "kubectl": (lambda: shutil.which("kubectl") is not None, "no kubectl on the PATH (package kubectl)"),
    "wrk": (lambda: shutil.which("wrk") is not None, "no wrk on the PATH (Debian package wrk)"),
    "mesh schemas": (
        lambda: Path(os.environ.get("AGENTCANARY_MESH_SCHEMAS", "-"), "node_modules/@kubernetes-models/istio").is_dir(),
        "AGENTCANARY_MESH_SCHEMAS names no folder in which npm installed @kubernetes-models/istio and /gateway-api",
    ),
    "java": (lambda: shutil.which("java") is not None, "no java on the PATH, which PySpark needs"),
    "shared data": (lambda: (SHARED / "data").is_dir(), "the folder ../shared/data is not there"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose component is missing."""
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            present, reason = COMPONENTS[name]
            if present():
                continue
            if os.environ.get("AGENTCANARY_ALL_COMPONENTS") == "1" and name != "shared data":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A server for all tests of this process that do not stop it."""
    with running() as server:
        yield server
