"""`modelopt show`: a run's result again, also while it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from modelopt_cli.cli.running import Json, runs_root
from modelopt_cli.cli.running import show as show_report


def show(
    run: Annotated[
        str, typer.Argument(help="A run's folder, name/number, or a name (its newest run).", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Show the table of a finished or running run again."""
    from modelopt_cli.results.listing import find_run, read_report
    from modelopt_cli.results.run_directory import locked
    from modelopt_cli.workflows.search.unfinished import unfinished_report

    path = find_run(run, runs_root())
    report = None if locked(path) else read_report(path)
    if report is None or (report.status == "failed" and report.workflow == "tune"):
        report = unfinished_report(path, report)
    show_report(report, as_json=json, quiet=False)
