"""`modelopt distill`: a student learns from a teacher."""

from __future__ import annotations

from modelopt_cli.cli.running import DryRun, File, Gate, Json, Out, Quiet, Resume, Set, TrustCode, execute


def distill(
    file: File,
    set_: Set = None,
    out: Out = None,
    gate: Gate = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a student on what its teacher says; save it beside what teacher and student alone are worth."""
    from modelopt_cli.workflows import distill as workflow

    execute(
        workflow,
        file,
        overrides=set_ or [],
        out=out,
        gates=gate or [],
        resume=resume,
        dry_run=dry_run,
        as_json=json,
        quiet=quiet,
        trust_code=trust_code,
    )
