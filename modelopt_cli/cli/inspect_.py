"""`modelopt inspect`: what a file of weights holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.running import Json


def inspect_(
    model: Annotated[
        Path,
        typer.Argument(
            help="Weights: .pt, .pth, .bin, .safetensors, a folder of safetensors shards, or a model.pt of modelopt.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Show a model's tensors: shapes, dtypes, zeros, how the values are spread, and the file's size."""
    from modelopt_cli.cli import render
    from modelopt_cli.workflows.inspect_file import run

    report = run(model)
    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        render.inspected(report)
