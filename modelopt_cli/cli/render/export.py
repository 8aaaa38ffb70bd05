"""What was exported: the file, what it takes, and how near it comes to the model."""

from __future__ import annotations

import math
from typing import cast

from rich.console import Console

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import plural, size
from modelopt_cli.results.details import ExportDetails, Inputs
from modelopt_cli.results.report import Report


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the warnings and the file."""
    if not quiet:
        details, checks = cast(ExportDetails, report.details), report.records("checks")
        batch = "B" if details["any_batch_size"] else str(checks[0]["batch size"])
        shape = ", ".join([batch, *map(str, details["inputs"]["shape"])])
        sizes = " and ".join(str(row["batch size"]) for row in checks if row["relative error"] != math.inf)
        parameters, written = report.metrics["model.parameters"], size(report.metrics["export.size_bytes"])
        parts.entry(console, "model", f"{report.name}, {plural(parameters, 'parameter')}, {written}")
        inputs = f"({shape}) {details['inputs']['dtype']}"
        raw = "preprocessed as the model's data are" if details.get("bare", True) else _raw(details["inputs"])
        parts.entry(console, "takes", f"{inputs}, {raw}")
        if details.get("outputs"):
            parts.entry(console, "gives", _given(details))
        off = f"off by at most {report.metrics['export.error']:.1e} of the largest output"
        parts.entry(console, "checked", f"with {details['runtime']} on batches of {sizes}: {off}")
    parts.warnings(console, report, "note: ")
    parts.entry(console, "exported", parts.nearby(report.artefacts["exported"]))


def _raw(inputs: Inputs) -> str:
    """Raw inputs in a few words."""
    kind = inputs.get("kind")
    if kind == "images":
        return "pixels from 0 to 255"
    if kind == "tokens":
        return "tokens"
    if kind != "numbers" or not inputs.get("columns"):
        return "as the data have them"
    coded = len(inputs.get("categories", {}))
    positions = f", {coded} of them as positions of categories" if coded else ""
    return f"the table's columns as numbers (nan: missing){positions}"


def _given(details: ExportDetails) -> str:
    """Names of the outputs, and labels."""
    names = " and ".join(output["name"] for output in details["outputs"])
    labels = details["label_names"]
    return names if details["task"] == "regression" else f"{names} of {len(labels) or 'all'} classes"
