"""`modelopt distill`: a student learns from a teacher."""

from __future__ import annotations

from modelopt_cli.cli.options import DryRun, File, Gate, Json, Junit, Out, Quiet, Resume, Set, TrustCode
from modelopt_cli.cli.running import execute


def distill(
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
    """Train a student on what its teacher says; save it beside what teacher and student alone are worth.

    Examples:
      modelopt distill experiment.yaml --dry-run
      modelopt distill experiment.yaml --set seeds=3
      modelopt distill experiment.yaml --gate "test.gap_closed >= 0.3"
    """
    from modelopt_cli.workflows import distill as workflow

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
