"""`modelopt runs`: the table of runs."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from modelopt_cli.cli.options import Json
from modelopt_cli.cli.running import runs_root


def runs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only runs of this name.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List the runs under runs/ (or $MODELOPT_RUNS).

    Examples:
      modelopt runs
      modelopt runs digits-mlp
      modelopt runs --json
    """
    from modelopt_cli.cli import output
    from modelopt_cli.cli.render import lists
    from modelopt_cli.results.listing import list_runs

    chosen = [run for run in list_runs(runs_root()) if name is None or run.name == name]
    if json:
        output.json_document(json_module.dumps([run.as_dict() for run in chosen], indent=2))
    else:
        lists.runs(chosen, runs_root())
