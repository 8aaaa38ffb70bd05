"""Where keys and values stand, and how problems are shown there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.document.marks import Source
from modelopt_cli.experiment.document.yaml_loader import parse
from tests.support.bad_experiments import refusal


def test_marks() -> None:
    marks = parse(Source("x.yaml", "a:\n  b: [10, 20]\n  'c d': {e: 1}\n")).marks
    assert str(marks.key(("a", "b"))) == "x.yaml:2:3"
    assert str(marks.value(("a", "b", 1))) == "x.yaml:2:11"
    assert str(marks.value(("a", "c d", "e"))) == "x.yaml:3:14"
    assert str(marks.value(("a", "absent"))) == "x.yaml:1:1"
    assert marks.value(("a", "b", 1)).excerpt() == "    2 |   b: [10, 20]\n      |           ^^"


def test_the_line_of_a_mark_is_shown_as_a_window_when_long() -> None:
    with pytest.raises(ExperimentError) as caught:
        parse(Source("x.yaml", "a: {" + "b: 1, " * 100 + "b: 2}"))
    line, caret = str(caught.value).splitlines()[1:3]
    assert len(line) < 130
    assert line[caret.index("^")] == "b"


def test_all_problems_of_a_file_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, ("epochs: 30", "epochs: x"), ("seed: 0\ndata", "seed: x\ndata"), ("sampler: random", "trials: 0")
    )
    assert re.findall(r"^x.yaml:(\d+)", message, re.MULTILINE) == ["2", "10", "16"]


def test_at_most_ten_problems_are_shown(tmp_path: Path) -> None:
    wrong = "\n".join(f"  wrong_{i}: {i}" for i in range(14))
    message = refusal(tmp_path, ("  epochs: 30", wrong))
    assert message.count("unknown key") == 10
    assert message.endswith("... and 4 more problems")
