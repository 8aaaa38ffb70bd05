"""`modelopt validate`: check experiment files without running them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelopt_cli.cli.options import Set

if TYPE_CHECKING:
    from modelopt_cli.pruning.settings import PruningSettings


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files.", show_default=False)],
    set_: Set = None,
) -> None:
    """Check experiment files; every mistake with file, line and remedy. Imports nothing heavy.

    Examples:
      modelopt validate experiment.yaml
      modelopt validate one.yaml two.yaml
      modelopt validate experiment.yaml --set training.epochs=5
    """
    from modelopt_cli.cli import output
    from modelopt_cli.core.errors import UsageError
    from modelopt_cli.experiment.experiment import Experiment

    wrong = 0
    for file in files:
        try:
            experiment = Experiment.load(file, set_ or [])
        except UsageError as error:
            from modelopt_cli.cli.render.console import error as show_error

            show_error(str(error))
            wrong += 1
        else:
            output.line(f"{file}: ok ({_about(experiment)})")
    if wrong:
        raise typer.Exit(2)


def _pruning(settings: PruningSettings) -> str:
    parts = [settings.structure.name(), settings.importance.name(), settings.schedule.name()]
    return f"prune: {', '.join(parts)}{', recovers' if settings.recovery is not None else ''}"


def _about(experiment: object) -> str:
    """The experiment in a few words."""
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.experiment.pipeline import stages_of

    assert isinstance(experiment, Experiment)
    if experiment.tuning is None or not experiment.tuning.space:
        if experiment.pipeline or experiment.quantization is not None:
            return f"compress: {', '.join(stages_of(experiment))}"
        if experiment.distillation is not None:
            return "distill"
        return "train" if experiment.pruning is None else _pruning(experiment.pruning)
    from modelopt_cli.core.readable import plural
    from modelopt_cli.experiment.search_space import search_space

    space, tuning = search_space(experiment), experiment.tuning
    what = "tune" if tuning.workflow == "train" else f"tune {tuning.workflow}"
    settings = "infinitely many settings" if space.size == float("inf") else plural(space.size, "setting")
    return f"{what}: {tuning.sampler.name()} over {plural(space.dim, 'parameter')}, {settings}"
