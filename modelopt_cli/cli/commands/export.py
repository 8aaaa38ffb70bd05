"""`modelopt export`: a model as a file that runs without its code, or a search's trials as a study of Optuna's."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Force, Json, Quiet, TrustCode
from modelopt_cli.cli.running import brief, runs_root, show


class Format(StrEnum):
    """Formats that no suffix says."""

    OPTUNA = "optuna"


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Weights: .pt, .pth, .bin, .safetensors, a folder of safetensors shards, or a model.pt of modelopt; "
            "with --format optuna a run: its folder, name/number, or a name (its newest run).",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="File to write: .pt2 (torch.export; can be trained further) or .onnx (needs the extra onnx). With "
            "--format optuna a SQLite file; default: NAME-NUMBER.db.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="optuna",
            help="The trials of a search as a study that optuna-dashboard opens (needs the extra optuna).",
            show_default=False,
        ),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its model: and data: sections say what bare weights are of."),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="The network alone: it takes inputs that are preprocessed already.")
    ] = False,
    force: Force = False,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as a file that runs without its code, after comparing what it computes with the model.

    It takes raw inputs (pixels from 0 to 255, a table's columns): preprocessing is in it, unless --bare.

    With --format optuna: write the trials of a search, also of one that is running, for Optuna and its dashboard.

    Examples:
      modelopt export runs/digits-mlp/1/model.pt model.onnx
      modelopt export weights.pt model.pt2 --experiment experiment.yaml
      modelopt export digits-mlp trials.db --format optuna
    """
    from modelopt_cli.core.errors import UsageError

    if format_ is Format.OPTUNA:
        from modelopt_cli.results.listing import find_run
        from modelopt_cli.workflows.export_trials import run as export_trials

        if experiment is not None or trust_code or bare:
            raise UsageError(
                "--experiment, --bare and --trust-code are about models; leave them out with --format optuna"
            )
        show(export_trials(find_run(model, runs_root()), out, force=force), as_json=json, quiet=quiet)
        return
    if out is None:
        raise UsageError("nothing says which file to write; name one: modelopt export MODEL model.onnx")
    from modelopt_cli.workflows.export import run

    with brief(f"exporting {model} and comparing", quiet=quiet or json):
        report = run(Path(model), out, experiment=experiment, force=force, trust_code=trust_code, bare=bare)
    show(report, as_json=json, quiet=quiet)
