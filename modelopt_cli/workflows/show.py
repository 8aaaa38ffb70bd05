"""A run's report again, whatever became of the run: finished, failed, stopped, killed or still going on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.results.run_directory import locked
from modelopt_cli.results.saved_run import has_report, read_run
from modelopt_cli.workflows.search.unfinished import unfinished_report

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report


def run_report(path: Path) -> Report:
    """The report of the run in the folder `path`, with the tables beside it; of a search that goes on, was killed or
    failed, the trials that its store holds now.

    Raises InputError for a run that has nothing to show yet, or whose files cannot be read.
    """
    report = read_run(path) if has_report(path) and not locked(path) else None
    if report is None or (report.status == "failed" and report.workflow == "tune"):
        return unfinished_report(path, report)
    return report
