"""The pages of docs/tutorials/ work as they are written: files, commands, what they print, what they say of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.support.pages import ROOT, TUTORIALS, blocks, not_printed, renewed, run_tutorial, shell

PAGES = sorted(TUTORIALS.glob("*.md"))


def rows(text: str, label: str) -> list[float]:
    """The numbers in the line of `text` that begins with `label`."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [label]]
    return [float(word.replace(",", "")) for word in line.split()[1:]]


def value(document: Any, path: str) -> Any:
    """What a dotted path names in a document; `gates[].met` is that of the first gate."""
    for part in path.split("."):
        document = document[part.removesuffix("[]")]
        if part.endswith("[]"):
            document = document[0]
    return document


def test_what_a_page_shows_is_held_against_what_came_out() -> None:
    out = "one 1\ntwo 2 s\n\n─── \nthree  3.5 ms\n"
    assert not_printed("one 7\n...\nthree 12 s\n", out) == []
    assert not_printed("three 3 s\none 1\n", out) == ["one 1"]
    assert not_printed("four 4\n", out) == ["four 4"]
    assert renewed("...\nthree 7\n...\n", out) == "...\nthree  3.5 ms\n...\n"
    assert renewed("old\n", out) == "one 1\ntwo 2 s\n\n───\nthree  3.5 ms\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_a_file_a_command_or_what_it_prints(page: Path) -> None:
    content = blocks(page)
    assert [block.file for block in content]
    assert page.read_text().count("```") == 2 * len(content)
    for before, block in zip(["", *(block.language for block in content)], content, strict=False):
        assert block.language != "text" or before == "sh", f"nothing prints\n{block.text}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_csv_in_five_minutes(tmp_path: Path) -> None:
    run_tutorial("csv_in_five_minutes", tmp_path / "work", {"trials: 20": "trials: 4"})
    predictions = (tmp_path / "work" / "predictions.csv").read_text().splitlines()
    assert predictions[0] == "label,probability_no,probability_yes"
    assert [line.split(",")[0] for line in predictions[1:]] == ["yes", "no"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smaller_cnn(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the page exports ONNX: the extra onnx is not installed")
    steps = run_tutorial("smaller_cnn", tmp_path / "work")
    (pruning,) = [step for step in steps if "modelopt prune" in step.commands.text]
    assert pruning.shown is not None
    shown, out = pruning.shown.text, pruning.out
    before, after, ratio = rows(out, "parameters")
    assert after <= 0.33 * before
    assert ratio >= 3
    assert rows(shown, "parameters") == pytest.approx([before, after, ratio], rel=0.05)
    assert rows(shown, "multiply-accumulates") == pytest.approx(rows(out, "multiply-accumulates"), rel=0.2)
    assert rows(shown, "test.accuracy")[:3] == pytest.approx(rows(out, "test.accuracy")[:3], abs=0.02)
    report = json.loads((tmp_path / "work" / "runs" / "smaller" / "1" / "report.json").read_text())
    assert report["metrics"]["test.accuracy_drop"] <= 0.02


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gates_in_ci(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    run_tutorial("gates_in_ci", folder)
    job = yaml.safe_load((folder / ".github" / "workflows" / "model.yml").read_text())["jobs"]["model"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands.pop(0).startswith("pip install")
    assert len(commands) == 2
    for command in commands:
        subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=shell(folder), check=True)
    (suite,) = ElementTree.parse(folder / "comparison.xml").getroot().iter("testsuite")
    assert suite.get("failures") == "1"
    kept = next(step for step in job["steps"] if step.get("if") == "always()")["with"]["path"]
    assert (folder / kept / "report.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_for_coding_agents(tmp_path: Path) -> None:
    folder, page = tmp_path / "work", TUTORIALS / "for_coding_agents.md"
    run_tutorial("for_coding_agents", folder)
    report = json.loads((folder / "report.json").read_text())
    section = page.read_text().partition("## report.json")[2].partition("\n## ")[0]
    keys = re.findall(r"^\| `([\w.\[\]]+)` \|", section, re.MULTILINE)
    assert len(keys) > 20
    for key in keys:
        value(report, key)  # raises where the report has no such key
    assert set(report) <= {key.partition(".")[0].removesuffix("[]") for key in keys}, "a key that the page leaves out"
    assert {"trial", "state", "seed", "seconds", "reason"} <= set(report["tables"]["trials"]["columns"])
    assert not [name for name in report["best"]["metrics"] if name.startswith("test.")]
    assert json.loads((folder / "error.json").read_text())["error"]["exit_code"] == 2
    assert json.loads((folder / "runs.json").read_text())[0]["status"] == "completed"
    assert {"samplers", "models", "data"} <= set(json.loads((folder / "strategies.json").read_text()))


@pytest.mark.parametrize("name", ["for_coding_agents", "gates_in_ci"])
def test_the_exit_codes_are_those_of_the_readme(name: str) -> None:
    def codes(text: str) -> set[str]:
        lines = re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE)
        return {code for line in lines for code in line.replace(" ", "").split(",")}

    expected = codes((ROOT / "README.md").read_text())
    assert len(expected) == 9
    assert codes((TUTORIALS / f"{name}.md").read_text()) == expected
