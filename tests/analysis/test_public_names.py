"""The package's public names: complete, sorted, and loaded only when used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import agentcanary_analysis


def test_every_public_name_exists_and_they_are_sorted() -> None:
    names = agentcanary_analysis.__all__
    # Constants, classes, functions, each by name: the order that the linter keeps.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(agentcanary_analysis, name) is not None
    assert set(names) <= set(dir(agentcanary_analysis))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = agentcanary_analysis.no_such_name


@pytest.mark.parametrize("module", ["", ".metrics", ".checks", ".aggregates", ".histogram", ".one_look"])
def test_what_the_request_path_needs_loads_only_the_standard_library(module: str) -> None:
    code = (
        f"import sys, agentcanary_analysis{module}\n"
        "print([name for name in ('numpy', 'scipy', 'pandas', 'altair', 'agentcanary') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
