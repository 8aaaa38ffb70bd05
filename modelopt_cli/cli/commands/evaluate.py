"""`modelopt evaluate`: metrics of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import (
    BatchSizes,
    Gate,
    Json,
    Junit,
    ModelFile,
    Quiet,
    Runtimes,
    Threads,
    TrustCode,
)
from modelopt_cli.cli.running import brief, check_junit, conditions, demand, expect, show, timing_options


def evaluate(
    model: ModelFile,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Split of the data that the model was trained with.")
    ] = "test",
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Labelled data to use instead: CSV, Parquet, NPZ, or a folder.")
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency", help="Time the model, too: in every runtime that is installed, or in those of --runtime."
        ),
    ] = False,
    runtime: Runtimes = None,
    threads: Threads = None,
    batch_size: BatchSizes = None,
    trust_code: TrustCode = False,
    gate: Gate = None,
    junit: Junit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute every metric of a model, on a split of its data or on new data.

    Examples:
      modelopt evaluate runs/digits-mlp/1/model.pt
      modelopt evaluate model.pt --data new.csv --gate "data.accuracy >= 0.9"
      modelopt evaluate model.pt --latency --gate "model.latency_ms <= 5"
    """
    from modelopt_cli.workflows.evaluate import evaluated
    from modelopt_cli.workflows.shared.latencies import TimingOptions

    check_junit(junit, gate or ())
    timing = timing_options(runtime, threads, batch_size)
    if timing is None and latency:
        timing = TimingOptions()
    judged_on = f"the {split} split" if data is None else str(data)
    with brief(f"judging {model} on {judged_on}", quiet=quiet or json):
        report = evaluated(model, split, data, trust_code=trust_code, gates=conditions(gate), timing=timing)
    expect(gate, {*report.metrics, *report.details.get("undefined", ())})
    show(report, as_json=json, quiet=quiet)
    demand(report, junit)
