"""Gates as GitHub Actions reads them: one line an annotation, and a table, whatever stands in their texts."""

from __future__ import annotations

import html
import re
from pathlib import Path

from modelopt_cli.results.github import append_summary, error_lines, runs_here, summary
from modelopt_cli.results.report import GateResult, Report

MET = GateResult(condition="test.accuracy_drop <= 0.01", met=True, value=0.005, margin=0.005)
MISSED = GateResult(condition="model.latency_ms_ratio <= 0.5", met=False, value=0.75, margin=-0.25)
LACKING = GateResult(condition="x < 50%", met=False, value=None, margin=None)


def report(*gates: GateResult, name: str = "run") -> Report:
    return Report(kind="units", workflow="prune", name=name, gates=list(gates))


def read(line: str) -> tuple[dict[str, str], str]:
    """As the runner reads a workflow command: (properties, message)."""
    match = re.fullmatch(r"::error ([^:]*)::(.*)", line)
    assert match is not None
    pairs = (pair.split("=", 1) for pair in match[1].split(","))
    escapes = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}

    def plain(text: str) -> str:
        return re.sub("%0D|%0A|%3A|%2C|%25", lambda escape: escapes[escape[0]], text)

    return {name: plain(value) for name, value in pairs}, plain(match[2])


def test_a_line_for_each_gate_that_was_not_met() -> None:
    lines = error_lines(report(MET, MISSED, LACKING))
    assert [read(line) for line in lines] == [
        (
            {"title": "modelopt prune: gate not met"},
            "run: model.latency_ms_ratio <= 0.5 is not met: value 0.75, margin -0.25",
        ),
        (
            {"title": "modelopt prune: gate not met"},
            "run: x < 50% is not met: the report has no such metric, or it is undefined here",
        ),
    ]
    assert error_lines(report(MET)) == []


def test_whatever_stands_in_a_text_stays_one_line() -> None:
    nasty = "a\r\n::set-output name=x::y 100% \x1b[31m"
    gate = GateResult(condition="x > 1", met=False, value=None, margin=None, reason=nasty)
    (line,) = error_lines(report(gate, name=nasty))
    assert "\n" not in line
    assert "\r" not in line
    properties, message = read(line)
    assert properties == {"title": "modelopt prune: gate not met"}
    assert "100% \\x1b[31m" in message


def test_the_summary_is_a_table_of_all_gates() -> None:
    nasty = "<img src=x> | `b` *c* [d](e)\nf"
    lacking = GateResult(condition="B.x > 1", met=False, value=None, margin=None, reason=nasty)
    lines = summary(report(MET, MISSED, lacking, name=nasty)).splitlines()
    assert lines[0].startswith("### modelopt prune: <code>")
    assert lines[2:4] == ["| | gate | value | margin |", "|---|---|---:|---:|"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:7]]
    assert [row[0] for row in rows] == ["✓ met", "✗ not met", "✗ not met"]
    assert [row[2:] for row in rows[:2]] == [["0.005", "+0.005"], ["0.75", "-0.25"]]
    assert html.unescape(rows[0][1]) == "<code>test.accuracy_drop <= 0.01</code>"
    assert html.unescape(rows[2][2]) == nasty.replace("\n", " ")
    assert "<img" not in "".join(lines)


def test_it_is_appended_to_the_file_that_the_step_names(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}
    assert runs_here(environment)
    assert append_summary(report(MET), environment) == ""
    assert path.read_text() == "before\n" + summary(report(MET))
    assert append_summary(report(), environment) == "", "without gates there is nothing to say"
    assert append_summary(report(MET), {}) == ""
    assert path.read_text() == "before\n" + summary(report(MET))
    assert "cannot be written" in append_summary(report(MET), {"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert not runs_here({})
    assert not runs_here({"GITHUB_ACTIONS": "false"})
