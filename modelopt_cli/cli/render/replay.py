"""What a replay of a search's log came to: how many answers came out again, and the first that did not."""

from __future__ import annotations

import json
from typing import cast

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.console import BAD, GOOD
from modelopt_cli.core.readable import duration, plural
from modelopt_cli.results.details import Difference, ReplayDetails
from modelopt_cli.results.report import Report


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the verdict."""
    details = cast(ReplayDetails, report.details)
    if not quiet:
        title = f"{report.name}: {plural(details['events'], 'event')} replayed in {duration(report.seconds)}"
        console.print(Text(title, style="bold"), soft_wrap=True)
        for asked, name in (
            (details["suggestions"], "suggestions of the sampler"),
            (details["decisions"], "decisions of the scheduler"),
            (details["endings"], "reasons of trials ended early"),
        ):
            if asked["asked"]:
                console.print(f"  {asked['agreed']} of {asked['asked']} {name} agree")
    if details["first"] is None:
        console.print(Text("every answer comes out as the log holds it", style=GOOD))
    else:
        _first(console, details["first"])
    parts.warnings(console, report, "note: ", "dim")


def _first(console: Console, first: Difference) -> None:
    title = f"first difference: event {first['event']}, {first['what']}"
    console.print(Text(title, style=BAD), soft_wrap=True)
    for label, value in (("in the log", first["logged"]), ("replayed", first["now"])):
        parts.line(console, f"  {label:<11}", json.dumps(value))
