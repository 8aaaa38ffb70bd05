"""From an experiment to what a search calls: an objective whose runs train, cross-validate, prune or distill."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.references import redacted
from modelopt_cli.core.seeds import derive
from modelopt_cli.experiment.expected_metrics import CHANGES, COSTS, GAP
from modelopt_cli.tuning.objective import Objective, Run
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.runs.base import ModelRun, RestorableRun
from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.estimator import EstimatorRun
from modelopt_cli.workflows.runs.subset import SizedRun, fitting_batches
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.trials.trial import Params

# What a training imports on its way; torch's optimizers import torch._dynamo when the first one is made.
_NEEDED = {
    "sklearn": ("modelopt_cli.training.estimators", "sklearn.metrics"),
    "torch": ("modelopt_cli.training.trainer", "torch._dynamo", "sklearn.metrics"),
}


def open_run(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    step: int | None = None,
) -> ModelRun | CrossValidationRun:
    """The experiment's training as a run; `wanted` names the metrics that must be there (None: all).

    `step`: of tuning.fidelity, to train on that part of the train split; None: on all of it.
    """
    if experiment.evaluation.cv is not None:
        return _cross_validation(experiment, seed, wanted, state, step)
    prepared = data_cache.prepared_data(experiment, step)
    return open_single(fitting_batches(experiment, prepared, step), prepared, seed, wanted=wanted, state=state)


def open_single(
    experiment: Experiment, prepared: Prepared, seed: int, *, wanted: Sequence[str] | None = None, state: Any = None
) -> ModelRun:
    """One training on the given splits."""
    if experiment.require_model().framework == "sklearn":
        return EstimatorRun(experiment, prepared, seed=seed, wanted=wanted)
    return TorchRun(experiment, prepared, seed=seed, monitor=_monitored(wanted), state=state)


def trained_on_all(experiment: Experiment, seed: int, epochs: float | None) -> ModelRun:
    """A finished training on all samples but the test split's.

    No validation split is left to end it by, so it lasts for `epochs`: as long as where there was one (of folds, the
    mean). None: an estimator, which has no epochs.
    """
    if epochs is not None and experiment.training is not None:
        experiment = experiment.with_values({"training.epochs": max(1, round(epochs)), "training.patience": None})
        experiment = experiment.with_values({"training.keep": "last", "training.monitor": None})
    run = open_single(experiment, data_cache.development_data(experiment), seed)
    run.advance(run.total)
    return run


def open_pruning(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    dense: str | Path | None = None,
) -> PruneRun:
    """The experiment's pruning as a run; from the model at `dense` where given, in place of training one."""
    from modelopt_cli.models.files import checkpoints

    start: dict[str, Any] = {}
    if dense is not None:
        loaded = checkpoints.load(dense, experiment.consent)
        start = {"dense": loaded.model, "warnings": loaded.warnings}
    budget = experiment.require_pruning().budget
    timed = wanted is None or any(name.startswith("model.latency") for name in wanted)
    timed |= budget is not None and budget.of == "latency_ms"
    prepared = data_cache.prepared_data(experiment)
    return PruneRun(experiment, prepared, seed=seed, monitor=_monitored(wanted), state=state, timed=timed, **start)


def open_distillation(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    folder: Path,
) -> DistillRun:
    """The experiment's distillation as a run; `folder`: where whoever is trained besides the student is kept.

    The student alone is trained where something wanted needs it; None: where the section says so.
    """
    baseline = None if wanted is None else any(name.endswith(GAP) for name in wanted)
    costed = wanted is None or bool(COSTS & set(wanted))
    return DistillRun(
        experiment,
        seed=seed,
        baseline=baseline,
        monitor=_monitored(wanted),
        folder=folder,
        state=state,
        costed=costed,
    )


def _monitored(wanted: Sequence[str] | None) -> list[str]:
    """The validation metrics that are reported after each epoch: with one objective missing, no report is compared."""
    derived = (*CHANGES, GAP)
    return [name for name in wanted or () if name.startswith("validation.") and not name.endswith(derived)]


def _cross_validation(
    experiment: Experiment, seed: int, wanted: Sequence[str] | None, state: Any, step: int | None
) -> CrossValidationRun:
    count = len(data_cache.fold_indices(experiment))
    folds = [partial(data_cache.prepared_fold, experiment, place, step) for place in range(count)]

    def open_fold(prepared: Prepared) -> Run:
        return open_single(fitting_batches(experiment, prepared, step), prepared, seed, wanted=wanted)

    return CrossValidationRun(folds, open_fold, state)


class ModelObjective(Objective):
    """Runs the experiment's workflow with a trial's values. Keeps the best torch model of this process under `keep`.

    `dense`: for pruning, the trained model that every trial starts from; None: each trains its own. `folder`: for
    distillation, where teachers are kept.
    """

    def __init__(
        self,
        experiment: Experiment,
        goals: Sequence[Goal],
        wanted: Sequence[str],
        keep: str | None,
        dense: str | None = None,
        folder: str = "",
        samples: str | None = None,
    ) -> None:
        """`samples`: the digest of what every trial must be measured on (stages.measured_on)."""
        self._experiment, self._goals, self._wanted, self._keep = experiment, tuple(goals), tuple(wanted), keep
        self._dense, self._folder, self._workflow = dense, folder, experiment.require_tuning().workflow
        self._samples = samples
        self._best: list[float | None] = [None] * len(goals)

    def prepare(self) -> None:
        """Import what training needs: seconds that no trial's time limit should pay for."""
        for name in _NEEDED[self._experiment.require_model().framework]:
            import_module(name)

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        """A run of the experiment with these values."""
        experiment = self._experiment.with_values(params)
        if self._samples is not None and data_cache.measured_on(experiment) != self._samples:
            raise UsageError(
                "these values of the data section give other samples, targets or splits than other trials have, so "
                "results cannot be compared; leave out of tuning.space what changes them"
            )
        fidelity = experiment.require_tuning().fidelity
        if fidelity is None:
            return self._whole(experiment, seed, state)
        return SizedRun(
            fidelity.sizes,
            whole=partial(self._whole, experiment, seed, None),
            part=lambda step: open_run(experiment, seed, wanted=self._wanted, step=step),
            samples=partial(data_cache.training_samples, experiment),
            state=state,
        )

    def _whole(self, experiment: Experiment, seed: int, state: Any) -> Run:
        run: Run
        if self._workflow == "prune":
            run = open_pruning(experiment, seed, wanted=self._wanted, state=state, dense=self._dense)
        elif self._workflow == "distill":
            folder = Path(self._folder)
            run = open_distillation(experiment, seed, wanted=self._wanted, state=state, folder=folder)
        else:
            run = open_run(experiment, seed, wanted=self._wanted, state=state)
        if self._keep is None:
            return run
        if isinstance(run, RestorableRun):
            return _Kept(run, partial(self._consider, run, seed))
        return _Kept(run, lambda _: note_warnings(run.warnings, str(self._keep), seed))

    def _consider(self, run: RestorableRun, seed: int, metrics: Mapping[str, float]) -> None:
        """Save the model when some objective is the best yet in this process; the parent keeps the overall best."""
        better = False
        for place, goal in enumerate(self._goals):
            loss, best = goal.loss(metrics), self._best[place]
            if loss is not None and (best is None or loss < best):
                self._best[place], better = loss, True
        if better and self._keep is not None:
            from modelopt_cli.models.files import checkpoints

            checkpoints.save(kept_model(self._keep, seed), run.checkpoint(metrics), durable=False)


class _Kept(Run):
    """A run whose metrics are shown to `consider` once they stand."""

    def __init__(self, run: Run, consider: Callable[[Mapping[str, float]], None]) -> None:
        self._run, self._consider = run, consider
        self.step, self.total = run.step, run.total

    def advance(self, until: int) -> list[tuple[int, Mapping[str, float]]]:
        reports = self._run.advance(until)
        self.step, self.total = self._run.step, self._run.total
        return reports

    @property
    def known_total(self) -> int | None:
        return self._run.known_total

    def suspend(self) -> bool:
        return self._run.suspend()

    def metrics(self) -> Mapping[str, float]:
        metrics = self._run.metrics()
        self._consider(metrics)
        return metrics

    @property
    def warnings(self) -> Sequence[str]:
        return self._run.warnings

    def state(self) -> Any:
        return self._run.state()

    def close(self) -> None:
        self._run.close()


def kept_model(folder: str | Path, seed: int) -> Path:
    """Where the model of the trial with this seed is kept while the search runs."""
    return Path(folder, f"{seed}.pt")


def note_warnings(texts: Sequence[str], folder: str | Path, seed: int) -> None:
    """Keep what a trial told that no model of it is kept of, for the report of the search."""
    if texts:
        _told(folder, seed).write_text(json.dumps([redacted(text) for text in texts]))


def noted_warnings(folder: str | Path, seed: int) -> list[str]:
    """What `note_warnings` kept."""
    path = _told(folder, seed)
    return [str(text) for text in json.loads(path.read_text())] if path.exists() else []


def forget(folder: str | Path, seed: int) -> None:
    """Remove what is kept of the trial with this seed."""
    for path in (kept_model(folder, seed), _told(folder, seed)):
        path.unlink(missing_ok=True)


def _told(folder: str | Path, seed: int) -> Path:
    return Path(folder, f"{seed}.warnings.json")


def run_seed(experiment: Experiment, trial: int) -> int:
    """The seed of trial number `trial` of the experiment's search."""
    return derive(experiment.seed, "trial", trial)
