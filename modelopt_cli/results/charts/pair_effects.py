"""The effect of two settings together, for the pairs that explain most: a map of the mean of the objective."""

from __future__ import annotations

from typing import Any

from modelopt_cli.core.readable import cell, short
from modelopt_cli.results.charts.chart import Chart, Columns, Panel, columns_of, tooltip
from modelopt_cli.results.report import Report

_MOST = 6


def draw(report: Report) -> Chart | None:
    """Of a search with enough trials: a panel a pair, of the first objective."""
    table = report.records("effects_pairs")
    if not table:
        return None
    metric = table[0]["metric"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table:
        if row["metric"] == metric:
            groups.setdefault((row["path_a"], row["path_b"]), []).append(row)
    paths = list(dict.fromkeys(path for pair in groups for path in pair))
    panels = []
    data: dict[str, Columns] = {}
    for index, ((first, second), rows) in enumerate(list(groups.items())[:_MOST]):
        name = f"pair_effects_{index}"
        cells = [{"a": _text(row["value_a"]), "b": _text(row["value_b"]), "mean": row["mean"]} for row in rows]
        data[name] = columns_of(cells)
        names = short(first, paths), short(second, paths)
        orders = [list(dict.fromkeys(each[key] for each in cells)) for key in ("a", "b")]
        axis = {"labelAngle": -30, "labelOverlap": True, "labelLimit": 90}
        encoding = {
            "x": {"field": "a", "type": "ordinal", "title": names[0], "sort": orders[0], "axis": axis},
            "y": {
                "field": "b",
                "type": "ordinal",
                "title": names[1],
                "sort": orders[1][::-1],
                "axis": {"labelOverlap": True},
            },
            "color": {"field": "mean", "type": "quantitative", "title": metric, "legend": {"gradientLength": 140}},
            "tooltip": tooltip(("a", names[0]), ("b", names[1]), ("mean", metric)),
        }
        spec = {"data": {"name": name}, "mark": "rect", "encoding": encoding}
        panels.append(Panel(spec, 260, f"{names[0]} and {names[1]}"))
    return Chart(
        kind="pair_effects",
        title="Effects of two settings together",
        alt=f"Mean {metric} by two settings, for {len(panels)} pairs: {'; '.join(panel.title for panel in panels)}.",
        panels=tuple(panels),
        data=data,
        note="The mean over all other settings, as a model of the trials has it.",
        least=340,
    )


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(cell(value))
