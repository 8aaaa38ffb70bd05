"""Which columns of a table have empty cells, and how many."""

from __future__ import annotations

from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, tooltip
from modelopt_cli.results.report import Report

_MOST = 30


def draw(report: Report) -> Chart | None:
    """Of a run on a table in which a cell is missing."""
    gaps = [row for row in report.records("missing") if row["missing"]]
    if not gaps:
        return None
    gaps.sort(key=lambda row: -row["missing"])
    rows = [
        {"column": str(row["column"]), "missing": row["missing"], "share": row["missing"] / row["of"], "of": row["of"]}
        for row in gaps[:_MOST]
    ]
    encoding = {
        "y": {"field": "column", "type": "nominal", "title": None, "sort": [row["column"] for row in rows]},
        "x": {
            "field": "share",
            "type": "quantitative",
            "title": "share of cells that are empty",
            "axis": {"format": "%"},
        },
        "tooltip": tooltip(("column", "column"), ("missing", "empty"), ("of", "of"), ("share", "share")),
    }
    worst = rows[0]
    return Chart(
        kind="missing",
        title="Missing cells",
        alt=f"{len(gaps)} columns have empty cells; {worst['column']} most: {worst['share']:.0%} of {worst['of']:,}.",
        panels=(Panel({"data": {"name": "missing"}, "mark": "bar", "encoding": encoding}, 50 + 20 * len(rows)),),
        data={"missing": columns_of(rows)},
    )
