"""Why a run failed, before all else there is of it; of a search also the failures of its trials, by reason."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.console import BAD
from modelopt_cli.core.readable import plural
from modelopt_cli.core.text import message_lines, one_line
from modelopt_cli.results.report import Report

_MOST_REASONS = 8
_MOST_NUMBERS = 6  # of trials that failed alike


def render(console: Console, report: Report) -> None:
    """Print the reason, and the trials' reasons with the number of times each occurred."""
    parts.line(console, "failed ", message_lines(report.reason), BAD)
    rows = report.records("trials")
    by_reason: dict[str, list[int]] = {}
    for row in rows:
        if row["state"] == "failed":
            by_reason.setdefault(str(row["reason"]), []).append(row["trial"])
    if not by_reason:
        return
    ended = sum(row["state"] in ("completed", "stopped", "failed") for row in rows)
    count = sum(map(len, by_reason.values()))
    console.print(Text(f"{count} of {plural(ended, 'trial')} failed", style="bold"))
    often = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    for reason, numbers in often[:_MOST_REASONS]:
        which = Text(f"  {plural(len(numbers), 'time')} ({_listed(numbers)}): ", style=BAD)
        console.print(Text.assemble(which, one_line(reason)), soft_wrap=True)
    if len(often) > _MOST_REASONS:
        console.print(Text(f"  and {len(often) - _MOST_REASONS} other reasons, see the table of trials", style="dim"))
    if "logs" in report.artefacts:
        run, first = report.artefacts.get("directory", report.name), often[0][1][0]
        parts.line(console, "a log ", f"modelopt show {run} --trial {first}")


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MOST_NUMBERS]))
    return f"trial{'s' * (len(numbers) > 1)} {shown}{', ...' * (len(numbers) > _MOST_NUMBERS)}"
