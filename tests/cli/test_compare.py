"""`modelopt compare` as typed: tables, exit codes, JUnit files, and the CI job of docs/ci.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.cli import QUICK, Cli
from tests.support.compared_runs import EXPERIMENT, run_folder

ROOT = Path(__file__).parents[2]
ACCURACY, SIZE = "test.accuracy", "model.size_bytes"
GATE = f"B.{ACCURACY} >= A.{ACCURACY} - 0.005"


@pytest.fixture
def two(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    wider = {**EXPERIMENT, "model": {"type": "mlp", "hidden": [16]}}
    run_folder(runs, "old", {ACCURACY: 0.9, SIZE: 1e5}, samples={"test": 1000})
    run_folder(runs, "new", {ACCURACY: 0.896, SIZE: 4e4}, samples={"test": 1000}, experiment=wider)


@pytest.mark.usefixtures("two")
def test_runs_side_by_side(cli: Cli) -> None:
    result = cli("compare", "old", "new")
    assert result.code == 0, result.err
    for text in ("old/1", "new/1", "model.hidden", "[8]", "[16]", "100.0 kB", "-60.0 kB"):
        assert text in result.out
    assert re.search(r"test\.accuracy +0\.9 +0\.896 +-0\.004 +unclear", result.out)
    assert re.search(r"model\.size_bytes .* better", result.out)
    assert "no clear difference of B to A (0.896 against 0.9, -0.004; 95% interval -0.03" in result.out


@pytest.mark.usefixtures("two")
def test_narrow_terminals_cut_no_number(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "validation.precision_weighted"
    for run in ("x", "y", "z"):
        values = {name: [0.123456, 0.125, 0.127], ACCURACY: [0.9, 0.91, 0.92]}
        run_folder(Path("runs"), run, {}, seeds=values)
    monkeypatch.setenv("COLUMNS", "80")
    result = cli("compare", "old", "x", "y", "z")
    assert "…" not in result.out
    assert result.out.count("0.9 ") >= 1
    assert result.out.count("0.91 ± 0.01") >= 3
    assert "precision_weighted" in result.out


@pytest.mark.usefixtures("two")
def test_gates_decide_the_exit_code(cli: Cli) -> None:
    assert cli("compare", "old", "new", "--gate", GATE).code == 0
    missed = cli("compare", "old", "new", "--gate", f"B.{SIZE} <= 10% * A.{SIZE}")
    assert missed.code == 3
    assert f"gate not met: B.{SIZE} <= 10% * A.{SIZE} (value 40000, margin -30000)" in missed.err
    unknown = cli("compare", "old", "new", "--gate", "B.test.acc > 0")
    assert unknown.code == 2
    assert "did you mean 'test.accuracy'" in unknown.err


@pytest.mark.usefixtures("two")
def test_json_is_one_document_also_where_a_gate_is_missed(cli: Cli) -> None:
    result = cli("compare", "old", "new", "--json", "--gate", f"B.{ACCURACY} >= 1")
    assert result.code == 3
    report = json.loads(result.out)
    assert report["kind"] == "comparison"
    assert set(report["tables"]) == {"runs", "settings", "metrics", "differences", "gates"}
    assert report["gates"][0]["met"] is False


@pytest.mark.usefixtures("two")
def test_quiet_leaves_the_result(cli: Cli) -> None:
    result = cli("compare", "old", "new", "--quiet", "--gate", GATE)
    assert SIZE not in result.out
    assert ACCURACY in result.out
    assert "model.hidden" not in result.out


@pytest.mark.usefixtures("two")
def test_a_junit_file_of_the_gates(cli: Cli) -> None:
    options = ["--gate", GATE, "--gate", f"B.{SIZE} <= 1", "--junit", "gates.xml"]
    assert cli("compare", "old", "new", *options).code == 3
    root = ElementTree.parse("gates.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    Path("mine.txt").write_text("mine")
    refused = cli("compare", "old", "new", *options[:-1], "mine.txt")
    assert refused.code == 2
    assert Path("mine.txt").read_text() == "mine"
    without = cli("compare", "old", "new", "--junit", "other.xml")
    assert without.code == 2
    assert "add one with --gate" in without.err
    assert not Path("other.xml").exists()


@pytest.mark.usefixtures("two")
def test_what_others_wrote_stays_text(cli: Cli) -> None:
    nasty = "[red]<b>\x1b[2J"
    run_folder(
        Path("runs"), "odd", {}, status="failed", reason=nasty, experiment={**EXPERIMENT, "model": {"type": nasty}}
    )
    result = cli("compare", "old", "odd", "--gate", f"B.{ACCURACY} > 0", "--junit", "gates.xml")
    assert result.code == 3
    assert "\x1b[2J" not in result.out + result.err
    assert "[red]<b>\\x1b[2J" in result.out
    assert ElementTree.parse("gates.xml").getroot().get("failures") == "1"


@pytest.mark.slow
def test_gates_of_a_run_as_junit(cli: Cli, quick: Path) -> None:
    options = ["--gate", "test.accuracy >= 0", "--gate", "test.accuracy > 1", "--junit", "gates.xml", "--quiet"]
    assert cli("train", quick, *options).code == 3
    assert ElementTree.parse("gates.xml").getroot().get("failures") == "1"
    assert cli("evaluate", "runs/quick/1/model.pt", *options).code == 3
    assert (
        cli("prune", "runs/quick/1/model.pt", "--amount", "0.5", "--gate", "model.sparsity > 0.1", *options[-3:]).code
        == 0
    )
    suite = ElementTree.parse("gates.xml").getroot()[0]
    assert [case.get("name") for case in suite] == ["model.sparsity > 0.1"]
    dry = cli("train", quick, *options, "--dry-run")
    assert (dry.code, "--dry-run judges no gate" in dry.err) == (2, True)


@pytest.mark.slow
def test_real_runs_of_several_seeds(cli: Cli, quick: Path) -> None:
    text = quick.read_text()
    quick.write_text(text[: text.index("tuning:")] + "seeds: 3\n")
    assert cli("train", quick, "--quiet").code == 0
    assert cli("train", quick, "--quiet", "--set", "training.optimizer.lr=1.0e-5").code == 0
    result = cli("compare", "quick/1", "quick/2", "--json")
    report = json.loads(result.out)
    columns = report["tables"]["differences"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in report["tables"]["differences"]["rows"]]
    loss = next(row for row in rows if row["metric"] == "test.loss")
    assert (loss["verdict"], loss["how"]) == ("worse", "Welch's t-test, 3 and 3 seeds")
    assert report["tables"]["settings"]["rows"] == [["training.optimizer.lr", 0.01, 1e-5]]
    assert report["warnings"] == []


@pytest.mark.slow
def test_the_job_of_the_docs_runs(tmp_path: Path) -> None:
    """With an experiment of seconds; the first time there is no accepted run yet, the second there is one."""
    (job,) = re.findall(r"```sh\n(#!.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    (tmp_path / "experiment.yaml").write_text(
        QUICK.replace("name: quick", "name: quick\ngates: [test.accuracy >= 0.0]")
    )
    (tmp_path / "job").write_text(job)
    program = tmp_path / "bin" / "modelopt"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom modelopt_cli.cli.main import main\nmain()\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for expected in (["gates.xml"], ["comparison.xml", "gates.xml"]):
        done = subprocess.run(
            ["bash", "job"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted(path.name for path in tmp_path.glob("*.xml"))
        assert files == expected
        assert all(ElementTree.parse(tmp_path / name).getroot().get("failures") == "0" for name in files)
    assert (tmp_path / "accepted" / "report.json").exists()
