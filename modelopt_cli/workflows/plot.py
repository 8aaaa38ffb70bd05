"""The plot workflow: one chart of a run as a file."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli.core.errors import InputError, UsageError, did_you_mean
from modelopt_cli.results import charts
from modelopt_cli.workflows.report import load


def charts_of(run: str, root: Path) -> dict[str, str]:
    """The charts that a run has something for: kind -> what the chart shows, in words."""
    return {kind: f"{chart.title}: {chart.alt}" for kind, chart in charts.all_of(load(run, root)[0]).items()}


def draw(
    run: str,
    root: Path,
    kind: str,
    out: Path | None = None,
    *,
    width: int = 640,
    theme: str = "light",
    force: bool = False,
) -> Path:
    """Draw the chart into `out` (by default <kind>.png in the working folder) and give its path.

    Raises UsageError for an unknown kind or format and where the file exists (without `force`), InputError where the
    run has nothing of it."""
    from modelopt_cli.results.charts.pictures import draw_to, format_of

    path = Path(f"{kind}.png") if out is None else out
    if kind not in charts.kinds():
        near = did_you_mean(kind, charts.kinds())
        raise UsageError(f"there is no chart '{kind}'.{near} There are: {', '.join(charts.kinds())}")
    format_of(path)
    if path.exists() and not force:
        raise UsageError(f"{path} is there already, and nothing is overwritten; name a new file, or say --force")
    report, _ = load(run, root)
    chart = charts.draw(report, kind)
    if chart is None:
        there = ", ".join(charts.all_of(report)) or "none"
        raise InputError(f"this run has nothing to draw as '{kind}'; it has: {there}")
    draw_to(chart, path, width=width, theme=theme)
    return path
