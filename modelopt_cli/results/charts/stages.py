"""A pruned model before, right after pruning, and after recovery; of a compression, the model after each stage."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_NAMES = {"before": "before", "pruned": "right after pruning", "recovered": "after recovery", "final": "at the end"}
_MEASURES = ("accuracy", "r2", "rmse", "mae", "loss")
_MOST = 2


def draw(report: Report) -> Chart | None:
    """Of a pruning or compression that was judged: a panel for each of the first measures, a mark for each split."""
    table = report.records("stages")
    if len(table) < 2:
        return None
    panels: list[Panel] = []
    texts: list[str] = []
    data: dict[str, Columns] = {}
    names = {} if _staged(report) else _NAMES
    stages = [names.get(row["stage"], str(row["stage"])) for row in table]
    for measure in _MEASURES:
        rows = []
        for row, stage in zip(table, stages, strict=True):
            for split in ("test", "validation"):
                value = row.get(f"{split}.{measure}")
                if value is not None:
                    spread = row.get(f"{split}.{measure}{DEVIATION}") or 0.0
                    ends = {"low": value - spread, "high": value + spread}
                    rows.append({"stage": stage, "split": split, "value": value, "text": number(float(value)), **ends})
        if len({row["stage"] for row in rows}) < 2:
            continue
        name = f"stages_{len(panels)}"
        data[name] = columns_of(rows)
        y = {"field": "stage", "type": "nominal", "title": None, "sort": stages, "axis": {"grid": True}}
        x = quantitative("value", measure)
        colour = {"field": "split", "type": "nominal", "title": None, "scale": {"domain": ["test", "validation"]}}
        labels = tooltip(("stage", "stage"), ("split", "split"), ("value", measure), ("low", "from"), ("high", "to"))
        layers = [
            layer(
                {"type": "rule", "color": INK, "opacity": 0.6},
                {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            ),
            layer({"type": "point", "filled": True, "size": 130}, {"y": y, "x": x, "color": colour, "tooltip": labels}),
            layer(
                {"type": "text", "dy": -13, "fontSize": 11, "color": INK},
                {"y": y, "x": x, "text": {"field": "text"}},
                transform=[{"filter": f"datum.split == '{rows[0]['split']}'"}],
            ),
        ]
        panels.append(Panel({"data": {"name": name}, "layer": layers}, 60 + 44 * len(stages), measure))
        split = rows[0]["split"]
        readings = ", ".join(f"{row['text']} {row['stage']}" for row in rows if row["split"] == split)
        texts.append(f"{split}.{measure} {readings}")
        if len(panels) == _MOST:
            break
    if not panels:
        return None
    return Chart(
        kind="stages",
        title="After each stage" if _staged(report) else "Before, pruned, recovered",
        alt=f"{'; '.join(texts)}.",
        panels=tuple(panels),
        data=data,
        least=320,
    )


def _staged(report: Report) -> bool:
    """Whether each row is the model after a stage: of a compression, and of a trial of a search over such."""
    return report.kind == "compression" or (report.kind == "pick" and report.details.get("workflow") == "compress")
