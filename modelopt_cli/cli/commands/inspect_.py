"""`modelopt inspect`: what a file of weights holds, and what its model costs to run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import (
    BatchSizes,
    Json,
    Key,
    Runtimes,
    Threads,
    TrustCode,
    TrustPickle,
    Weights,
)
from modelopt_cli.cli.running import brief, show, timing_options


def inspect_(
    model: Weights,
    experiment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measure too; its model: and data: sections say what bare weights are of."),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Measure too, in turns with this model of the same inputs.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="MACs and latency too; takes seconds. For a model.pt of modelopt.")
    ] = False,
    runtime: Runtimes = None,
    threads: Threads = None,
    batch_size: BatchSizes = None,
    groups: Annotated[
        bool,
        typer.Option(
            "--groups", help="The units that stand or fall together instead, what one costs, what is frozen, and why."
        ),
    ] = False,
    key: Key = None,
    trust_pickle: TrustPickle = False,
    trust_code: TrustCode = False,
    json: Json = False,
) -> None:
    """Show a model's tensors: shapes, dtypes, zeros, how values are spread, sizes; on request MACs, latency, units.

    Examples:
      modelopt inspect weights.safetensors
      modelopt inspect runs/digits-mlp/1/model.pt --runtime onnxruntime
      modelopt inspect runs/digits-neurons/1/model.pt --groups
    """
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.workflows.inspect.weights import run

    timing = timing_options(runtime, threads, batch_size)
    if groups:
        from modelopt_cli.workflows.inspect import units

        if measure or timing is not None or baseline is not None or trust_pickle:
            raise UsageError(
                "--groups measures nothing and reads no whole module; leave out --measure, --runtime, --threads, "
                "--batch-size, --baseline and --trust-pickle, or --groups"
            )
        with brief(f"looking for groups of units in {model}", quiet=json):
            report = units.run(model, experiment=experiment, key=key, trust_code=trust_code)
        show(report, as_json=json, quiet=False)
        return
    measuring = measure or baseline is not None or experiment is not None or timing is not None
    with brief(f"reading {model}" + (" and measuring" if measuring else ""), quiet=json):
        report = run(
            model,
            experiment=experiment,
            baseline=baseline,
            measure=measure,
            timing=timing,
            key=key,
            trust=trust_pickle,
            trust_code=trust_code,
        )
    show(report, as_json=json, quiet=False)
