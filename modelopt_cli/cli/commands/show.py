"""`modelopt show`: a run's result again, also while it runs."""

from __future__ import annotations

from modelopt_cli.cli.options import Json, Run
from modelopt_cli.cli.running import runs_root
from modelopt_cli.cli.running import show as show_report


def show(
    run: Run,
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
