"""What was exported: the file, what it takes, and how near it comes to the model."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import size
from modelopt_cli.results.report import Report


def render_exported(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the warnings and the file."""
    if not quiet:
        details, inputs = report.details, report.details["inputs"]
        batch = "B" if details["any_batch_size"] else str(report.tables["checks"].rows[0][0])
        shape = ", ".join([batch, *map(str, inputs["shape"])])
        told = f"{report.metrics['model.parameters']:,.0f} parameters, {size(report.metrics['export.size_bytes'])}"
        _line(console, "model", f"{report.name}, {told}")
        _line(console, "takes", f"({shape}) {inputs['dtype']}, preprocessed as the model's data are")
        sizes = " and ".join(str(count) for count, error in report.tables["checks"].rows if error != float("inf"))
        off = f"off by at most {report.metrics['export.error']:.1e} of the largest output"
        _line(console, "checked", f"with {details['runtime']} on batches of {sizes}: {off}")
    for warning in report.warnings:
        console.print(Text.assemble(("note: ", "yellow"), warning), soft_wrap=True)
    _line(console, "exported", report.artefacts["exported"])


def _line(console: Console, label: str, text: str) -> None:
    console.print(Text.assemble((f"{label:<9} ", "dim"), text), soft_wrap=True)
