"""A search's trials that were written for another tool: how many, what is best there, and how to look at them."""

from __future__ import annotations

import shlex
from typing import cast

from rich.console import Console

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import size
from modelopt_cli.results.details import StorageDetails
from modelopt_cli.results.report import Report


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the warnings and the file."""
    details, file = cast(StorageDetails, report.details), report.artefacts["exported"]
    if not quiet:
        states = ", ".join(f"{count} {state}" for state, count in details["states"].items()) or "no trials"
        parts.line(console, "study     ", f"{details['study']}: {states}; {size(report.metrics['export.size_bytes'])}")
        parts.line(console, "objective ", ", ".join(details["objective"]))
        best = ", ".join(map(str, details["best_there"])) or "none"
        what = "trial" if len(details["objective"]) == 1 else "front: trials"
        parts.line(console, "best      ", f"{what} {best}")
        parts.line(console, "see it    ", f"optuna-dashboard {shlex.quote(f'sqlite:///{file}')}")
    parts.warnings(console, report, "note: ")
    parts.line(console, "exported  ", file)
