"""Units group by group: how many were left of each, and which groups were not touched, and why."""

from __future__ import annotations

from modelopt_cli.results.charts.chart import INK, Chart, Panel, columns_of, layer, tooltip
from modelopt_cli.results.report import Report

_MOST = 60


def draw(report: Report) -> Chart | None:
    """Of units that were taken out, or that a model has (`inspect --groups`)."""
    table = [row for row in report.records("groups") if row.get("units") and "left" in row]
    if not table:
        return None
    rows = []
    for row in table[:_MOST]:
        rest = row["units"] if row["left"] is None else row["left"]
        why = row.get("spared") or None
        base = {"group": str(row["group"]), "all": row["units"], "spared": why, "tensors": row.get("tensors")}
        rows.append({**base, "part": "left", "units": rest, "order": 0})
        rows.append({**base, "part": "taken out", "units": row["units"] - rest, "order": 1})
    names = list(dict.fromkeys(row["group"] for row in rows))
    y = {"field": "group", "type": "nominal", "title": None, "sort": names}
    x = {"field": "units", "type": "quantitative", "title": "units"}
    labels = tooltip(
        ("group", "group"),
        ("part", "part"),
        ("units", "units"),
        ("all", "of"),
        ("tensors", "tensors"),
        ("spared", "left alone because"),
    )
    scale = {"domain": ["left", "taken out"], "range": ["#2f7ed8", "#b9c0cc"]}
    colour = {"field": "part", "type": "nominal", "title": None, "scale": scale}
    layers = [
        layer({"type": "bar"}, {"y": y, "x": x, "color": colour, "order": {"field": "order"}, "tooltip": labels}),
        layer(
            {"type": "text", "align": "left", "dx": 6, "fontSize": 10, "color": INK},
            {"y": y, "x": {**x, "field": "all"}, "text": {"field": "spared"}},
            transform=[{"filter": "datum.part == 'left' && isValid(datum.spared)"}],
        ),
    ]
    taken = sum(row["units"] for row in rows if row["part"] == "taken out")
    whole = sum(row["units"] for row in rows)
    frozen = sum(1 for row in table if row.get("spared"))
    left = len(table) - len(names)
    return Chart(
        kind="groups",
        title="Groups of units",
        alt=f"{taken:,} of {whole:,} units of {len(table)} groups were taken out; {frozen} groups were left alone.",
        panels=(Panel({"data": {"name": "groups"}, "layer": layers}, 50 + 22 * len(names)),),
        data={"groups": columns_of(rows)},
        note="Units of a group stand or fall together in all its tensors."
        + (f" {left} more groups are in groups.csv." if left > 0 else ""),
    )
