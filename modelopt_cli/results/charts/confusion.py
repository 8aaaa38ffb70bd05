"""Which classes a classifier takes for which: a cell for each pair of a true and a predicted class."""

from __future__ import annotations

from modelopt_cli.core.readable import number
from modelopt_cli.results.charts._axes import flat
from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, layer, nominal, tooltip
from modelopt_cli.results.report import Report

_MOST_WRITTEN = 12  # classes up to which the counts stand in the cells


def draw(report: Report) -> Chart | None:
    """Of a classifier that was judged: on the test split, else on validation."""
    table = report.records("confusion")
    splits = [row["split"] for row in table]
    split = "test" if "test" in splits else splits[0] if splits else None
    if split is None:
        return None
    rows = [row for row in table if row["split"] == split]
    of_class: dict[str, int] = {}
    for row in rows:
        of_class[str(row["true"])] = of_class.get(str(row["true"]), 0) + row["count"]
    for row in rows:
        of_class.setdefault(str(row["predicted"]), 0)
    names = sorted(of_class, key=_order)
    cells = [
        {
            "true": str(row["true"]),
            "predicted": str(row["predicted"]),
            "count": row["count"],
            "share": row["count"] / of_class[str(row["true"])],
        }
        for row in rows
    ]
    total, right = sum(of_class.values()), sum(cell["count"] for cell in cells if cell["true"] == cell["predicted"])
    wrong = max(
        (cell for cell in cells if cell["true"] != cell["predicted"]), key=lambda cell: cell["count"], default=None
    )
    worst = f" Most often {wrong['true']} is taken for {wrong['predicted']} ({wrong['count']} times)." if wrong else ""
    encoding = {
        "x": nominal(
            "predicted", "predicted class", sort=names, scale={"domain": names}, axis={"orient": "top", **flat(names)}
        ),
        "y": nominal("true", "true class", sort=names, scale={"domain": names}),
        "tooltip": tooltip(
            ("true", "true"), ("predicted", "predicted"), ("count", "samples"), ("share", "share of class")
        ),
    }
    colour = {"field": "share", "type": "quantitative", "title": "share of the true class", "scale": {"domain": [0, 1]}}
    layers = [layer({"type": "rect", "cornerRadius": 2}, {**encoding, "color": {**colour, "legend": None}})]
    if len(names) <= _MOST_WRITTEN:
        ink = {"condition": {"test": "datum.share > 0.5", "value": "white"}, "value": "#5b6472"}
        layers.append(layer({"type": "text", "fontSize": 11}, {**encoding, "text": {"field": "count"}, "color": ink}))
    return Chart(
        kind="confusion",
        title=f"Confusion matrix ({split} split)",
        alt=f"{right} of {total} samples right ({number(right / total)}).{worst}",
        panels=(Panel({"data": {"name": "confusion"}, "layer": layers}, min(560, 80 + 26 * len(names))),),
        data={"confusion": columns_of(cells)},
        note="A row is a true class, a column what was predicted; the darker, the larger the share of the row.",
    )


def _order(name: str) -> tuple[int, float, str]:
    """Classes that are numbers by their value, others by name."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name
