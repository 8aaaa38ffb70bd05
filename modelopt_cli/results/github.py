"""A report's gates where GitHub Actions shows them: an annotation for each that was not met, and a table of all.

An annotation is a line `::error title=...::...` that a step writes to standard output or standard error. The table is
Markdown that a step appends to the file that $GITHUB_STEP_SUMMARY names. Only where GITHUB_ACTIONS is `true`.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.references import redacted
from modelopt_cli.core.text import printable
from modelopt_cli.results.junit import failure

if TYPE_CHECKING:
    from modelopt_cli.results.report import GateResult, Report

_SUMMARY = "GITHUB_STEP_SUMMARY"
_IN_TEXTS = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))
_IN_TITLES = (*_IN_TEXTS, (":", "%3A"), (",", "%2C"))


def runs_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a step of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def error_lines(report: Report) -> list[str]:
    """A line for each gate that was not met, as GitHub reads it."""
    title = _escaped(f"modelopt {report.workflow}: gate not met", _IN_TITLES)
    return [
        f"::error title={title}::{_escaped(f'{_of(report)}{gate.condition} is {failure(gate)}', _IN_TEXTS)}"
        for gate in report.gates
        if not gate.met
    ]


def append_summary(report: Report, environment: Mapping[str, str] = os.environ) -> str:
    """Append the table of gates to the step's summary, where there is one; why that failed, or nothing."""
    path = environment.get(_SUMMARY, "")
    if not path or not report.gates:
        return ""
    try:
        with Path(path).open("a", encoding="utf-8", errors="replace") as stream:
            stream.write(summary(report))
    except OSError as error:
        return f"the gates are not in the step's summary: ${_SUMMARY}, {path}, cannot be written ({error.strerror})"
    return ""


def summary(report: Report) -> str:
    """Markdown: a heading, and a row for each gate."""
    rows = [
        f"| {'✓ met' if gate.met else '✗ not met'} | {_code(gate.condition)} | {_value(gate)} | {_margin(gate)} |"
        for gate in report.gates
    ]
    heading = f"### modelopt {report.workflow}" + (f": {_code(report.name)}" if _of(report) else "")
    return "\n".join([heading, "", "| | gate | value | margin |", "|---|---|---:|---:|", *rows, "", ""])


def _of(report: Report) -> str:
    """Whose gates they are; a comparison names the runs in its gates."""
    return "" if report.kind == "comparison" or not report.name else f"{report.name}: "


def _value(gate: GateResult) -> str:
    if gate.value is not None:
        return f"{gate.value:.6g}"
    return _plain(gate.reason or "not reported")


def _margin(gate: GateResult) -> str:
    return "" if gate.margin is None else f"{gate.margin:+.6g}"


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    """Text that is neither HTML nor Markdown, nor ends the cell of a table."""
    escaped = html.escape(printable(redacted(text)).replace("\n", " ").replace("\t", " "))
    return "".join(f"&#{ord(each)};" if each in "|`*_[]\\~" else each for each in escaped)


def _escaped(text: str, escapes: tuple[tuple[str, str], ...]) -> str:
    text = printable(redacted(text))
    for character, written in escapes:
        text = text.replace(character, written)
    return text
