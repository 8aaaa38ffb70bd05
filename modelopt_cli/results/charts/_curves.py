"""The curves of all trials as the data set `curves`: trial, step, and `c0`, `c1`, ... for the objectives.

A large search has more points than a page should hold, so each curve is thinned to as many as there is room for:
evenly, the first and the last of each trial are kept. The file curves.csv beside the report has them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.results.charts.chart import columns_of
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import column_of

MOST_POINTS = 40_000


def curves_of(report: Report, most: int = MOST_POINTS) -> tuple[dict[str, list[Any]], int]:
    """(the data set, empty where there is none; every how many steps of a long curve are in it)"""
    table = report.records("curves")
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    if not table or not goals:
        return {}, 1
    names = [column_of(goal.metric, table[0]) for goal in goals]
    by_trial: dict[int, list[Mapping[str, Any]]] = {}
    for row in table:
        by_trial.setdefault(row["trial"], []).append(row)
    every = max(1, -(-len(table) // max(1, most - 2 * len(by_trial))))
    rows = [row for curve in by_trial.values() for row in _thinned(curve, every)]
    kept = [
        {"trial": row["trial"], "step": row["step"], **{f"c{i}": row.get(name) for i, name in enumerate(names)}}
        for row in rows
    ]
    return columns_of(kept, ["trial", "step", *(f"c{i}" for i in range(len(names)))]), every


def _thinned(curve: Sequence[Mapping[str, Any]], every: int) -> list[Mapping[str, Any]]:
    last = len(curve) - 1
    return [row for index, row in enumerate(curve) if index % every == 0 or index == last]
