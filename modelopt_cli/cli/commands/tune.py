"""`modelopt tune`: search the experiment's space."""

from __future__ import annotations

from typing import Annotated

import typer

from modelopt_cli.cli.options import DryRun, File, Gate, Json, Junit, Out, Quiet, Resume, Set, TrustCode
from modelopt_cli.cli.running import execute


def tune(
    file: File,
    set_: Set = None,
    out: Out = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Trials in all; the same as --set tuning.trials=N.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Trials at a time; the same as --set tuning.workers=N.")
    ] = None,
    gate: Gate = None,
    junit: Junit = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the values named in tuning.space; save the tables, the best setting and its model.

    Examples:
      modelopt tune experiment.yaml --dry-run
      modelopt tune experiment.yaml --trials 50 --jobs 4
      modelopt tune experiment.yaml --resume --gate "test.accuracy >= 0.95"
    """
    from modelopt_cli.workflows import tune as workflow

    overrides = list(set_ or [])
    overrides += [f"tuning.trials={trials}"] if trials is not None else []
    overrides += [f"tuning.workers={jobs}"] if jobs is not None else []
    execute(
        workflow,
        file,
        overrides,
        gate,
        out=out,
        resume=resume,
        dry_run=dry_run,
        trust_code=trust_code,
        junit=junit,
        as_json=json,
        quiet=quiet,
    )
