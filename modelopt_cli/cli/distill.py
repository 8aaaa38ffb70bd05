"""`modelopt distill`: a student learns from a teacher."""

from __future__ import annotations

from modelopt_cli.cli.running import DryRun, File, Gate, Json, Out, Quiet, Resume, Set, execute, show


def distill(
    file: File,
    set_: Set = None,
    out: Out = None,
    gate: Gate = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a student on what its teacher says; save it beside what teacher and student alone are worth."""
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows import distill as workflow
    from modelopt_cli.workflows.context import Context

    if dry_run:
        show(workflow.dry_run(Experiment.load(file, set_ or []), Context()), as_json=json, quiet=quiet)
        return
    execute(
        workflow.run, file, overrides=set_ or [], out=out, gates=gate or [], resume=resume, as_json=json, quiet=quiet
    )
