"""What guides the recovery of a pruned model: the model as it was before pruning, or another finished teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.workflows.distill_guides import teacher_guide
from modelopt_cli.workflows.teachers import given

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.guidance import Guide


def recovery_guide(
    experiment: Experiment, prepared: Prepared, dense: Callable[[], nn.Module | None], seed: int
) -> Guide | None:
    """None where the recovery learns from labels alone. `dense`: the model as it was before pruning, a copy."""
    settings = experiment.require_pruning().guidance
    if settings is None:
        return None
    if settings.teacher is not None:
        teacher = given(settings.teacher, "teacher", seed, prepared).module(prepared)
    else:
        found = dense()
        assert found is not None
        teacher = found
    return teacher_guide(settings, [teacher], prepared)
