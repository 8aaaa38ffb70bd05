"""Pictures of a report: one file a kind, which turns the report's tables into a Vega-Lite specification.

A kind's name is its file's stem: `modelopt plot RUN history`. Each public module has one function, `draw(report)`,
which gives a Chart, or None where the report has nothing of it. The same specification is drawn in report.html
(results/page/), in a notebook and into a file (pictures.py). Callers import `kinds`, `draw` and `all_of` from here, and
Chart from chart.py."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelopt_cli.results.charts.chart import Chart
    from modelopt_cli.results.report import Report

_TOOLS = ("chart", "pictures", "theme")


def kinds() -> list[str]:
    """The names of all kinds, in alphabetical order."""
    return list(_kinds())


@cache
def _kinds() -> tuple[str, ...]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("_") and name not in _TOOLS))


def draw(report: Report, kind: str) -> Chart | None:
    """The report's chart of this kind; None where it has nothing of it. Raises KeyError for an unknown kind."""
    if kind not in _kinds():
        raise KeyError(kind)
    chart: Chart | None = importlib.import_module(f"{__name__}.{kind}").draw(report)
    return chart


def all_of(report: Report) -> dict[str, Chart]:
    """Every chart that the report has something for, by kind."""
    charts = {kind: draw(report, kind) for kind in kinds()}
    return {kind: chart for kind, chart in charts.items() if chart is not None}
