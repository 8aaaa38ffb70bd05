"""What can be checked of a compression before any stage begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.experiment.checks.pipeline import pipeline_findings
from modelopt_cli.experiment.pipeline import stages_of
from modelopt_cli.workflows.shared.preflight import preflight

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def check_stages(experiment: Experiment) -> None:
    """Raise UsageError (or InputError, RefusedError) for the first thing that would fail in some stage."""
    experiment.require("data", "model")
    experiment.refuse(pipeline_findings(experiment))
    stages = stages_of(experiment)
    preflight(experiment, prunes=not {"train", "distill"} & {*stages})
    if "quantize" in stages and experiment.quantization is not None:
        experiment.quantization.method.check()
    if "prune" in stages and experiment.pruning is not None:
        from modelopt_cli.workflows.pruning.recovery_teacher import check_recovery

        check_recovery(experiment)
    if "distill" in stages:
        from modelopt_cli.workflows.distillation.checks import check_distillation

        check_distillation(experiment)
    if "quantize" in stages:
        from modelopt_cli.workflows.quantization.checks import check_quantization

        check_quantization(experiment)
