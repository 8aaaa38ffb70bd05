"""Charts as files: SVG, PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from modelopt_cli.results.charts.chart import Chart

FORMATS = ("svg", "png", "pdf")


def format_of(path: Path) -> str:
    """The format that a file's name asks for. Raises UsageError for another one."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"--out {path}: a picture is svg, png or pdf, by the end of the file's name")
    return form


def draw_to(chart: Chart, path: Path, *, width: int = 640, theme: str = "light", scale: float = 2.0) -> None:
    """Write the chart to `path`, in the format of its name, whole or not at all; see Chart.render.

    Raises UsageError for an unknown format, StorageError where the file cannot be written.
    """
    content = chart.render(format_of(path), width=width, theme=theme, scale=scale)
    write_whole(path, lambda stream: stream.write(content))
