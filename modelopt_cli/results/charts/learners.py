"""Teacher, student alone and student: how well each does, and how much of the gap between the first two was closed."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

GAPS = ("test.gap_closed", "validation.gap_closed")
_MEASURES = ("accuracy", "r2", "rmse", "mae", "loss")
_MOST = 2


def draw(report: Report) -> Chart | None:
    """Of a distillation: a panel for each of the first measures, on the test split where it was judged there."""
    table = [row for row in report.records("learners") if row.get("kept") is not False]
    names = list(dict.fromkeys(str(row["learner"]) for row in table))
    if len(names) < 2:
        return None
    panels: list[Panel] = []
    texts: list[str] = []
    data: dict[str, Columns] = {}
    for measure in _MEASURES:
        split = next(
            (s for s in ("test", "validation") if any(row.get(f"{s}.{measure}") is not None for row in table)), None
        )
        if split is None:
            continue
        rows = []
        for row in table:
            value = row.get(f"{split}.{measure}")
            if value is None:
                continue
            spread = row.get(f"{split}.{measure}{DEVIATION}") or 0.0
            shown = number(float(value)) + (f" ± {spread:.2g}" if spread else "")
            rows.append(
                {
                    "learner": str(row["learner"]),
                    "value": value,
                    "low": value - spread,
                    "high": value + spread,
                    "text": shown,
                }
            )
        if len(rows) < 2:
            continue
        name = f"learners_{len(panels)}"
        data[name] = columns_of(rows)
        y = {
            "field": "learner",
            "type": "nominal",
            "title": None,
            "sort": names,
            "axis": {"grid": True},
        }
        x = quantitative("value", f"{split}.{measure}")
        who = {"field": "learner", "type": "nominal", "legend": None, "sort": names}
        labels = tooltip(("learner", "who"), ("text", measure), ("low", "from"), ("high", "to"))
        layers = [
            layer(
                {"type": "rule", "color": INK, "opacity": 0.6},
                {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            ),
            layer({"type": "point", "filled": True, "size": 140}, {"y": y, "x": x, "color": who, "tooltip": labels}),
            layer(
                {"type": "text", "dy": -14, "fontSize": 11, "color": INK}, {"y": y, "x": x, "text": {"field": "text"}}
            ),
        ]
        panels.append(Panel({"data": {"name": name}, "layer": layers}, 60 + 42 * len(rows), measure))
        texts.append(f"{split}.{measure}: " + ", ".join(f"{row['learner']} {row['text']}" for row in rows))
        if len(panels) == _MOST:
            break
    if not panels:
        return None
    gap = next((report.metrics[name] for name in GAPS if name in report.metrics), None)
    closed = (
        "" if gap is None else f" The student closed {gap:.0%} of the gap between the student alone and the teacher."
    )
    return Chart(
        kind="learners",
        title="Teacher, student alone, student",
        alt=f"{'; '.join(texts)}.{closed}",
        panels=tuple(panels),
        data=data,
        note="The line through a mark is the deviation over seeds, where there are several.",
        least=320,
    )
