"""What each layer or group bears: the measure that the allocation went by, over the share that would be taken."""

from __future__ import annotations

from typing import Any

from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, nominal, quantitative, tooltip
from modelopt_cli.results.report import Report

_OWN = ("layer", "group", "tensor", "share removed", "share")
_MOST = 30


def draw(report: Report) -> Chart | None:
    """Of a pruning whose allocation tried each layer by itself."""
    table = report.records("sensitivity")
    if not table:
        return None
    columns = list(table[0])
    who = next((name for name in ("layer", "group", "tensor") if name in columns), None)
    share = next((name for name in ("share removed", "share") if name in columns), None)
    measure = next(
        (name for name in columns if name not in _OWN and isinstance(_first(table, name), int | float)), None
    )
    if who is None or share is None or measure is None:
        return None
    ends: dict[str, float] = {}
    for row in table:
        ends[str(row[who])] = max(ends.get(str(row[who]), 0.0), abs(row[measure] or 0.0))
    names = sorted(ends, key=lambda name: -ends[name])
    rows = [
        {"who": str(row[who]), "share": row[share], "value": row[measure]}
        for row in table
        if str(row[who]) in names[:_MOST]
    ]
    encoding = {
        "x": quantitative("share", "share taken", scale={"zero": True}, axis={"format": "%"}),
        "y": quantitative("value", measure),
        "color": nominal("who", None, sort=names, legend=None if len(names) > 8 else {}),
        "tooltip": tooltip(("who", who), ("share", "share"), ("value", measure)),
    }
    spec = {"data": {"name": "sensitivity"}, "mark": {"type": "line", "point": {"size": 18}}, "encoding": encoding}
    left = len(names) - _MOST
    return Chart(
        kind="sensitivity",
        title="Sensitivity",
        alt=f"{measure} over the share taken of each {who}; {names[0]} bears least, {names[-1]} most.",
        panels=(Panel(spec, 300),),
        data={"sensitivity": columns_of(rows)},
        note=f"The {_MOST} most sensitive of {len(names)} are drawn." if left > 0 else "",
    )


def _first(table: list[dict[str, Any]], name: str) -> Any:
    return next((row[name] for row in table if row[name] is not None), None)
