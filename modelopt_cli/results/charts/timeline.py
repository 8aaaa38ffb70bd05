"""When each trial ran, and beside which others: a bar a trial, a row for each one that can run at once."""

from __future__ import annotations

from modelopt_cli.core.readable import duration
from modelopt_cli.results.charts._states import coloured
from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, quantitative, tooltip
from modelopt_cli.results.report import Report

_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def draw(report: Report) -> Chart | None:
    """Of a search with two intervals or more."""
    rows = report.records("timeline")
    if len(rows) < 2:
        return None
    end = max(row["end"] for row in rows)
    busy = sum(row["end"] - row["start"] for row in rows)
    lanes = max(row["lane"] for row in rows)
    _, unit, name = next(each for each in _UNITS if end >= each[0])
    bars = [
        {**row, "start": row["start"] / unit, "end": row["end"] / unit, "took": duration(row["end"] - row["start"])}
        for row in rows
    ]
    encoding = {
        "x": quantitative("start", name, scale={"zero": True, "nice": False}),
        "x2": {"field": "end"},
        "y": {
            "field": "lane",
            "type": "ordinal",
            "title": "at once" if lanes > 1 else None,
            "scale": {"padding": 0.15},
        },
        **coloured(rows, shapes=False),
        "tooltip": tooltip(("trial", "trial"), ("state", "ended as"), ("took", "took")),
    }
    mark = {"type": "bar", "cornerRadius": 2, "cursor": "pointer", "stroke": "white", "strokeWidth": 0.4}
    share = busy / (end * lanes) if end > 0 else 1.0
    return Chart(
        kind="timeline",
        title="When trials ran",
        alt=f"{len(rows)} stretches of work in {duration(end)}, up to {lanes} at once; busy {share:.0%} of that time.",
        panels=(Panel({"data": {"name": "timeline"}, "mark": mark, "encoding": encoding}, 60 + 26 * min(lanes, 16)),),
        data={"timeline": columns_of(bars, ["trial", "lane", "start", "end", "state", "took"])},
        note="Gaps are the time in which the next setting was chosen. Time between two sessions is left out.",
    )
