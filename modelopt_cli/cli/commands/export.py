"""`modelopt export`: a model as a file that runs without its code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Force, Json, Quiet, TrustCode, Weights
from modelopt_cli.cli.running import show


def export(
    model: Weights,
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write: .pt2 (torch.export; can be trained further) or .onnx (needs the extra onnx).",
            show_default=False,
        ),
    ],
    experiment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its model: and data: sections say what bare weights are of."),
    ] = None,
    force: Force = False,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as a file that runs without its code, after comparing what it computes with the model."""
    from modelopt_cli.workflows.export import run

    report = run(model, out, experiment=experiment, force=force, trust_code=trust_code)
    show(report, as_json=json, quiet=quiet)
