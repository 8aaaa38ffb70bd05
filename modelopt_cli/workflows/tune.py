"""The tune workflow: run another workflow many times with some values changed, and keep what was best."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import SearchError, StorageError
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.results.details import SearchDetails
from modelopt_cli.results.trial_files import LOGS, TrialFiles
from modelopt_cli.tuning.executors import Limits
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.by_state import ByState
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.table import curves_table, trials_table
from modelopt_cli.tuning.trials.trial import CHEAP, State
from modelopt_cli.workflows.factory import ModelObjective
from modelopt_cli.workflows.runs.script import CommandObjective
from modelopt_cli.workflows.search import latencies, model_cache, warm_start
from modelopt_cli.workflows.search.analysis import SearchAnalysis, search_analysis
from modelopt_cli.workflows.search.best_model import command_of, finalize_best
from modelopt_cli.workflows.search.cheap_first import cheap_settings
from modelopt_cli.workflows.search.cheap_first import check as check_cheap
from modelopt_cli.workflows.search.kept_models import FRONT, MODELS, KeptModels
from modelopt_cli.workflows.search.plan import Plan, make_plan, refits
from modelopt_cli.workflows.search.remarks import lacking_at_first, unheard, vain
from modelopt_cli.workflows.search.summary import OWN_VALUES, search_summary
from modelopt_cli.workflows.search.tables import best_row, best_tables, timeline_table
from modelopt_cli.workflows.search.taken import taken_before, with_taken
from modelopt_cli.workflows.search.trial_dirs import TrialDirs
from modelopt_cli.workflows.shared import gates, run_files
from modelopt_cli.workflows.shared.context import (
    Context,
    Message,
    SearchEnded,
    SearchStarted,
    StageBegun,
    TrialChanged,
)
from modelopt_cli.workflows.shared.counting import counting
from modelopt_cli.workflows.shared.metric_checks import check_samples, check_trials
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, planned
from modelopt_cli.workflows.shared.run_logging import logged
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Report, Table
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.search.result import SearchResult
    from modelopt_cli.tuning.trials.trial import Trial
    from modelopt_cli.workflows.shared.latencies import Latencies

PAUSED = ".paused"
"""The folder in a run directory for states of paused trials that do not fit in memory, while the search runs."""


@one_run()
def dry_run(experiment: Experiment, context: Context) -> Report:
    """A few steps of a few settings; the plan, and nothing else."""
    space = search_space(experiment)
    _check(experiment, context, space)
    plan = make_plan(experiment, space)
    list(warm_start.earlier_runs(experiment))  # raises for a run that cannot be read
    goals = [str(goal) for goal in experiment.require_tuning().goals]
    return planned("tune", experiment, plan.as_dict(), {"space": space.describe(), "objective": goals})


@one_run()
def run(experiment: Experiment, context: Context) -> Report:
    """Search, save the tables and the best model, judge the gates.

    Raises SearchError (exit 4) when no trial can be used; tables are written before.
    """
    return logged("tune", _run, experiment, context)


def _run(experiment: Experiment, context: Context) -> Report:
    search_run = _Search.prepare(experiment, context)
    with TemporaryDirectory(prefix="modelopt-") as scratch:
        keep = search_run.keep_folder(scratch)
        try:
            result = search_run.search(keep)
        except BaseException as error:
            with contextlib.suppress(StorageError):  # what ended the search says more
                search_run.close_trial_dirs()
                search_run.write_trials()
            if isinstance(error, SearchError):
                raise SearchError(f"{error}{search_run.where_logs_are()}") from None
            raise
        search_run.write_trials()
        return search_run.report(result, keep)


def _check(experiment: Experiment, context: Context, space: Space) -> str | None:
    """What can be known before the search to go wrong. Gives what every trial must be measured on; see check_samples.

    Raises UsageError (or InputError, RefusedError) for the first thing.
    """
    workflow = experiment.require_tuning().workflow
    if workflow == "compress":
        from modelopt_cli.workflows.compression.checks import check_stages

        check_stages(experiment)
        check_trials(experiment, context, space)
        return check_samples(experiment, space)
    preflight(experiment, prunes=workflow == "prune")
    if workflow == "prune" and experiment.pruning is not None:
        from modelopt_cli.workflows.pruning.recovery_teacher import check_recovery

        check_recovery(experiment)
    check_cheap(experiment, space)
    check_trials(experiment, context, space)
    samples = check_samples(experiment, space)
    if workflow == "distill":
        from modelopt_cli.workflows.distillation.checks import check_distillation

        check_distillation(experiment)
    return samples


@dataclass
class _Search:
    """One search under way: what the steps of `run` share."""

    experiment: Experiment
    context: Context
    space: Space
    study: Study
    plan: Plan
    reporting: Reporting
    samples: str | None  # what every trial must be measured on; None: none can change it
    first_seen: bool = False  # whether the first report was looked at, for what it lacks
    dense: str | None = None  # the trained model that every trial prunes
    trial_dirs: TrialDirs | None = None  # of scripts
    models: KeptModels | None = None  # of anything but scripts
    checkpoints: dict[int, str] = field(default_factory=dict)  # trial of the front -> its model in the run directory

    @classmethod
    def prepare(cls, experiment: Experiment, context: Context) -> _Search:
        """Check, plan, open the study, enqueue the file's own values and the initial ones."""
        reporting = Reporting(experiment, context)
        context.emit(StageBegun("checking the experiment" + (" and reading its data" if experiment.data else "")))
        before = taken_before(context)
        experiment = with_taken(experiment, before)
        settings = experiment.require_tuning()
        space = search_space(experiment)
        path = context.directory.path_of("study.sqlite") if context.directory is not None else None
        resuming = context.resume and path is not None and path.exists()
        run_files.check_resumed(experiment, context)
        samples = _check(experiment, context, space)
        if settings.workflow != "command":
            context.emit(StageBegun("trying out how long a trial takes"))
        plan = make_plan(experiment, space, before)
        for text in plan.reasons():
            context.emit(Message(text))
        experiment = with_taken(experiment, plan.auto)
        earlier = () if resuming else tuple(warm_start.earlier_runs(experiment))
        run_files.record(experiment, context, plan.device, plan.auto)
        study = Study(
            space,
            sampler=settings.sampler,
            objective=[str(goal) for goal in settings.goals],
            seed=experiment.seed,
            path=path,
            constraints=settings.constraints,
            repeats=settings.repeats,
            earlier=earlier,
        )
        if settings.warm_start and not resuming:
            context.emit(Message(study.warm_start.text(), warning=not study.warm_start.trials))
        search = cls(experiment, context, study.space, study, plan, reporting, samples)
        if not study.trials:
            search.enqueue()
        return search

    def enqueue(self) -> None:
        """The file's own values first (but for a grid, which is exactly its points), `tuning.initial`, cheap ones."""
        settings = self.experiment.require_tuning()
        if settings.start_from_file and not settings.sampler.exact:
            own = self.space.from_values(self.experiment.value)
            broken = None if own is None else self.space.broken(own)
            if broken is not None:
                self.context.emit(Message(f"the file's own values break the rule '{broken}', so they are not trial 0"))
            elif own is not None:
                self.study.queue(own, "file")
            else:
                self.context.emit(Message("the file's own values lie outside tuning.space, so they are not trial 0"))
        for params in settings.initial:
            self.study.queue(self.space.complete(params, self.experiment.value), "initial")
        begun = any(trial.origin == OWN_VALUES for trial in self.study.trials)  # it is as cheap as the others
        for params in cheap_settings(self.experiment, self.space, self.plan.cheap - begun):
            self.study.queue(params, CHEAP)

    def keep_folder(self, scratch: str) -> Path:
        """Where models of trials are kept while the search runs."""
        directory = self.context.directory
        folder = directory.path_of(MODELS) if directory is not None else Path(scratch)
        folder.mkdir(exist_ok=True)
        if self.experiment.require_tuning().workflow != "command":
            self.models = KeptModels(folder, self.study)
        return folder

    def search(self, keep: Path) -> SearchResult:
        """Run the trials that are not finished yet."""
        settings, plan = self.experiment.require_tuning(), self.plan
        finished = sum(trial.state.finished for trial in self.study.trials)
        goals = tuple(str(goal) for goal in settings.goals)
        shares_steps = settings.named_scheduler is not None
        planned = None if shares_steps else plan.trials  # it divides the steps of so many among more
        with self.reporting.log.recording(), counting(self.context):
            self.dense = model_cache.make(self.experiment, self.space, self.context, keep, self.wanted)
        self.context.emit(
            SearchStarted(
                self.experiment.name,
                planned,
                finished,
                goals,
                self.study.trials,
                workers=plan.workers,
                timeout=settings.timeout,
                stops=settings.named_stopper is not None or shares_steps,
                shares_steps=shares_steps,
                budget=plan.trials,
                from_start=plan.sizes is not None,
                may_end_before=settings.stop_when is not None,
                refits=refits(self.experiment),
            )
        )
        objective = self.objective(keep)
        executor = settings.executor if settings.executor != "auto" else plan.named_executor()
        search = Search(
            self.study,
            executor.open(
                objective,
                workers=plan.workers,
                limits=Limits(seconds=settings.trial_timeout, bytes=settings.trial_memory_bytes),
                folder=None if self.context.directory is None else self.context.directory.path_of(PAUSED),
            ),
            trials=plan.trials,
            timeout=settings.timeout,
            max_failures=settings.max_failures,
            stopper=settings.named_stopper,
            scheduler=settings.named_scheduler,
            stop=self._asked_to_stop,
            converged=self._converged,
            on_change=self._changed,
            on_news=lambda text: self.context.emit(Message(text, warning=True)),
            sizes=plan.sizes,
            complete=plan.complete,
            open_ended=settings.workflow == "command",
            declared_total=None if self.experiment.command is None else self.experiment.command.steps,
        )
        with counting(self.context):
            return search.run()

    def _asked_to_stop(self) -> bool:
        """Raises StorageError when the run's folder is gone."""
        if self.context.directory is not None:
            self.context.directory.check()
        return bool(self.context.stop)

    def objective(self, keep: Path) -> Objective:
        """What a trial computes."""
        settings = self.experiment.require_tuning()
        if settings.workflow == "command":
            files = TrialFiles(keep if self.context.directory is None else self.context.directory.path)
            files = replace(files, logged=self.context.directory is not None)
            self.trial_dirs = TrialDirs(files, self.study)
            return CommandObjective(self.experiment, files)
        folder = str(model_cache.stage_folder(self.context, keep))
        shared = model_cache.shared_stages(self.experiment, self.space) if settings.workflow == "compress" else 0
        return ModelObjective(
            self.experiment, settings.goals, self.wanted, str(keep), self.dense, folder, self.samples, shared
        )

    @property
    def wanted(self) -> list[str]:
        """The metrics that trials are asked for."""
        settings = self.experiment.require_tuning()
        stopper = settings.named_stopper
        wanted = settings.metrics + list(stopper.metrics() if stopper is not None else ())
        wanted += [gate.metric for gate in gates.conditions(self.experiment, self.context)]
        return [name.removesuffix("_std") for name in dict.fromkeys(wanted)]

    def _converged(self, trials: Sequence[Trial]) -> str:
        settings = self.experiment.require_tuning()
        return "" if settings.stop_when is None else settings.stop_when.verdict(self.space, trials, settings.goals)

    def _changed(self, trial: Trial) -> None:
        best = self.study.best
        if trial.state.finished and self.models is not None:
            self.models.ended(trial)
        if self.trial_dirs is not None:
            self.trial_dirs.changed(trial)
        self.context.emit(TrialChanged(trial, best))
        if self.context.directory is not None:
            ended = derived(self.study.history, ByState).finished
            self.context.stop.kept = f"the log of the search, with {ended} trials that have ended,"
        if not self.first_seen and (trial.curve or trial.state in (State.COMPLETED, State.FAILED)):
            self.first_seen = True
            lacking = lacking_at_first(self.experiment, trial)
            if lacking:
                self.context.emit(Message(lacking, warning=True))

    def close_trial_dirs(self) -> dict[str, str]:
        """Remove the folders of trials that are not needed any more; where the best trial's lies, and all logs."""
        best = None if self.trial_dirs is None else self.trial_dirs.close()
        if self.context.directory is None:
            return {}
        logs = self.context.directory.path_of(LOGS)
        return ({} if best is None else {"trial_dir": str(best)}) | ({"logs": str(logs)} if logs.is_dir() else {})

    def where_logs_are(self) -> str:
        """For the end of an error; empty where there are none."""
        if self.context.directory is None or not self.context.directory.path_of(LOGS).is_dir():
            return ""
        return f". What each script wrote is in {self.context.directory.path_of(LOGS)}"

    def write_trials(self) -> None:
        """The table of trials, as it is now, and those of `compromises`; the models of the front."""
        if self.context.directory is not None:
            if self.models is not None and len(self.study.goals) > 1:
                self.checkpoints = self.models.publish(self.context.directory.path, self.study.front)
            for name, table in {"trials": self.table(), **self.compromises()[0]}.items():
                self.context.directory.write_table(name, table)

    def compromises(self) -> tuple[dict[str, Table], dict[str, object]]:
        """(tables, details) of the front, of repeats, and of the best trial's schedule; see best_tables."""
        return best_tables(self.study, self.experiment.require_tuning().reference, self.checkpoints)

    def table(self) -> Table:
        """The table of trials."""
        return trials_table(self.study.trials, self.space.paths)

    def beside(self) -> dict[str, Table]:
        """The curves of all trials, and when each ran."""
        goals = [goal.metric for goal in self.study.goals]
        return {"curves": curves_table(self.study.trials, goals), "timeline": timeline_table(self.study.stints)}

    def report(self, result: SearchResult, keep: Path) -> Report:
        """Finish the best setting, judge the gates, write the report."""
        best = self.study.best
        interrupted = result.reason == "interrupted"
        self.context.emit(SearchEnded())
        self.context.emit(StageBegun("saving what was done" if interrupted else "working out what mattered"))
        artefacts: dict[str, str] = self.close_trial_dirs()
        metrics, warnings, model = {}, list(result.warnings), None
        analysis = SearchAnalysis() if interrupted else search_analysis(self.space, self.study.trials, self.study.goals)
        warnings += vain(self.experiment, self.study.trials, ended=not interrupted)
        if unheard(self.experiment):
            warnings.append(unheard(self.experiment))
        tables, details = self.compromises()
        timed = latencies.asked_for(self.wanted) if self.experiment.model is not None else []
        again = None if interrupted or not timed else self._front_again()
        if again is not None and "front" in tables:
            tables["front"] = latencies.with_latencies(tables["front"], again, timed)
            warnings += again.warnings
        tables, beside = {"trials": self.table(), **tables, **analysis.tables}, self.beside()
        if best is not None:
            metrics = dict(best.metrics)
            if best.violation > 0:
                wanted = ", ".join(self.experiment.require_tuning().constraints)
                warnings.append(f"no trial meets the constraints ({wanted}); the best one comes nearest to them")
            if not interrupted:
                folder = model_cache.stage_folder(self.context, keep)
                self.context.emit(StageBegun(f"finishing the best model, of trial {best.number}"))
                with self.reporting.log.recording(), counting(self.context):
                    best_model = finalize_best(
                        self.experiment, best, keep, self.context, folder, self.dense, self.study.trials
                    )
                metrics |= best_model.metrics
                artefacts, model = {**artefacts, **best_model.artefacts}, best_model.model
                warnings += best_model.warnings
                tables |= best_model.tables
                beside |= best_model.beside
                details = {**details, **best_model.details}
        if timed:
            details["latency"] = latencies.how(self.experiment, again, str(details.get("latency", "")))
        warnings += self._otherwise_than_declared()
        if self.context.directory is not None:
            renewed = {} if again is None or "front" not in tables else {"front": tables["front"]}
            for name, table in {**analysis.tables, **renewed}.items():
                self.context.directory.write_table(name, table)
        of_search: SearchDetails = {
            "objective": [str(goal) for goal in self.experiment.require_tuning().goals],
            "space": self.space.describe(),
            "workflow": command_of(self.experiment.require_tuning()),
            "ended": result.reason,
            "why": result.why,
            "importance_missing": analysis.missing,
            "front": [trial.number for trial in self.study.front],
        }
        took = {"actual_seconds": self.reporting.seconds, "actual_bytes": result.peak_bytes}
        return self.reporting.report(
            "search",
            "tune",
            Outcome(
                metrics,
                tables,
                {**of_search, **search_summary(self.study.trials, self.study.goals, best), **details},
                warnings,
                model,
                beside,
            ),
            interrupted=interrupted or bool(self.context.stop),
            artefacts={**artefacts, **self._artefacts()},
            best=best_row(best),
            plan={**self.plan.as_dict(), **took},
        )

    def _front_again(self) -> Latencies | None:
        """The models of the front timed in turns, now that no trial runs; None: there are no several."""
        if self.context.directory is None or len(self.checkpoints) < 2:
            return None
        self.context.emit(StageBegun("measuring the models of the front again"))
        models = {number: self.context.directory.path / path for number, path in self.checkpoints.items()}
        with self.reporting.log.recording():
            return latencies.remeasured(models, self.experiment)

    def _otherwise_than_declared(self) -> list[str]:
        """Where scripts took other steps than `command.steps` says."""
        declared = None if self.experiment.command is None else self.experiment.command.steps
        seen = [
            trial.total for trial in self.study.trials if trial.state is State.COMPLETED and trial.total is not None
        ]
        if declared is None or not seen or max(seen) == declared:
            return []
        return [
            f"command.steps is {declared}, but the longest of {len(seen)} complete trials ended with step {max(seen)}, "
            f"by which rungs and budget were reckoned from then on; set command.steps: {max(seen)}"
        ]

    def _artefacts(self) -> Mapping[str, str]:
        if self.context.directory is None:
            return {}
        folder = self.context.directory.path
        models = {"front": str(folder / FRONT)} if self.checkpoints else {}
        files = {"directory": folder, "tables": folder / "trials.csv", "report": folder / "report.json"}
        return {**{name: str(path) for name, path in files.items()}, **models}
