"""Why trials failed: how many by each reason."""

from __future__ import annotations

import re
from typing import Any

from modelopt_cli.results.charts.chart import Chart, Panel, columns_of, tooltip
from modelopt_cli.results.charts.theme import STATE_COLOURS, STATES
from modelopt_cli.results.report import Report

_LONGEST = 90
_FIGURE = re.compile(r"(?<![\w.])[-+]?\d[\d_,]*\.?\d*(?:e[-+]?\d+)?(?![\w])", re.IGNORECASE)


def draw(report: Report) -> Chart | None:
    """Of a search in which a trial failed."""
    failed = [row for row in report.records("trials") if row["state"] == "failed"]
    if not failed:
        return None
    groups: dict[str, list[int]] = {}
    for row in failed:
        groups.setdefault(reason_of(row.get("reason"), row.get("failure")), []).append(row["trial"])
    rows: list[dict[str, Any]] = [
        {"reason": reason, "trials": len(trials), "trial": trials[0], "which": ", ".join(map(str, trials[:20]))}
        for reason, trials in sorted(groups.items(), key=lambda item: -len(item[1]))[:12]
    ]
    most = rows[0]["trials"]
    encoding = {
        "x": {
            "field": "trials",
            "type": "quantitative",
            "title": "failed trials",
            "axis": {"values": list(range(0, most + 1, -(-most // 6)))},
        },
        "y": {"field": "reason", "type": "nominal", "title": None, "sort": "-x"},
        "tooltip": tooltip(("reason", "reason"), ("trials", "trials"), ("which", "numbers")),
    }
    mark = {"type": "bar", "color": STATE_COLOURS[STATES.index("failed")], "cornerRadiusEnd": 3, "cursor": "pointer"}
    return Chart(
        kind="failures",
        title="Failures by reason",
        alt=f"{len(failed)} trials failed; most often ({most} times): {rows[0]['reason']}.",
        panels=(Panel({"data": {"name": "failures"}, "mark": mark, "encoding": encoding}, 40 + 30 * len(rows)),),
        data={"failures": columns_of(rows)},
        note="A click on a bar shows the first trial of that reason.",
    )


def reason_of(reason: object, failure: object = None) -> str:
    """A reason in one short line; figures, which differ from trial to trial, are left out."""
    text = without_figures(" ".join(str(reason or failure or "no reason given").split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def without_figures(text: str) -> str:
    """A text in which each number is an ellipsis, so that texts of one kind are equal."""
    return _FIGURE.sub("…", text)
