"""The pick workflow: one point of a search's front is taken, trained out where that is asked, and judged on test.

It is chosen by what its trial measured on the validation split. Its kept model is judged as it is; or (`refine`) the
trial's setting is run again to its end, with as many epochs of recovery as of training, from the stages that the search
has kept. What comes of it lies in a run directory of its own; the search is only read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.readable import plural
from modelopt_cli.experiment.expected_metrics import expect_metrics, is_cost
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.results.details import PickDetails
from modelopt_cli.results.files import link_or_copy
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.results.run_directory import locked
from modelopt_cli.results.saved_run import read_table
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from modelopt_cli.workflows.factory import ModelObjective, kept_model
from modelopt_cli.workflows.runs.base import ModelRun
from modelopt_cli.workflows.search import model_cache
from modelopt_cli.workflows.search.best_model import command_of, finalize_best
from modelopt_cli.workflows.search.choosing import Chosen, Wish, choose
from modelopt_cli.workflows.search.kept_models import kept_numbers
from modelopt_cli.workflows.shared import data_cache, gates, run_files
from modelopt_cli.workflows.shared.context import Context, StageBegun
from modelopt_cli.workflows.shared.counting import counting
from modelopt_cli.workflows.shared.metric_checks import check_trials
from modelopt_cli.workflows.shared.model_workflow import advance
from modelopt_cli.workflows.shared.reporting import DATA, Outcome, Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Trial
    from modelopt_cli.workflows.search.best_model import BestModel

_RECOVERY = "pruning.recovery"
_AGAIN = "_again"
"""What a column of the front ends with that holds a metric as it was at the end of the search."""
_FIXED = ("tuning", "data", "seed", "evaluation")
"""Sections that say what trials were measured on: with other values, figures cannot be compared."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a search. `trial`: this one, whatever `wish` says; None: what `wish` leads to.

    `refine`: train it out; `overrides` as on the command line (`["training.epochs=30"]`), for that alone.
    """

    wish: Wish = field(default_factory=Wish)
    trial: int | None = None
    refine: bool = False
    overrides: tuple[str, ...] = ()
    trust_code: bool = False

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        if self.trial is not None and (self.wish.where or self.wish.goals):
            raise UsageError(
                f"--trial {self.trial} names the trial itself; leave out --where, --minimize and --maximize"
            )
        if self.overrides and not self.refine:
            raise UsageError(
                f"--set {self.overrides[0]} changes how the model is trained out, and a kept model is judged as it "
                "is; add --refine"
            )


@dataclass(frozen=True)
class Searched:
    """A search as it lies in its run directory."""

    path: Path
    experiment: Experiment
    space: Space
    trials: Sequence[Trial]
    models: Mapping[int, Path]  # trial -> its kept model

    @classmethod
    def read(cls, path: Path, asked: Asked) -> Searched:
        """Raises InputError where there is no search, UsageError for one that runs, or of scripts, or for overrides
        that would make figures incomparable."""
        store, file = path / "study.sqlite", path / "experiment.yaml"
        if not store.exists() or not file.exists():
            raise InputError(f"{path} holds no study.sqlite, so it is no search; name a run of modelopt tune")
        if locked(path):
            raise UsageError(f"{path} is being searched now; wait for its end, or stop it (it keeps its front)")
        trials, _ = Study.read(store)
        experiment = Experiment.load(file, list(asked.overrides), trust_code=asked.trust_code)
        tuning = experiment.require_tuning()
        if tuning.workflow == "command":
            raise UsageError(
                f"{path} searched a script, whose models modelopt does not know; best.yaml runs the best setting, and "
                "`modelopt show RUN --trial N` names what a trial left"
            )
        space = search_space(experiment)
        for text in asked.overrides:
            _check_override(text.partition("=")[0].strip(), space)
        return cls(path, experiment, space, _measured_again(path, trials), kept_numbers(path, trials))

    @property
    def workflow(self) -> str:
        """What its trials ran."""
        return command_of(self.experiment.require_tuning())

    def chosen(self, asked: Asked) -> Chosen:
        """The trial that is asked for. Raises UsageError or UnmetError where there is none."""
        ended = [trial for trial in self.trials if trial.losses is not None and trial.state.finished]
        if asked.trial is not None:
            return self._named(asked.trial, ended, asked.refine)
        candidates = ended if asked.refine else [trial for trial in ended if trial.number in self.models]
        if not candidates:
            raise UsageError(self._no_models(bool(ended)))
        wish = asked.wish if asked.wish.goals else replace(asked.wish, goals=self.goals)
        return choose(candidates, wish)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What the search was about."""
        return self.experiment.require_tuning().goals

    def _named(self, number: int, ended: Sequence[Trial], refine: bool) -> Chosen:
        trial = next((trial for trial in ended if trial.number == number), None)
        if trial is None:
            there = f"it has {plural(len(self.trials), 'trial')}, from 0 on" if self.trials else "it has none"
            state = f"trial {number} is {self.trials[number].state}" if 0 <= number < len(self.trials) else there
            raise UsageError(f"--trial {number}: {self.path} has no such trial with a result; {state}")
        if number not in self.models and not refine:
            kept = ", ".join(map(str, sorted(self.models))) or "none"
            raise UsageError(
                f"--trial {number}: its model was not kept (those of the front are; here: {kept}); train it again by "
                "--refine"
            )
        return Chosen(trial, 1, len(ended if refine else self.models))

    def _no_models(self, ended: bool) -> str:
        if not ended:
            return f"no trial of {self.path} ended with a result; search on with --resume"
        why = "cross-validation leaves none" if self.experiment.evaluation.cv is not None else "none is there"
        return f"{self.path} has no kept models to pick from ({why}); train one again by --refine"


def _measured_again(path: Path, trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those of the front with the latencies that were measured once more when nothing else ran."""
    file = path / "front.json"
    rows = read_table(file).records() if file.is_file() else []
    again = {
        row["trial"]: {
            name.removesuffix(_AGAIN): float(value)
            for name, value in row.items()
            if name.endswith(_AGAIN) and isinstance(value, int | float)
        }
        for row in rows
    }
    return [replace(trial, metrics={**trial.metrics, **again.get(trial.number, {})}) for trial in trials]


def _check_override(path: str, space: Space) -> None:
    if any(is_under(path, head) for head in _FIXED):
        raise UsageError(
            f"--set {path}: the trials were measured under what the search's file says there; leave it out"
        )
    for searched in space.paths:
        if is_under(path, searched) or (is_under(searched, path) and path != _RECOVERY):
            if searched == f"{_RECOVERY}.epochs":
                continue
            raise UsageError(f"--set {path}: {searched} was searched, and is the trial's own; leave it out")


@one_run()
def run(path: Path, asked: Asked, context: Context, *, among: Searched | None = None) -> Report:
    """Take one trial of the search in `path` and judge its model on the test split; write it where `context` says.

    `among`: the search, where it was read before. Raises UsageError (or InputError) for what cannot be picked from or
    known, UnmetError (exit 3) where no trial meets the conditions.
    """
    asked.check()
    searched = among or Searched.read(path, asked)
    check_trials(searched.experiment, context, searched.space)
    chosen = searched.chosen(asked)
    pick = _Pick(searched, asked, chosen, Reporting(searched.experiment, context), context)
    return pick.refined() if asked.refine else pick.as_kept()


@dataclass(frozen=True)
class _Pick:
    """One pick at work."""

    searched: Searched
    asked: Asked
    chosen: Chosen
    reporting: Reporting
    context: Context

    @property
    def trial(self) -> Trial:
        """The one that is picked."""
        return self.chosen.trial

    @property
    def stages(self) -> Path:
        """Where the search has kept what its trials start from."""
        return self.searched.path / ".stages"

    def as_kept(self) -> Report:
        """The model that the trial left, judged."""
        # It is judged as it is, even where the search trains its best one again.
        experiment = self.searched.experiment.with_values({"tuning.refit": None})
        run_files.record(experiment, self.context)
        self.context.emit(StageBegun(f"judging the model of trial {self.trial.number}"))
        with TemporaryDirectory(prefix="modelopt-") as scratch, self.reporting.log.recording(), counting(self.context):
            self._take_models(Path(scratch))
            model = finalize_best(
                experiment, self.trial, Path(scratch), self.context, self.stages, self._dense(), self.searched.trials
            )
        return self._report(model)

    def _take_models(self, folder: Path) -> None:
        """The trial's files under the names that they had while the search ran."""
        kept = self.searched.models[self.trial.number]
        for file in sorted(kept.parent.glob(f"{kept.stem}.*")):
            name = f"{kept_model(folder, self.trial.seed).stem}{file.name.removeprefix(kept.stem)}"
            link_or_copy(file, folder / name)

    def refined(self) -> Report:
        """The trial's setting run again to its end, and judged."""
        experiment, changed = self._trained_out()
        run_files.check_resumed(experiment, self.context)
        run_files.record(experiment, self.context)
        state, curve = run_files.load_state(self.context)
        # (what was searched has its values now, so that nothing of the trial changes them again)
        trial, run = replace(self.trial, params={}), None
        with TemporaryDirectory(prefix="modelopt-") as scratch, self.reporting.log.recording(), counting(self.context):
            if self._runs_by_steps(experiment):
                self.context.emit(StageBegun(f"training trial {trial.number} out"))
                run = self._opened(experiment, state)
                advance(run, curve, self.context)
                if self.context.stop:
                    return self.reporting.report(
                        "pick", "pick", Outcome(details=self._details({}, changed)), interrupted=True
                    )
                trial = replace(trial, metrics=dict(run.metrics()))
            self.context.emit(StageBegun("judging what came of it"))
            model = finalize_best(
                experiment, trial, Path(scratch), self.context, self.stages, self._dense(), finished=run
            )
            run_files.forget_state(self.context)
        return self._report(model, changed)

    def _runs_by_steps(self, experiment: Experiment) -> bool:
        """Whether it is one training that can be stopped and gone on with: no fit, and no folds."""
        return experiment.evaluation.cv is None and experiment.require_model().framework == "torch"

    def _opened(self, experiment: Experiment, state: Any) -> ModelRun:
        expected = expect_metrics(experiment, experiment.require_tuning().workflow, searched=True)
        costs = () if expected is None else filter(is_cost, expected.possible)
        wanted = {*self.trial.metrics, *costs, *self.asked.wish.metrics}
        wanted |= {gate.metric for gate in gates.conditions(experiment, self.context)}
        objective = ModelObjective(
            experiment, self.searched.goals, sorted(wanted), None, self._dense(), str(self.stages)
        )
        run = objective.whole({}, self.trial.seed, state)
        assert isinstance(run, ModelRun)
        return run

    def _trained_out(self) -> tuple[Experiment, dict[str, object]]:
        """The experiment with the trial's values, trained to the end, and what was changed for that: path -> value."""
        trial, experiment = self.trial, self.searched.experiment
        if trial.parent is not None:
            raise UsageError(
                f"trial {trial.number} went on from the state of trial {trial.parent} with other settings, so that "
                "training its own from the start gives another model; pick it without --refine"
            )
        own = experiment.with_values(trial.params)
        longer = _recovery(own, [text.partition("=")[0].strip() for text in self.asked.overrides])
        chosen = own.with_values(longer) if longer else own
        changed = {path: chosen.value(path) for path in longer}
        changed |= {text.partition("=")[0].strip(): text.partition("=")[2] for text in self.asked.overrides}
        as_it_was = not longer and not self.asked.overrides and trial.state is State.COMPLETED
        if as_it_was and trial.number in self.searched.models:
            epochs = 2 * experiment.require_training().epochs if experiment.training is not None else 100
            raise UsageError(
                f"--refine would train trial {trial.number} again as it was, to the same model: it ran to its end; "
                f"leave it out, or train longer, e.g. --set training.epochs={epochs}"
            )
        return chosen, changed

    def _dense(self) -> str | None:
        """The model that all trials of a pruning share, from the search's stages."""
        context = replace(self.context, directory=None)
        if self.searched.workflow != "prune" or not model_cache.is_shared(
            self.searched.experiment, self.searched.space
        ):
            return None
        return str(model_cache.train_dense(self.searched.experiment, self.stages, context))

    # What came of it

    def _report(self, model: BestModel, changed: Mapping[str, object] | None = None) -> Report:
        metrics = {**self.trial.metrics, **model.metrics} if changed is None else dict(model.metrics)
        details = self._details(metrics, changed)
        tables = {"picked": self._table(metrics)}
        directory = self.context.directory
        if directory is not None:
            directory.write_table("picked", tables["picked"])
        written = {} if directory is None else {"directory": str(directory.path)}
        return self.reporting.report(
            "pick",
            "pick",
            Outcome(
                metrics,
                {**tables, **model.tables},
                {**model.details, **details},
                [*self._remarks(), *model.warnings],
                model.model,
                model.beside,
            ),
            artefacts={**written, **model.artefacts},
            best={
                "number": self.trial.number,
                "params": dict(self.trial.params),
                "metrics": dict(self.trial.metrics),
                "seed": self.trial.seed,
            },
        )

    @property
    def _goals(self) -> tuple[Goal, ...]:
        """What decided; nothing where the trial was named."""
        return self.asked.wish.goals or (() if self.asked.trial is not None else self.searched.goals)

    @property
    def _why(self) -> str:
        """`the lowest model.latency_ms of 5 trials that meet validation.accuracy >= 0.97, on validation`"""
        if not self._goals:
            return "the trial that was named"
        asked = ", then the ".join(f"{'highest' if goal.maximize else 'lowest'} {goal.metric}" for goal in self._goals)
        kept = "" if self.asked.refine else " whose model is kept"
        trials, among = plural(self.chosen.meeting, "trial"), f"of {self.chosen.among}"
        if not self.asked.wish.where:
            return f"the {asked} of {trials}{kept}, on validation"
        conditions = " and ".join(map(str, self.asked.wish.where))
        verb = "meets" if self.chosen.meeting == 1 else "meet"
        return f"the {asked} of {trials} ({among}{kept}) that {verb} {conditions}, on validation"

    def _details(self, metrics: Mapping[str, float], changed: Mapping[str, object] | None) -> PickDetails:
        wish = self.asked.wish
        return {
            "search": str(self.searched.path.absolute()),
            "trial": self.trial.number,
            "workflow": self.searched.workflow,
            "objective": [str(goal) for goal in self.searched.goals],
            "where": [str(condition) for condition in wish.where],
            "by": [str(goal) for goal in self._goals],
            "why": self._why,
            "meeting": self.chosen.meeting,
            "among": self.chosen.among,
            "refined": changed is not None,
            "changed": dict(changed or {}),
            "gain": {
                name: metrics[name] - self.trial.metrics[name] for name in self._compared if name in metrics
            },
        }  # fmt: skip

    @property
    def _compared(self) -> list[str]:
        """Metrics that it was chosen by, or searched for."""
        names = [*self.asked.wish.metrics, *(goal.metric for goal in self.searched.goals)]
        return [name for name in dict.fromkeys(names) if name in self.trial.metrics]

    def _table(self, metrics: Mapping[str, float]) -> Table:
        """A row a metric: what the trial had when it was chosen, what the model has now, and on the test split."""
        rows: list[list[Cell]] = []
        for name in self._compared:
            on_test = f"test.{name.removeprefix('validation.')}" if name.startswith("validation.") else ""
            rows.append([name, self.trial.metrics[name], metrics.get(name), metrics.get(on_test)])
        return Table(columns=["metric", "when chosen", "now", "on test"], rows=rows)

    def _remarks(self) -> list[str]:
        """What whoever reads the figures should know of how they came about."""
        remarks = []
        before, now = _fingerprint(self.searched.path), data_cache.raw_data(self.searched.experiment).fingerprint
        if before and now and before != now:
            remarks.append("the data have changed since the search, so that its figures and these are of other samples")
        return remarks


def _recovery(experiment: Experiment, given: Sequence[str]) -> dict[str, Any]:
    """What makes a pruned model recover for as many epochs as it was trained; empty where that is said already."""
    pruning, training = experiment.pruning, experiment.training
    pruned = command_of(experiment.require_tuning()) not in ("train", "distill")
    if pruning is None or training is None or not pruned or any(is_under(path, _RECOVERY) for path in given):
        return {}
    stages = pruning.schedule.stages(None if pruning.threshold is not None or pruning.structure.fixed else 0.5)
    before = pruning.recovery_over(training)
    if any(stage.rewind is not None for stage in stages):  # it repeats the training itself
        return {}
    if before is not None and before.epochs == training.epochs:
        return {}
    return (
        {f"{_RECOVERY}.epochs": training.epochs}
        if pruning.recovery is not None
        else {_RECOVERY: {"epochs": training.epochs}}
    )


def _fingerprint(path: Path) -> str:
    """Of the data that the search had; empty where its report does not say."""
    from modelopt_cli.results.saved_run import has_report, read_run

    if not has_report(path):
        return ""
    try:
        return str(read_run(path).details.get(DATA, ""))
    except InputError:
        return ""
