"""A report's gates as JUnit XML, which CI systems show: a test case a gate, a failure for each that was not met.

An existing file is replaced where it is one that modelopt wrote; any other stays, and is refused before any work.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.references import redacted
from modelopt_cli.core.text import printable
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from modelopt_cli.results.report import GateResult, Report

_OURS = "modelopt"
_BEGINNING = f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="{_OURS}"'
_NO_XML = re.compile("[\ufffe\uffff]")  # what `printable` leaves, but XML 1.0 (2.2) has not


def check(path: Path) -> None:
    """Raise UsageError where the file could not be written, or another one would be lost."""
    if path.is_dir():
        raise UsageError(f"--junit: {path} is a folder; name a file, such as {path / 'gates.xml'}")
    if not path.parent.is_dir():
        raise UsageError(f"--junit: there is no folder {path.parent}; make it, or name a file in another one")
    try:
        with path.open("rb") as stream:
            ours = stream.read(len(_BEGINNING)) == _BEGINNING.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"--junit: {path} cannot be read ({error.strerror}); name another file") from None
    if not ours:
        raise UsageError(f"--junit: {path} exists and is no JUnit file of modelopt, so it stays; name another file")


def write(path: Path, report: Report) -> None:
    """Write the file, whole or not at all. Raises StorageError."""
    text = as_xml(report)
    write_whole(path, lambda stream: stream.write(text.encode()))


def as_xml(report: Report) -> str:
    """The document: one suite, named by workflow and run."""
    failures = str(sum(not gate.met for gate in report.gates))
    tests, seconds = str(len(report.gates)), f"{report.seconds:.3f}"
    counts = {"tests": tests, "failures": failures, "errors": "0", "time": seconds}
    root = ElementTree.Element("testsuites", {"name": _OURS, **counts})
    named = f"modelopt {report.workflow}: {report.name}" if report.kind != "comparison" else "modelopt compare"
    began = {"timestamp": report.started} if report.started else {}
    suite = ElementTree.SubElement(root, "testsuite", {"name": _fit(named), **counts, "skipped": "0", **began})
    for gate in report.gates:
        names = {"classname": _fit(f"modelopt.{report.workflow}"), "name": _fit(gate.condition)}
        case = ElementTree.SubElement(suite, "testcase", {**names, "time": "0"})
        if not gate.met:
            message = _fit(failure(gate))
            element = ElementTree.SubElement(case, "failure", {"type": "gate", "message": message})
            element.text = _fit(f"{gate.condition}\n{failure(gate)}")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def failure(gate: GateResult) -> str:
    """Why the gate was not met, in a few words."""
    if gate.reason:
        return f"not met: {gate.reason}"
    if gate.value is None or gate.margin is None:
        return "not met: the report has no such metric, or it is undefined here"
    return f"not met: value {gate.value:.6g}, margin {gate.margin:.6g}"


def _fit(text: str) -> str:
    """The text as XML can hold it, without values that came from the environment."""
    return _NO_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", printable(redacted(text)))
