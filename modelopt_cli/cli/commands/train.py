"""`modelopt train`: train the file's model once."""

from __future__ import annotations

from modelopt_cli.cli.options import DryRun, File, Gate, Json, Junit, Out, Quiet, Resume, Set, TrustCode
from modelopt_cli.cli.running import execute


def train(
    file: File,
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
    """Train the file's model (or run its script) once; save the model, its metrics and its curve.

    Examples:
      modelopt train experiment.yaml
      modelopt train experiment.yaml --set training.epochs=5 --set seeds=3
      modelopt train experiment.yaml --gate "test.accuracy >= 0.95" --junit gate.xml
    """
    from modelopt_cli.workflows import train as workflow

    execute(
        workflow,
        file,
        set_,
        gate,
        out=out,
        resume=resume,
        dry_run=dry_run,
        trust_code=trust_code,
        junit=junit,
        as_json=json,
        quiet=quiet,
    )
