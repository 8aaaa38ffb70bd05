"""Gates as JUnit XML: read back by a parser, whatever stands in their texts; other files are left alone."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.results.junit import as_xml, check, write
from modelopt_cli.results.report import GateResult, Report

MET = GateResult(condition="test.accuracy >= 0.9", met=True, value=0.95, margin=0.05)
MISSED = GateResult(condition="loss < 1", met=False, value=2.0, margin=-1.0)
LACKING = GateResult(condition="loss < 1", met=False, value=None, margin=None)


def report(*gates: GateResult, name: str = "run") -> Report:
    return Report(kind="training", workflow="train", name=name, gates=list(gates), seconds=1.5)


def test_a_test_case_a_gate_with_value_and_margin_of_each_failure() -> None:
    root = ElementTree.fromstring(as_xml(report(MET, MISSED, LACKING)).encode())
    (suite,) = root
    for element in (root, suite):
        assert {name: element.get(name) for name in ("tests", "failures", "errors", "time")} == {
            "tests": "3",
            "failures": "2",
            "errors": "0",
            "time": "1.500",
        }
    assert suite.get("name") == "modelopt train: run"
    assert [case.get("name") for case in suite] == [gate.condition for gate in (MET, MISSED, LACKING)]
    assert {case.get("classname") for case in suite} == {"modelopt.train"}
    failures = [[each.get("message") for each in case] for case in suite]
    assert failures == [
        [],
        ["not met: value 2, margin -1"],
        ["not met: the report has no such metric, or it is undefined here"],
    ]


def test_a_reason_is_told() -> None:
    gate = GateResult(condition="B.x > 1", met=False, value=None, margin=None, reason="B has failed")
    (failure,) = ElementTree.fromstring(as_xml(report(gate)).encode()).iter("failure")
    assert failure.get("message") == "not met: B has failed"
    assert failure.text == "B.x > 1\nnot met: B has failed"


def test_whatever_stands_in_a_text_stays_text() -> None:
    nasty = '<failure/> & "quotes" ]]> \x1b[31m \x00 \ufffe \ud800 é'
    gate = GateResult(condition=nasty, met=False, value=None, margin=None, reason=nasty)
    (suite,) = ElementTree.fromstring(as_xml(report(gate, name=nasty)).encode())
    (case,) = suite
    written = '<failure/> & "quotes" ]]> \\x1b[31m \\x00 \\ufffe \\ud800 é'
    assert case.get("name") == written
    assert suite.get("name") == f"modelopt train: {written}"
    assert len(case) == 1


def test_a_file_of_ours_is_replaced_and_any_other_stays(tmp_path: Path) -> None:
    path = tmp_path / "gates.xml"
    check(path)
    write(path, report(MISSED))
    check(path)
    write(path, report(MET))
    assert ElementTree.parse(path).getroot().get("failures") == "0"
    for content in ("", "<testsuites/>", "my thesis"):
        path.write_text(content)
        with pytest.raises(UsageError, match="exists and is no JUnit file of modelopt, so it stays"):
            check(path)


def test_what_cannot_be_a_file_is_refused_before(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; name a file"):
        check(tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        check(tmp_path / "no" / "gates.xml")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write(tmp_path / "no" / "gates.xml", report(MET))
    assert list(tmp_path.iterdir()) == []
