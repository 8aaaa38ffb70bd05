"""From an experiment to what a search calls: an objective whose runs train, prune, distill, or do all of it.

A kind of run is imported when it is asked for: whoever trains loads nothing of pruning or distillation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.references import redacted
from modelopt_cli.experiment.expected_metrics import GAP, is_cost, is_latency
from modelopt_cli.tuning.objective import Folders, Objective, Run
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator
from modelopt_cli.tuning.trials.running_front import RunningFront
from modelopt_cli.workflows.runs.base import ModelRun, RestorableRun
from modelopt_cli.workflows.runs.early_costs import EarlyCosts
from modelopt_cli.workflows.runs.estimator import EstimatorRun
from modelopt_cli.workflows.runs.opening import monitored, open_run
from modelopt_cli.workflows.runs.subset import SizedRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.trials.trial import Params
    from modelopt_cli.workflows.compression.run import CompressRun
    from modelopt_cli.workflows.distillation.run import DistillRun
    from modelopt_cli.workflows.pruning.run import PruneRun

# What a training imports on its way; torch's optimizers import torch._dynamo when the first one is made.
_NEEDED = {
    "sklearn": ("modelopt_cli.training.estimators", "sklearn.metrics"),
    "torch": ("modelopt_cli.training.trainer", "torch._dynamo", "sklearn.metrics"),
}


def open_pruning(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    dense: str | Path | None = None,
    cuts: Path | None = None,
) -> PruneRun:
    """The experiment's pruning as a run; from the model at `dense` where given, in place of training one.

    `cuts`: a folder where prunings of the same model share what their allocations measured.
    """
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.pruning.run import PruneRun

    start: dict[str, Any] = {}
    if dense is not None:
        loaded = checkpoints.load(dense, experiment.consent)
        start = {"dense": loaded.model, "warnings": loaded.warnings}
    budget = experiment.require_pruning().budget
    timed = wanted is None or any(map(is_latency, wanted))
    timed |= budget is not None and budget.of == "latency_ms"
    prepared = data_cache.prepared_data(experiment)
    start |= {"monitor": monitored(wanted), "timed": timed, "cuts": cuts}
    return PruneRun(experiment, prepared, seed=seed, state=state, **start)


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
    from modelopt_cli.workflows.distillation.run import DistillRun

    baseline = None if wanted is None else any(name.endswith(GAP) for name in wanted)
    costed = wanted is None or any(map(is_cost, wanted))
    timed = wanted is None or any(map(is_latency, wanted))
    return DistillRun(
        experiment,
        seed=seed,
        baseline=baseline,
        monitor=monitored(wanted),
        folder=folder,
        state=state,
        costed=costed,
        timed=timed,
    )


def open_compression(
    experiment: Experiment,
    seed: int,
    *,
    wanted: Sequence[str] | None = None,
    state: Any = None,
    folder: Path,
    left_out: int | None = 0,
) -> CompressRun:
    """The experiment's compression as a trial's run. `folder`: where stages lie that trials share.

    `left_out`: of so many first stages no steps are reported. `seed` tells trials apart; their stages have the
    experiment's.
    """
    from modelopt_cli.workflows.compression.run import CompressRun
    from modelopt_cli.workflows.compression.stage_cache import StageCache

    cache = StageCache(folder, folder / f"trial-{seed}")
    return CompressRun(experiment, cache, trial=True, left_out=left_out, wanted=wanted, state=state)


def on_one_gpu(experiment: Experiment) -> bool:
    """Whether a run of it computes on a GPU where there is one, and on no more than that."""
    if experiment.require_model().framework != "torch":
        return False
    return experiment.training is None or experiment.training.distributed is None


class ModelObjective(Objective):
    """Runs the experiment's workflow with a trial's values. Keeps the best models of this process under `keep`.

    With one objective that is the best torch model so far (an estimator is fitted again in the end); with several,
    every model that none of this process beats, of scikit-learn too.

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
        shared_stages: int = 0,
    ) -> None:
        """`samples`: the digest of what every trial must be measured on (data_cache.measured_on).

        `shared_stages`: of a compression, how many of the first stages are the same in all trials.
        """
        self._experiment, self._wanted, self._keep = experiment, tuple(wanted), keep
        self._evaluator = ObjectiveEvaluator(tuple(goals), experiment.require_tuning().conditions)
        self._front = RunningFront()  # of the trials that this process has computed, by their seeds
        self._dense, self._folder, self._workflow = dense, folder, experiment.require_tuning().workflow
        self._samples, self._shared_stages = samples, shared_stages
        self.device = experiment.device if on_one_gpu(experiment) else "cpu"

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

    def whole(self, params: Params, seed: int, state: Any = None) -> Run:
        """The same, on the whole train split also where trials begin with parts of it."""
        return self._whole(self._experiment.with_values(params), seed, state)

    def _whole(self, experiment: Experiment, seed: int, state: Any) -> Run:
        """As `_opened`; where trials are compared before their end, its reports tell costs that are searched by."""
        run, tuning = self._opened(experiment, seed, state), experiment.require_tuning()
        compared = tuning.named_stopper is not None or tuning.named_scheduler is not None
        if compared and isinstance(run, ModelRun) and experiment.require_model().framework == "torch":
            run.early_costs = EarlyCosts(experiment, data_cache.prepared_data(experiment), self._wanted)
        return run

    def _opened(self, experiment: Experiment, seed: int, state: Any) -> Run:
        if self._workflow == "prune":
            cuts = Path(self._folder) if self._folder else None
            return open_pruning(experiment, seed, wanted=self._wanted, state=state, dense=self._dense, cuts=cuts)
        if self._workflow == "distill":
            folder = Path(self._folder)
            return open_distillation(experiment, seed, wanted=self._wanted, state=state, folder=folder)
        if self._workflow == "compress":
            folder, left_out = Path(self._folder), self._shared_stages
            return open_compression(
                experiment, seed, wanted=self._wanted, state=state, folder=folder, left_out=left_out
            )
        return open_run(experiment, seed, wanted=self._wanted, state=state)

    def folders(self) -> Folders:
        """The experiment's folder and what was made for all trials; the models that trials keep, by their seeds."""
        made = (Path(self._folder),) if self._folder else ()
        kept = (f"{_literal(self._keep)}/{{seed}}.*",) if self._keep is not None else ()
        return Folders((*self._experiment.files, *made), kept)

    def ended(self, run: Run, seed: int, metrics: Mapping[str, float]) -> None:
        """Keep the model where none of this process is better; else what the run told.

        The process of the search forgets those that others beat (search/kept_models.py).
        """
        trained = run.trained if isinstance(run, SizedRun) else run
        if self._keep is None or trained is None:
            return
        if not self._can_keep(trained):
            note_warnings(trained.warnings, self._keep, seed)
        elif isinstance(trained, RestorableRun) and trained.keepable and self._on_front(seed, metrics):
            from modelopt_cli.models.files import checkpoints

            checkpoints.save(kept_model(self._keep, seed), trained.checkpoint(metrics), durable=False)
            trained.kept_files(Path(self._keep), str(seed))
        if isinstance(trained, ModelRun):
            trained.discard()

    def _can_keep(self, trained: Run) -> bool:
        """Whether the model need not be made again in the end. Writing an estimator may take longer than fitting it,
        so that of one objective the best is fitted again."""
        several = len(self._evaluator.goals) > 1
        return isinstance(trained, RestorableRun) and (several or not isinstance(trained, EstimatorRun))

    def _on_front(self, seed: int, metrics: Mapping[str, float]) -> bool:
        losses = self._evaluator.losses(metrics)
        if losses is not None:
            self._front.add(seed, tuple(losses), self._evaluator.violation(metrics))
        return seed in self._front


def _literal(folder: str) -> str:
    """A folder within a pattern of Folders."""
    return str(Path(folder).absolute()).replace("{", "{{").replace("}", "}}")


def kept_model(folder: str | Path, seed: int) -> Path:
    """Where the model of the trial with this seed is kept while the search runs."""
    return Path(folder, f"{seed}.pt")


def note_warnings(texts: Sequence[str], folder: str | Path, seed: int) -> None:
    """Keep what a trial told that no model of it is kept of, for the report of the search."""
    if texts:
        _warnings_file(folder, seed).write_text(json.dumps([redacted(text) for text in texts]), encoding="utf-8")


def noted_warnings(folder: str | Path, seed: int) -> list[str]:
    """What `note_warnings` kept."""
    path = _warnings_file(folder, seed)
    return [str(text) for text in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def files_kept(folder: str | Path, seed: int) -> dict[str, Path]:
    """The kept model of the trial with this seed and what the run left beside it: ending (".pt") -> file."""
    own = Path(folder).glob(f"{seed}.*")
    return {path.name.removeprefix(str(seed)): path for path in sorted(own) if path != _warnings_file(folder, seed)}


def forget(folder: str | Path, seed: int) -> None:
    """Remove what is kept of the trial with this seed."""
    for path in (*files_kept(folder, seed).values(), _warnings_file(folder, seed)):
        path.unlink(missing_ok=True)


def _warnings_file(folder: str | Path, seed: int) -> Path:
    return Path(folder, f"{seed}.warnings.json")
