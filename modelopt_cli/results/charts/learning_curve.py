"""How a training went: each loss and score after each epoch (or fold).

The stages of a compression lie one after another on the axis: a line of each, for each is of another model, or of
another loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import (
    INK,
    Chart,
    Columns,
    Panel,
    Spec,
    columns_of,
    layer,
    nominal,
    quantitative,
    tooltip,
)
from modelopt_cli.results.report import Report

_STEPS = ("epoch", "step", "fold")
_SPLITS = ("train", "validation", "test")


def draw(report: Report) -> Chart | None:
    """Of a run with a curve of two steps or more: a panel for each measure, a line for each split (and learner)."""
    rows = report.records("curve")
    step = next((name for name in _STEPS if rows and name in rows[0]), None)
    if step is None or len(rows) < 2:
        return None
    learners, stages = "learner" in rows[0], "stage" in rows[0]
    if stages:
        rows = _one_after_another(rows)
    borders = _borders(rows) if stages else []
    panels: list[Panel] = []
    data: dict[str, Columns] = {}
    texts: list[str] = []
    for measure, names in _measures(rows[0], {step, "learner", "stage", "at"}).items():
        long = [
            {
                "step": row.get("at", row[step]),
                "value": row[name],
                "line": _line(row, name, measure, learners),
                **({"stage": row["stage"], "of_stage": row[step]} if stages else {}),
            }
            for name in names
            for row in rows
            if isinstance(row.get(name), int | float)
        ]
        if len({row["step"] for row in long}) < 2:
            continue
        dataset = f"learning_curve_{len(panels)}"
        data[dataset] = columns_of(long)
        lines = list(dict.fromkeys(row["line"] for row in long))
        last = {line: [row for row in long if row["line"] == line][-1]["value"] for line in lines}
        spec = _spec(step, measure, lines, borders, points=len(rows) <= 60)
        panels.append(Panel({"data": {"name": dataset}, **spec}, 220, measure))
        texts.append(
            f"{measure} ends at " + ", ".join(f"{number(float(value))} ({line})" for line, value in last.items())
        )
    if not panels:
        return None
    count = len({(row.get("stage"), row[step]) for row in rows})
    return Chart(
        kind="learning_curve",
        title="Learning curves",
        alt=f"After {count} {step}s{_of_stages(borders)}: " + "; ".join(texts) + ".",
        panels=tuple(panels),
        data=data,
        least=300,
    )


def _one_after_another(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a compression with their place on the axis; what its models cost is in other tables."""
    return [
        {"at": at, **{name: value for name, value in row.items() if not name.startswith("model.")}}
        for at, row in enumerate(rows, start=1)
    ]


def _borders(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where each stage begins: half a step before its first."""
    firsts: dict[str, int] = {}
    for row in rows:
        firsts.setdefault(str(row["stage"]), row["at"])
    return [{"begins": at - 0.5, "name": stage} for stage, at in firsts.items()]


def _of_stages(borders: Sequence[Mapping[str, Any]]) -> str:
    return f" of the stages {', '.join(border['name'] for border in borders)}" if borders else ""


def _spec(step: str, measure: str, lines: Sequence[str], borders: Sequence[Mapping[str, Any]], *, points: bool) -> Spec:
    """A panel's lines; with `borders` a line a stage, and the names of the stages above them."""
    encoding = {
        "x": quantitative("step", step, axis={"tickMinStep": 1, "format": "d"}),
        "y": quantitative("value", measure),
        "color": nominal("line", None, scale={"domain": list(lines)}, legend=None if len(lines) == 1 else {}),
        "tooltip": tooltip(("line", "of"), ("step", step), ("value", measure)),
    }
    mark = {"type": "line", "point": {"size": 14} if points else False}
    if not borders:
        return {"mark": mark, "encoding": encoding}
    encoding["x"] = quantitative("step", f"{step} of all stages", axis={"tickMinStep": 1, "format": "d"})
    encoding["tooltip"] = tooltip(("line", "of"), ("stage", "stage"), ("of_stage", step), ("value", measure))
    begins = {"x": {"field": "begins", "type": "quantitative"}}
    rule = {"type": "rule", "color": INK, "opacity": 0.25, "strokeDash": [3, 3]}
    name = {"type": "text", "align": "left", "dx": 3, "fontSize": 10, "color": INK}
    return {
        "layer": [
            layer(rule, begins, data={"values": list(borders[1:])}),
            layer(
                name,
                {**begins, "y": {"value": -7}, "text": {"field": "name", "type": "nominal"}},
                data={"values": list(borders)},
            ),
            layer(mark, {**encoding, "detail": nominal("stage", None)}),
        ]
    }


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
