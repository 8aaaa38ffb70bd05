"""`modelopt show`: a run's result again, also while it runs; or one of its trials."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Json, Run
from modelopt_cli.cli.running import runs_root
from modelopt_cli.cli.running import show as show_report


def show(
    run: Run,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            metavar="N",
            help="Show that trial of a search: settings, metrics, why it ended, its curve, and the end of its log.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the result of a finished or running run again, or one of its trials.

    Examples:
      modelopt show digits-mlp
      modelopt show runs/digits-mlp/2 --json
      modelopt show digits-mlp --trial 7
    """
    from modelopt_cli.results.listing import find_run
    from modelopt_cli.workflows.show import run_report

    path = find_run(run, runs_root())
    if trial is None:
        show_report(run_report(path), as_json=json, quiet=False)
    else:
        _show_trial(path, trial, as_json=json)


def _show_trial(path: Path, number: int, *, as_json: bool) -> None:
    from modelopt_cli.cli import output
    from modelopt_cli.cli.render import trial
    from modelopt_cli.workflows.search.one_trial import trial_details

    details = trial_details(path, number)
    if as_json:
        output.json_document(json_module.dumps(details, indent=2))
    else:
        trial.show(details)
