"""What a replay found: how many answers came out again, and the first that did not."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import duration
from modelopt_cli.results.report import Report

_NAMES = {
    "suggestions": "suggestions of the sampler",
    "decisions": "decisions of the scheduler",
    "endings": "reasons of trials ended early",
}


def render_replayed(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the verdict."""
    found = report.details
    if not quiet:
        title = f"{report.name}: {found['events']} events replayed in {duration(report.seconds)}"
        console.print(Text(title, style="bold"), soft_wrap=True)
        for kind, name in _NAMES.items():
            if found[kind]["asked"]:
                console.print(f"  {found[kind]['agreed']} of {found[kind]['asked']} {name} agree")
    if found["agrees"]:
        console.print(Text("every answer comes out as the log holds it", style="green"))
    else:
        _first(console, found["first"])
    for warning in report.warnings:
        console.print(Text.assemble(("note: ", "dim"), warning), soft_wrap=True)


def _first(console: Console, first: dict[str, Any]) -> None:
    head = f"first difference: event {first['event']}, {first['what']}"
    console.print(Text(head, style="bold red"), soft_wrap=True)
    for label, value in (("in the log", first["logged"]), ("replayed", first["now"])):
        console.print(Text.assemble((f"  {label:<11}", "dim"), json.dumps(value)), soft_wrap=True)
