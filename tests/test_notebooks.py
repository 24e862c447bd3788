"""The notebooks run, come out as they say, and are committed as they ran.

To run one again and keep its outputs: ``jupytext --set-kernel python3 --execute --to ipynb notebooks/NAME.py``.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

import agentcanary
import agentcanary_analysis

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ["01_first_rollout", "02_offline_analysis", "03_tuning_thresholds"]


def committed(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call] # it has no types


def outputs(name: str) -> list[Any]:
    return [output for cell in committed(name).cells if cell.cell_type == "code" for output in cell.outputs]


def run(name: str, tmp_path: Path, results: str, *, parameters: str | None = None) -> dict[str, Any]:
    """What comes out of a notebook that is run in an empty folder.

    Args:
        name: Of the notebook.
        tmp_path: The folder.
        results: An expression, evaluated at the end: a dictionary of plain values.
        parameters: Replaces the cell with the tag ``parameters``.
    """
    notebook = jupytext.read(FOLDER / f"{name}.py")
    for cell in notebook.cells:
        if parameters is not None and "parameters" in cell.metadata.get("tags", ()):
            cell.source = parameters
    last = nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({results}))")  # type: ignore[no-untyped-call] # the same
    notebook.cells.append(last)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    found = json.loads(last.outputs[-1].text)
    assert isinstance(found, dict)
    return found


def test_a_bad_version_is_taken_back_before_many_met_it_and_nobody_is_moved_before(tmp_path: Path) -> None:
    found = run(
        "01_first_rollout",
        tmp_path,
        "{'verdict': report.verdict, 'status': report['error_rate'].status, 'met': met, 'early': int(early),"
        " 'looks': len(report['error_rate'].over_time), 'moved_to_canary': moved_to_canary}",
    )
    assert found["verdict"] == "rollback"
    assert found["status"] == "harmed"
    assert found["looks"] >= 2
    # A fifth of the conversations at most, and chance.
    assert 0 < found["met"] < 0.35
    assert found["moved_to_canary"] == 0
    assert found["early"] == 0


def test_adding_up_over_a_ramp_misleads_and_the_report_does_not(tmp_path: Path) -> None:
    found = run(
        "02_offline_analysis",
        tmp_path,
        "{'pooled': pooled_change, 'verdict': report.verdict, 'stratified': report['error_rate'].relative_change,"
        " 'statuses': [check.status for check in report.checks], 'latency': report['p95_latency'].relative_change,"
        " 'watched': watched.verdict, 'detectable': provable.detectable_ratio}",
    )
    assert found["pooled"] > 0.15
    assert abs(found["stratified"]) < 0.1
    assert found["verdict"] == "promote"
    assert found["statuses"] == ["safe"] * 4
    assert 0.05 < found["latency"] < 0.25
    assert found["watched"] in ("promote", "hold")
    assert 1.05 < found["detectable"] < 1.3


@pytest.mark.slow
def test_harmless_versions_are_kept_and_harmful_ones_found_in_the_history(tmp_path: Path) -> None:
    found = run(
        "03_tuning_thresholds",
        tmp_path,
        "{'false': calibration.false_rollbacks.share, 'naive': calibration.naive.share,"
        " 'rows': calibration.to_frame('detection').fillna(-1).to_dict('records'),"
        " 'margins': calibration.recommended['margins'], 'yaml': calibration.to_yaml(PLAN)}",
        parameters="DAYS, PER_DAY, REPLAYS, HARMS = 28, 3000, 60, (1.5, 3.0)",
    )
    # 60 replays of at most 5 %: ten and more have a probability below one in a thousand.
    assert found["false"] <= 9 / 60
    assert found["naive"] > 0.3
    detected = {row["ratio"]: row["rolled_back"] for row in found["rows"] if row["metric"] == "error_rate"}
    assert detected[3.0] >= detected[1.5]
    assert detected[3.0] > 0.9
    assert agentcanary.parse_config(found["yaml"]).plan.stages[1].duration >= 4 * 3600
    assert set(found["margins"]) >= {"error_rate", "task_completion_rate"}


@pytest.mark.parametrize("name", NAMES)
def test_the_two_halves_of_a_pair_say_the_same(name: str) -> None:
    script = jupytext.read(FOLDER / f"{name}.py")
    notebook = committed(name)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_as_it_ran_with_pictures(name: str) -> None:
    cells = [cell for cell in committed(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for output in outputs(name) if output.output_type == "error"]
    pictures = [output for output in outputs(name) if "image/svg+xml" in output.get("data", {})]
    assert len(pictures) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_load_nothing_and_name_no_machine(name: str) -> None:
    for output in outputs(name):
        shown = "".join(str(part) for part in (output.get("text", ""), *output.get("data", {}).values()))
        assert "<script" not in shown
        assert not re.search(r"cdn\.|jsdelivr|unpkg", shown)
        assert not re.search(r"(/tmp|/root|/home|/work|/Users)/", shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_public_names_only(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    ours = {"agentcanary": agentcanary, "agentcanary_analysis": agentcanary_analysis}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.split(".")[0] in ours and "." in alias.name]
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] in ours:
            assert node.module in ours
            assert {alias.name for alias in node.names} <= set(ours[node.module].__all__)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            if isinstance(node.value, ast.Name) and node.value.id in ("agentcanary", "aca"):
                module = agentcanary if node.value.id == "agentcanary" else agentcanary_analysis
                assert node.attr in module.__all__


def test_the_committed_calibration_kept_harmless_versions_that_plain_comparisons_take_back() -> None:
    said = "".join(output.get("text", "") for output in outputs("03_tuning_thresholds"))
    replays, false = re.findall(r"Of (\d+) harmless rollouts .*?, ([0-9.]+)% were rolled back", said, re.DOTALL)[0]
    (naive,) = re.findall(r"plain comparisons would have rolled back ([0-9.]+)% of them", said)[:1]
    assert int(replays) >= 200
    assert float(false) <= 5.0
    assert float(naive) > 50
