"""scripts/ci_example: a CI job trains, compresses and gates, and ends with the exit codes that are documented."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import modelopt_cli

ROOT = Path(modelopt_cli.__file__).parents[1]
SCRIPT = ROOT / "scripts/ci_example"


def run(command: Path, folder: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    names = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    given = {**names, "MODELOPT": str(command), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["sh", SCRIPT, folder], cwd=cwd, env=given, capture_output=True, text=True, check=False)


def fake(tmp_path: Path, codes: dict[str, int]) -> Path:
    """A `modelopt` that ends with these codes, by its command, and writes down what it was called with."""
    path = tmp_path / "modelopt"
    cases = "".join(f"  {name}) exit {code};;\n" for name, code in codes.items())
    log = tmp_path / "calls"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{log}"\ncase $1 in\n{cases}esac\n')
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("codes", "code", "last"),
    [
        ({}, 0, "compare"),
        ({"train": 3}, 3, "compare"),
        ({"compress": 3}, 3, "compare"),
        ({"compare": 3}, 3, "compare"),
        ({"validate": 2}, 2, "validate"),
        ({"train": 1}, 1, "train"),
        ({"train": 3, "compress": 6}, 6, "compress"),
    ],
)
def test_exit_codes_are_those_of_the_commands(tmp_path: Path, codes: dict[str, int], code: int, last: str) -> None:
    result = run(fake(tmp_path, codes), "a folder", tmp_path, GATES="model.macs_ratio <= 0.5")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert (result.returncode, calls[-1].split()[0]) == (code, last)
    order = ["validate", "train", "compress", "compare"]
    assert [call.split()[0] for call in calls] == order[: order.index(last) + 1]
    assert all("--gate model.macs_ratio <= 0.5" in call for call in calls if call.startswith("compress"))


def test_folders_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    result = run(fake(tmp_path, {}), "mine", tmp_path)
    assert result.returncode == 2
    assert "no earlier example" in result.stderr
    assert (tmp_path / "mine/file").read_text() == "mine"
    assert run(fake(tmp_path, {}), "ours", tmp_path).returncode == 0
    assert run(fake(tmp_path, {}), "ours", tmp_path).returncode == 0, "an example may be made anew"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_job_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    command = Path(sys.executable).with_name("modelopt")
    if not command.exists():
        pytest.skip("modelopt is not installed beside this Python")
    result = run(command, "job", tmp_path, GATES="model.parameters_ratio <= 0.01")
    assert result.returncode == 3, result.stderr
    assert "gate not met: model.parameters_ratio <= 0.01" in result.stderr
    failed = {}
    for name in ("train", "compress", "compare"):
        root = ElementTree.parse(tmp_path / f"job/{name}.xml").getroot()
        failed[name] = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == {"train": [], "compress": ["model.parameters_ratio <= 0.01"], "compare": []}
    report = json.loads((tmp_path / "job/small/report.json").read_text())
    assert report["metrics"]["model.file_bytes_ratio"] <= 0.5
    assert (tmp_path / "job/small/model.int8.onnx").stat().st_size == report["metrics"]["model.file_bytes"]
