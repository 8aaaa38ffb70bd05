"""docs/experiment.md says what the code does: its tables are current, and its examples are valid."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modelopt_cli.experiment.experiment import Experiment

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SPECS = re.findall(r"^\| `([\[{].*?)`", PAGE[PAGE.index("`space` maps") :], re.MULTILINE)


def test_the_tables_of_options_are_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "option_tables.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "renew them: .venv/bin/python scripts/option_tables.py"


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 2
    assert len(SPECS) >= 6


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    Experiment.load(path)


@pytest.mark.parametrize("text", SPECS)
def test_every_way_to_write_a_range_is_valid(text: str) -> None:
    from modelopt_cli import Study

    study = Study({"x": yaml.safe_load(text)}, sampler="random", objective="minimize loss")
    assert study.ask().params
