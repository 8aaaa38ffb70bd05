"""How a training went: each loss and score after each epoch (or fold)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import Chart, Columns, Panel, columns_of, nominal, quantitative, tooltip
from modelopt_cli.results.report import Report

_STEPS = ("epoch", "step", "fold")
_SPLITS = ("train", "validation", "test")


def draw(report: Report) -> Chart | None:
    """Of a run with a curve of two steps or more: a panel for each measure, a line for each split (and learner)."""
    rows = report.records("curve")
    step = next((name for name in _STEPS if rows and name in rows[0]), None)
    if step is None or len(rows) < 2:
        return None
    learners = "learner" in rows[0]
    panels: list[Panel] = []
    data: dict[str, Columns] = {}
    texts: list[str] = []
    for measure, names in _measures(rows[0], {step, "learner"}).items():
        long = [
            {"step": row[step], "value": row[name], "line": _line(row, name, measure, learners)}
            for name in names
            for row in rows
            if isinstance(row.get(name), int | float)
        ]
        if len({row["step"] for row in long}) < 2:
            continue
        dataset = f"learning_curve_{len(panels)}"
        data[dataset] = columns_of(long, ["step", "value", "line"])
        lines = list(dict.fromkeys(row["line"] for row in long))
        encoding = {
            "x": quantitative("step", step, axis={"tickMinStep": 1, "format": "d"}),
            "y": quantitative("value", measure),
            "color": nominal("line", None, scale={"domain": lines}, legend=None if len(lines) == 1 else {}),
            "tooltip": tooltip(("line", "of"), ("step", step), ("value", measure)),
        }
        mark = {"type": "line", "point": {"size": 14} if len(rows) <= 60 else False}
        panels.append(Panel({"data": {"name": dataset}, "mark": mark, "encoding": encoding}, 220, measure))
        last = {line: [row for row in long if row["line"] == line][-1]["value"] for line in lines}
        texts.append(
            f"{measure} ends at " + ", ".join(f"{number(float(value))} ({line})" for line, value in last.items())
        )
    if not panels:
        return None
    return Chart(
        kind="learning_curve",
        title="Learning curves",
        alt=f"After {len({row[step] for row in rows})} {step}s: " + "; ".join(texts) + ".",
        panels=tuple(panels),
        data=data,
        least=300,
    )


def _measures(row: Mapping[str, Any], left_out: set[str]) -> dict[str, list[str]]:
    """Measure -> the columns of its splits."""
    measures: dict[str, list[str]] = {}
    for name in row:
        if name not in left_out:
            split, dot, rest = name.partition(".")
            measures.setdefault(rest if dot and split in _SPLITS else name, []).append(name)
    return measures


def _line(row: Mapping[str, Any], name: str, measure: str, learners: bool) -> str:
    split = name.removesuffix(f".{measure}")
    if not learners:
        return split
    return f"{row['learner']}, {split}"
