"""The effect of each setting alone: the mean of the objective over all other settings, by a model of the trials."""

from __future__ import annotations

from typing import Any

from modelopt_cli.core.readable import cell, short
from modelopt_cli.results.charts._axes import flat
from modelopt_cli.results.charts.chart import INK, Chart, Columns, Panel, Spec, columns_of, layer, quantitative, tooltip
from modelopt_cli.results.report import Report

_MOST = 16


def draw(report: Report) -> Chart | None:
    """Of a search with enough trials: a panel a setting, of the first objective."""
    table = report.records("effects")
    if not table:
        return None
    metric = table[0]["metric"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table:
        if row["metric"] == metric:
            groups.setdefault((row["path"], row["when"]), []).append(row)
    paths = [path for path, _ in groups]
    means = [row["mean"] for rows in groups.values() for row in rows]
    deviations = [row["deviation"] for rows in groups.values() for row in rows]
    domain = [min(means) - max(deviations), max(means) + max(deviations)]
    panels, reach = [], []
    data: dict[str, Columns] = {}
    for index, ((path, when), rows) in enumerate(list(groups.items())[:_MOST]):
        numeric = all(isinstance(row["value"], int | float) and not isinstance(row["value"], bool) for row in rows)
        shown = [
            {
                "value": row["value"] if numeric else str(cell(row["value"])),
                "mean": row["mean"],
                "low": row["mean"] - row["deviation"],
                "high": row["mean"] + row["deviation"],
            }
            for row in rows
        ]
        name = f"effects_{index}"
        data[name] = columns_of(shown)
        title = short(path, paths) + (f" ({when})" if when else "")
        panels.append(Panel({"data": {"name": name}, "layer": _layers(shown, numeric, metric, domain)}, 180, title))
        of_setting = [row["mean"] for row in shown]
        reach.append((max(of_setting) - min(of_setting), title))
    widest = max(reach)
    return Chart(
        kind="effects",
        title="Average effect of each setting",
        alt=f"Mean {metric} by the values of {len(panels)} settings; {widest[1]} moves it most, by {widest[0]:.3g}.",
        panels=tuple(panels),
        data=data,
        note="Not the best that a value allows, but the mean over all other settings, by a model of the trials (a "
        "forest). The band is the deviation between its trees.",
        least=250,
    )


def _layers(rows: list[dict[str, Any]], numeric: bool, metric: str, domain: list[float]) -> list[Spec]:
    values = [row["value"] for row in rows]
    log = numeric and min(values) > 0 and max(values) / min(values) >= 100
    x: Spec = {
        "field": "value",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": flat([str(value) for value in values]),
    }
    if numeric:
        scale = {"type": "log"} if log else {"zero": False, "nice": False}
        x = quantitative("value", None, scale=scale, axis={"tickCount": 5, "format": ".4~g"})
    y = quantitative("mean", metric, scale={"domain": domain, "zero": False})
    labels = tooltip(("value", "value"), ("mean", metric), ("low", "from"), ("high", "to"))
    if numeric and len(rows) > 2:
        band = layer({"type": "area", "opacity": 0.2}, {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}})
        return [band, layer({"type": "line"}, {"x": x, "y": y, "tooltip": labels})]
    bars = layer({"type": "rule", "color": INK}, {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}})
    return [bars, layer({"type": "point", "filled": True, "size": 60}, {"x": x, "y": y, "tooltip": labels})]
