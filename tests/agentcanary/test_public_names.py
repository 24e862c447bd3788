"""The public names exist, are sorted, and cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import agentcanary

HEAVY = ("numpy", "scipy", "pandas", "altair", "typer", "sqlalchemy", "alembic", "pydantic", "httpx")


def test_every_public_name_can_be_had() -> None:
    assert agentcanary.__all__ == sorted(agentcanary.__all__)
    for name in agentcanary.__all__:
        assert getattr(agentcanary, name) is not None
    assert set(agentcanary.__all__) <= set(dir(agentcanary))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Canray'"):
        agentcanary.Canray  # noqa: B018 # the access is what is tested


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import agentcanary").isdisjoint(HEAVY)


def test_an_application_that_mounts_it_loads_no_statistics() -> None:
    loaded = loaded_after("from agentcanary import Canary, CanaryMiddleware, current_version")
    assert loaded.isdisjoint({"numpy", "scipy", "pandas", "altair", "typer"})
