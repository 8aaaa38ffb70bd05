"""What a notebook shows of a report: the main figures, in HTML that holds no script and no markup of others."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from modelopt_cli.core import references
from modelopt_cli.results.report import GateResult, Kind, Report, Table

NASTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J"
SEARCH: dict[str, Any] = {
    "kind": "search",
    "workflow": "tune",
    "name": "digits",
    "metrics": {"validation.accuracy": 0.972, "test.accuracy": 0.96},
    "best": {"number": 2, "params": {"lr": 0.1}, "metrics": {"validation.accuracy": 0.972}, "seed": 0},
    "tables": {
        "trials": {
            "columns": ["trial", "state", "origin", "validation.accuracy", "lr"],
            "rows": [[i, "completed", "sampler", 0.9, 0.1] for i in range(12)],
        }
    },
    "details": {"objective": ["maximize validation.accuracy"], "workflow": "train"},
}


class Tags(HTMLParser):
    """The names of all tags, and that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.open.append(tag)
        assert {name for name, _ in attrs} <= {"style"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


ALLOWED = {"div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"}


def html(report: Report) -> str:
    text = report._repr_html_()  # what notebooks call
    assert Tags(text).names <= ALLOWED
    return text


def test_what_came_out_is_there() -> None:
    text = html(Report.model_validate(SEARCH))
    for part in ("digits", "completed", "0.972", "test.accuracy", "0.96", "trials", "report.to_pandas(name): trials"):
        assert part in text
    assert len(text) < 8_000


def test_gates_warnings_and_files() -> None:
    gates = [
        GateResult(condition="test.accuracy < 1", met=True, value=0.96, margin=0.04),
        GateResult(condition="loss < 1", met=False, value=None, margin=None, reason="B has failed"),
    ]
    report = Report.model_validate(
        {**SEARCH, "artefacts": {"model": "runs/a/1/model.pt"}, "warnings": list("abcdefgh")}
    )
    text = html(report.model_copy(update={"gates": gates}))
    for part in ("test.accuracy &lt; 1", "margin +0.04", "(B has failed)", "runs/a/1/model.pt", "and 3 more warnings"):
        assert part in text


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
@pytest.mark.parametrize("kind", ["training", "search", "comparison", "pruning", "distillation", "plan", "replay"])
def test_text_of_others_stays_text_in_every_kind(kind: Kind, status: str) -> None:
    gate = GateResult(condition=NASTY, met=False, value=None, margin=None, reason=NASTY)
    report = Report.model_validate(
        {
            "kind": kind,
            "workflow": NASTY,
            "name": NASTY,
            "status": status,
            "reason": NASTY,
            "metrics": {NASTY: 1.0},
            "best": {"number": 1, "params": {NASTY: NASTY}, "metrics": {}},
            "tables": {NASTY: Table(columns=[NASTY], rows=[[NASTY]])},
            "artefacts": {NASTY: NASTY},
            "warnings": [NASTY],
            "gates": [gate],
            "details": {"summary": [NASTY]} if kind == "comparison" else {},
        }
    )
    text = html(report)
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\n" not in repr(report)


def test_values_from_the_environment_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_known", {"TOKEN": "hunter2hunter2"})  # what `remember` fills, for this test alone
    report = Report.model_validate({**SEARCH, "warnings": ["said hunter2hunter2"]})
    assert "hunter2hunter2" not in html(report)
    assert "${TOKEN}" in html(report)


def test_a_report_in_a_line() -> None:
    assert repr(Report.model_validate(SEARCH)) == (
        "Report(tune digits: completed, validation.accuracy 0.972, 12 trials)"
    )
    failed = Report(kind="training", workflow="train", name="a", status="failed", reason="no")
    assert (repr(failed), str(failed)) == ("Report(train a: failed)", "Report(train a: failed)")
