"""`modelopt report` and `modelopt plot`, and the page that every run writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import QUICK, Cli

pytestmark = pytest.mark.slow


@pytest.fixture
def searched(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one search in runs/."""
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(QUICK)
    assert cli("tune", "quick.yaml", "--quiet").code == 0
    return tmp_path


def test_a_run_writes_its_page_and_says_where(cli: Cli, searched: Path) -> None:
    run = searched / "runs" / "quick" / "1"
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "The search asked for the highest validation.accuracy over 2 settings" in page
    assert "training.optimizer.lr" in page
    report = json.loads((run / "report.json").read_text())
    assert Path(report["artefacts"]["page"]) == run / "report.html"
    shown = cli("show", "quick").out
    assert "report.html" in shown


def test_report_false_leaves_it_out(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick.yaml").write_text(QUICK + "report: false\n")
    assert cli("train", "quick.yaml", "--quiet").code == 0
    assert not Path("runs/quick/1/report.html").exists()
    assert "page" not in json.loads(Path("runs/quick/1/report.json").read_text())["artefacts"]
    assert cli("report", "quick").code == 0
    assert Path("runs/quick/1/report.html").exists()


def test_a_failed_run_has_a_page_that_says_why(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(
        "version: 1\ncommand: {argv: [python, -c, 'raise SystemExit(\"<b>broken</b>\")'], parameters: {}}\n"
    )
    assert cli("train", "bad.yaml", "--quiet").code == 1
    page = Path("runs/bad/1/report.html").read_text()
    assert "The run failed: " in page
    assert "&lt;b&gt;broken&lt;/b&gt;" in page
    assert "<b>broken" not in page


def test_report_writes_where_it_is_told_and_overwrites_nothing(cli: Cli, searched: Path) -> None:
    done = cli("report", "quick/1", "--out", "mine.html")
    assert (done.code, done.out.strip()) == (0, "mine.html")
    before = Path("mine.html").read_text()
    again = cli("report", "quick/1", "--out", "mine.html")
    assert again.code == 2
    assert "--force" in again.err
    assert Path("mine.html").read_text() == before
    assert cli("report", "quick/1", "--out", "mine.html", "--force").code == 0
    assert cli("report", "quick", "--out", "runs").code == 2
    assert cli("report", "quick", "--out", "nowhere/x.html").code == 6
    unknown = cli("report", "quack")
    assert unknown.code == 2
    assert "quick" in unknown.err


def test_a_report_saved_as_json_and_several_runs_need_a_file(cli: Cli, searched: Path) -> None:
    Path("saved.json").write_text(cli("show", "quick", "--json").out)
    bare = cli("report", "saved.json")
    assert bare.code == 2
    assert "--out" in bare.err
    assert cli("report", "saved.json", "--out", "saved.html").code == 0
    assert cli("train", "quick.yaml", "--quiet").code == 0
    assert cli("report", "quick/1", "quick/2").code == 2
    assert cli("report", "quick/1", "quick/2", "--out", "both.html").code == 0
    assert "2 runs side by side: A is quick/1 and B is quick/2." in Path("both.html").read_text()
    Path("broken.json").write_text("{")
    broken = cli("report", "broken.json", "--out", "x.html")
    assert broken.code == 2
    assert not Path("x.html").exists()


def test_plot_lists_and_draws(cli: Cli, searched: Path) -> None:
    kinds = [line.split()[0] for line in cli("plot", "quick").out.splitlines()]
    assert {"history", "parallel", "slices", "timeline"} <= set(kinds)
    for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<svg"), ("a.pdf", b"%PDF")):
        assert cli("plot", "quick", "history", "--out", name).code == 0
        assert Path(name).read_bytes().startswith(magic)
    assert cli("plot", "quick", "history").out.strip() == "history.png"
    assert cli("plot", "quick", "history").code == 2  # it is there already
    near = cli("plot", "quick", "histry", "--out", "b.png")
    assert near.code == 2
    assert "Did you mean 'history'?" in near.err
    missing = cli("plot", "quick", "front", "--out", "b.png")
    assert missing.code == 2
    assert "history" in missing.err
    assert cli("plot", "quick", "history", "--out", "b.gif").code == 2
    assert not list(Path.cwd().glob("b.*"))


def test_a_page_that_cannot_be_made_is_a_warning(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        raise ValueError("no page today")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modelopt_cli.results.page.page.render", fails)
    Path("quick.yaml").write_text(QUICK)
    assert cli("train", "quick.yaml", "--quiet").code == 0
    report = json.loads(Path("runs/quick/1/report.json").read_text())
    assert any("no page today" in text for text in report["warnings"])
    assert report["status"] == "completed"
