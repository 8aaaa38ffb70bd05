"""The Python face: the functions behind the command line, for notebooks and programs. Nothing is written unless asked.

report = tune(load("experiment.yaml"))          # or load({...}), the same as a mapping
report.best, report.metrics, report.model       # the model's checkpoint, in memory
report = train(load("experiment.yaml"), out="runs/mine")
report = pick("runs/mine", "validation.accuracy >= 0.97", minimize="model.parameters")  # of a search
shrink(module, inputs, {"amount": 0.5}).module  # units out of a module that a program holds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.pruning.units.shrink import Shrunk, shrink
from modelopt_cli.results.report import Report
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Trial
from modelopt_cli.workflows.compare import compare
from modelopt_cli.workflows.evaluate import evaluate, predict
from modelopt_cli.workflows.shared.context import Context, Workflow

__all__ = [
    "Experiment",
    "Report",
    "Shrunk",
    "Study",
    "Trial",
    "compare",
    "compress",
    "distill",
    "evaluate",
    "load",
    "pick",
    "predict",
    "prune",
    "shrink",
    "train",
    "tune",
]


def load(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, trust_code: bool = False
) -> Experiment:
    """The validated experiment in a YAML file or a mapping; `overrides` as on the command line: `["seed=1"]`.

    `trust_code` runs what code the model files that it names would run (`trust_code: true` beside each). Raises
    ExperimentError with file, line and remedy.
    """
    return Experiment.load(source, overrides, trust_code=trust_code)


def train(experiment: Experiment, out: str | Path | None = None, *, resume: bool = False) -> Report:
    """Train once; `report.model` holds the trained model. With `out`, that folder becomes the run directory."""
    from modelopt_cli.workflows import train as workflow

    return _run(workflow, experiment, out, resume)


def tune(experiment: Experiment, out: str | Path | None = None, *, resume: bool = False) -> Report:
    """Search; `report.best` holds the best setting, `report.model` its model. With `out`, a run directory is kept."""
    from modelopt_cli.workflows import tune as workflow

    return _run(workflow, experiment, out, resume)


def prune(experiment: Experiment, out: str | Path | None = None, *, resume: bool = False) -> Report:
    """Train or load, prune, recover; `report.model` holds the pruned model. With `out`, a run directory is kept."""
    from modelopt_cli.workflows import prune as workflow

    return _run(workflow, experiment, out, resume)


def distill(experiment: Experiment, out: str | Path | None = None, *, resume: bool = False) -> Report:
    """Train a student on what its teacher says; `report.model` holds it. With `out`, a run directory is kept."""
    from modelopt_cli.workflows import distill as workflow

    return _run(workflow, experiment, out, resume)


def compress(experiment: Experiment, out: str | Path | None = None, *, resume: bool = False) -> Report:
    """Train, distill, prune, quantize, as far as the file says; `report.model` holds what the last stage left.

    With `out`, a run directory is kept, with the stages in it.
    """
    from modelopt_cli.workflows import compress as workflow

    return _run(workflow, experiment, out, resume)


def pick(
    run: str | Path,
    where: str | Sequence[str] = (),
    *,
    minimize: str | Sequence[str] = (),
    maximize: str | Sequence[str] = (),
    trial: int | None = None,
    refine: bool = False,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    trust_code: bool = False,
) -> Report:
    """One model of the search in the folder `run`, judged on test: `report.model`, `report.best`, `report.metrics`.

    It is the trial with the lowest (highest) of the metrics named, of those that meet all conditions `where`, such as
    "validation.accuracy >= 0.97"; without a metric the search's objectives decide; `trial` names one itself. `refine`
    runs its setting again to the end, with as many epochs of recovery as of training, or as `overrides` say
    (["pruning.recovery.epochs=30"]). With `out`, that folder becomes a run directory. Raises UnmetError where no trial
    meets the conditions, which names the nearest one, UsageError for what cannot be picked from.
    """
    from modelopt_cli.workflows import pick as workflow
    from modelopt_cli.workflows.search.choosing import Wish

    def several(names: str | Sequence[str]) -> Sequence[str]:
        return (names,) if isinstance(names, str) else names

    wish = Wish.parse(several(where), several(minimize), several(maximize))
    asked = workflow.Asked(wish, trial, refine, tuple(overrides), trust_code)
    if out is None:
        return workflow.run(Path(run), asked, Context())
    from modelopt_cli.results.run_directory import RunDirectory

    searched = workflow.Searched.read(Path(run), asked)
    searched.chosen(asked)  # raises before anything is made
    with RunDirectory.create_at(Path(out), workflow="pick") as directory:
        directory.workflow = "pick"
        return workflow.run(Path(run), asked, Context(directory=directory), among=searched)


def _run(workflow: Workflow, experiment: Experiment, out: str | Path | None, resume: bool) -> Report:
    if out is None:
        return workflow.run(experiment, Context())
    from modelopt_cli.results.run_directory import RunDirectory

    name = workflow.__name__.rpartition(".")[2]
    with RunDirectory.create_at(Path(out), resume=resume, workflow=name) as directory:
        directory.workflow = name
        return workflow.run(experiment, Context(directory=directory, resume=resume))
