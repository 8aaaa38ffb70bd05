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
    from modelopt_cli.results.listing import find_run
    from modelopt_cli.workflows.show import run_report

    show_report(run_report(find_run(run, runs_root())), as_json=json, quiet=False)
