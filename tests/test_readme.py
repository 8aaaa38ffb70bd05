"""What README.md and docs/scripts.md tell users to type works: every command and Python block is run, in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "scripts.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Values that make a run short without changing what it does.
SMALL = {"training.epochs": 1, "tuning.trials": 3, "gates": []}
PROGRAM = """\
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int)
given = parser.parse_args()
for step in range(1, 4):
    print(json.dumps({"step": step, "loss": (given.lr - 0.1) ** 2 + given.layers / step}))
"""


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[str]:
    """Every line of a code block that calls modelopt, without its comment."""
    lines = [line for block in blocks(page, "sh", "bash", "console", "") for line in block.splitlines()]
    lines = [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines]
    return [line for line in lines if line.startswith("modelopt ")]


def run(line: str, folder: Path) -> tuple[int, str, str]:
    """`line` as typed, redirections included, and with no other shell syntax."""
    words = shlex.split(line)
    target = None
    if len(words) > 2 and words[-2] == ">":
        target, words = folder / words[-1], words[:-2]
    assert not {"|", "&&", ";", ">", ">>"} & set(words), f"this test cannot run: {line}"
    program = [sys.executable, "-c", "from modelopt_cli.cli.main import main; main()"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    if target is not None:
        target.write_text(done.stdout)
    return done.returncode, done.stdout, done.stderr


def shrink(path: Path) -> None:
    """Make the experiment in `path` short."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    for dotted, value in SMALL.items():
        section, _, key = dotted.rpartition(".")
        holder = document.get(section) if section else document
        if isinstance(holder, dict):
            holder[key] = value
    if "tuning" in document:
        document["tuning"]["executor"] = "serial"
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def digits_without_labels(path: Path) -> None:
    from sklearn.datasets import load_digits

    load_digits(as_frame=True).data[:5].to_csv(path, index=False)


@pytest.mark.slow
def test_every_command_of_the_readme_works(tmp_path: Path) -> None:
    digits_without_labels(tmp_path / "new.csv")
    lines = commands(ROOT / "README.md")
    assert len(lines) >= 9
    for line in lines:
        # A gate is a promise about the full run; one epoch of three trials need not keep it.
        code, out, err = run(line, tmp_path)
        assert code in ((0, 3) if "--gate" in line else (0,)), f"{line}\n{out}\n{err}"
        made = tmp_path / line.partition(" > ")[2].strip()
        if made.suffix == ".yaml":
            shrink(made)
        if made.suffix == ".json":
            assert json.loads(made.read_text())["status"] == "completed", "one document, also where a gate is missed"
        if made.suffix == ".csv":
            assert len(made.read_text().splitlines()) == 6


def test_every_command_that_the_readme_names_is_one() -> None:
    from typer.main import get_command

    from modelopt_cli.cli.main import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = {name for page in PAGES for name in re.findall(r"`modelopt ([a-z]+)", page.read_text())}
    assert named
    assert named <= known
    options = {
        option for command in get_command(app).commands.values() for each in command.params for option in each.opts  # type: ignore[attr-defined]
    }  # fmt: skip
    written = {word for page in PAGES for word in re.findall(r"`(--[a-z-]+)", page.read_text())}
    own = {option for page in PAGES for option in re.findall(r'add_argument\("(--[a-z-]+)"', page.read_text())}
    assert written
    assert written - own <= options


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_experiment_file_works(page: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(next(iter(blocks(page, "py")), PROGRAM))
    examples = blocks(page, "yaml")
    assert examples
    for number, text in enumerate(examples):
        path = tmp_path / f"example{number}.yaml"
        path.write_text(text)
        assert run(f"modelopt validate {path.name}", tmp_path)[0] == 0
        shrink(path)
        code, out, err = run(f"modelopt tune {path.name} --json", tmp_path)
        assert code == 0, err
        assert len(json.loads(out)["tables"]["trials"]["rows"]) == 3
        name = yaml.safe_load(text).get("name", path.stem)
        for line in (line for line in commands(page) if line.startswith(f"modelopt show {name} ")):
            code, out, err = run(line, tmp_path)
            assert code == 0, err
            assert '"step": 5' in out.replace('\\"', '"'), "the end of its log"


@pytest.mark.slow
def test_what_the_page_on_scripts_says_of_a_trials_folder(tmp_path: Path) -> None:
    page = ROOT / "docs" / "scripts.md"
    (tmp_path / "train.py").write_text(blocks(page, "py")[0])
    (tmp_path / "flags.yaml").write_text(blocks(page, "yaml")[1])
    assert run("modelopt tune flags.yaml -q --set tuning.trials=4", tmp_path)[0] == 0
    folder = tmp_path / "runs" / "my-flags" / "1"
    report = json.loads((folder / "report.json").read_text())
    kept = Path(report["artefacts"]["trial_dir"])
    assert [path.name for path in (folder / "trial_dirs").iterdir()] == [str(report["best"]["number"])] == [kept.name]
    assert json.loads((kept / "checkpoint.json").read_text())["loss"] == report["metrics"]["loss"]
    assert {path.name for path in (folder / "logs").iterdir()} == {f"{number}.log" for number in range(4)}


@pytest.mark.slow
def test_what_the_page_on_scripts_says_of_torchrun(tmp_path: Path) -> None:
    """Two processes on the CPU; rank 0 alone reports, into the file, and all of them see the trial's folder."""
    helper, *_, ranked = blocks(ROOT / "docs" / "scripts.md", "py")[1:]
    (tmp_path / "train.py").write_text(
        f"{helper}\nimport pathlib, sys, torch.distributed as group\n"
        "group.init_process_group('gloo')\n"
        "pathlib.Path(folder, os.environ['RANK']).touch()\n"
        "group.barrier()\n"
        "for epoch in (1, 2):\n    loss = float(sys.argv[1]) / epoch\n"
        + "".join(f"    {line}\n" for line in ranked.splitlines())
        + "print('a progress bar')\ngroup.destroy_process_group()\n"
    )
    (tmp_path / "ddp.yaml").write_text(
        "version: 1\nname: ddp\n"
        "command:\n"
        f"  argv: [{sys.executable}, -m, torch.distributed.run, --standalone, --nproc-per-node, '2', train.py,"
        " '{lr}']\n"
        "  parameters: {lr: 0.5}\n"
        "tuning: {workflow: command, objective: minimize loss, trials: 1, space: {command.parameters.lr: [0.5]}}\n"
    )
    code, out, err = run("modelopt tune ddp.yaml --json", tmp_path)
    assert code == 0, err
    report = json.loads(out)
    assert report["metrics"] == {"loss": 0.25}
    assert sorted(path.name for path in Path(report["artefacts"]["trial_dir"]).iterdir()) == ["0", "1"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = blocks(page, "python")
    assert examples or page.stem != "README"
    monkeypatch.chdir(tmp_path)
    for text in examples:
        exec(compile(text, str(page), "exec"), {})
    assert list(tmp_path.iterdir()) == []


def test_the_metrics_shown_are_read_as_told() -> None:
    from modelopt_cli.workflows.runs.script_lines import metrics_of

    (shown,) = [text for text in blocks(ROOT / "docs" / "scripts.md", "") if '{"step"' in text]
    parsed = [metrics_of(line.partition("<-")[0].strip().encode()) for line in shown.splitlines()]
    assert parsed == [(1, {"loss": 0.71}), (2, {"loss": 0.52}), (None, {"loss": 0.52, "seconds": 3.1})]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    for name in set(re.findall(r"(?<![\w/])scripts/\w+", text)):
        if (page.parent / f"{name}.md").exists():
            continue
        assert (ROOT / name).is_file(), name
        assert os.access(ROOT / name, os.X_OK), f"{name} is not executable"
        assert shutil.which("bash"), "the scripts need bash"
        assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0
    for link in re.findall(r"\]\(([^):#]+)\)", text):
        assert (page.parent / link).exists(), link
