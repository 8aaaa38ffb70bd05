"""What was exported: the file, what it takes, and how near it comes to the model."""

from __future__ import annotations

import math
from typing import cast

from rich.console import Console

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import size
from modelopt_cli.results.details import ExportDetails
from modelopt_cli.results.report import Report


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the warnings and the file."""
    if not quiet:
        details, checks = cast(ExportDetails, report.details), report.records("checks")
        batch = "B" if details["any_batch_size"] else str(checks[0]["batch size"])
        shape = ", ".join([batch, *map(str, details["inputs"]["shape"])])
        sizes = " and ".join(str(row["batch size"]) for row in checks if row["relative error"] != math.inf)
        parameters, written = report.metrics["model.parameters"], size(report.metrics["export.size_bytes"])
        parts.line(console, "model     ", f"{report.name}, {parameters:,.0f} parameters, {written}")
        parts.line(
            console, "takes     ", f"({shape}) {details['inputs']['dtype']}, preprocessed as the model's data are"
        )
        off = f"off by at most {report.metrics['export.error']:.1e} of the largest output"
        parts.line(console, "checked   ", f"with {details['runtime']} on batches of {sizes}: {off}")
    parts.warnings(console, report, "note: ")
    parts.line(console, "exported  ", report.artefacts["exported"])
