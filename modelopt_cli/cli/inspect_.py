"""`modelopt inspect`: what a file of weights holds, and what its model costs to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.running import Json, Weights, show


def inspect_(
    model: Weights,
    experiment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure too; the file's model: and data: sections say what bare weights are of."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Measure too, in turns with this model of the same inputs.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="MACs and latency too; takes seconds. For a model.pt of modelopt.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a model's tensors: shapes, dtypes, zeros, how values are spread, sizes; on request MACs and latency."""
    from modelopt_cli.workflows.inspect_file import run

    show(run(model, experiment=experiment, baseline=baseline, measure=measure), as_json=json, quiet=False)
