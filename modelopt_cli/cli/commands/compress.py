"""`modelopt compress`: the stages of an experiment file, or one model made as small as its drop allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelopt_cli.cli.options import DryRun, Gate, Json, Junit, Key, Out, Quiet, Resume, Set, TrustCode
from modelopt_cli.cli.running import execute

if TYPE_CHECKING:
    from modelopt_cli.workflows.compression.target.demands import MaxDrop, Target
    from modelopt_cli.workflows.shared.context import Workflow


def compress(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A trained model, with --experiment (a model.pt of modelopt; or weights: .pt, .pth, .bin, "
            ".safetensors); or an experiment file (.yaml), whose stages are carried out.",
            show_default=False,
        ),
    ],
    experiment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Experiment file with the data (and for bare weights the model)."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            help="What it may cost at most (model.latency_ms, model.macs, model.file_bytes, ...), as a number or "
            "a percentage of the given model's.",
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar='"METRIC AMOUNT"',
            help='By how much a metric on validation may be worse, e.g. "validation.accuracy 0.01"; may be repeated.',
        ),
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="What is to be smallest; default: the target's metric, else model.macs."),
    ] = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Models that are tried at most; default: 20.")] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="No other model is tried after so many seconds.")
    ] = None,
    key: Key = None,
    set_: Set = None,
    out: Out = None,
    gate: Gate = None,
    junit: Junit = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a model smaller and faster: by the stages of an experiment file, or to a target from the command line alone.

    Examples:
      modelopt compress experiment.yaml
      modelopt compress model.pt --experiment e.yaml --target "model.macs <= 50%"
      modelopt compress model.pt --experiment e.yaml --max-drop "validation.f1 0.01"
    """
    from modelopt_cli.core.errors import UsageError

    if file.suffix in (".yaml", ".yml"):
        given: dict[str, object] = {"--experiment": experiment, "--target": target, "--max-drop": max_drop}
        given |= {"--minimize": minimize, "--trials": trials, "--timeout": timeout, "--key": key}
        extra = [name for name, value in given.items() if value]
        if extra:
            raise UsageError(
                f"{', '.join(extra)} {'is' if len(extra) == 1 else 'are'} for a trained model; {file} is an experiment "
                "file, which says itself what is done"
            )
        from modelopt_cli.workflows import compress as stages

        workflow: Workflow = stages
        judged: tuple[MaxDrop | Target, ...] = ()
    else:
        if experiment is None:
            raise UsageError(
                f"{file} is a model, and what it is judged by is missing; name an experiment file with its data, with "
                "--experiment FILE"
            )
        from modelopt_cli.workflows.compress_file import TRIALS, CompressFile
        from modelopt_cli.workflows.compression.target.demands import Demands

        demands = Demands.parse(target, max_drop or (), minimize)
        tries = TRIALS if trials is None else trials
        workflow = CompressFile(file, demands, trials=tries, timeout=timeout, key=key, trust_code=trust_code)
        judged = demands.all
    execute(
        workflow,
        experiment or file,
        set_,
        gate,
        out=out,
        resume=resume,
        dry_run=dry_run,
        trust_code=trust_code,
        junit=junit,
        as_json=json,
        quiet=quiet,
        judged=judged,
    )
