"""A trained model made as small or fast as its drop allows: the work of `modelopt compress model.pt`.

The experiment file gives the data, and what its sections say of training, pruning and quantisation is where the search
begins. It looks at train and validation alone; test is read once, at the end, for the model that was chosen and the
given one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.work import GivenUp
from modelopt_cli.models.files.state_files import open_state
from modelopt_cli.workflows import prune
from modelopt_cli.workflows.compression.target.demands import Demands, is_latency
from modelopt_cli.workflows.compression.target.outcome import chosen_outcome, given_outcome, unfinished, verdicts
from modelopt_cli.workflows.compression.target.search import LEAST_TRIALS, Result, TargetSearch
from modelopt_cli.workflows.compression.target.settings import AS_BEGUN, Setting, Start, axes, beginnings, starting
from modelopt_cli.workflows.compression.target.timing import Timing
from modelopt_cli.workflows.compression.target.tries import FULL, Given, Stopped, Tries
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared import data_cache, run_files
from modelopt_cli.workflows.shared.context import Context, StageBegun
from modelopt_cli.workflows.shared.counting import counting
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.module_of_file import build, with_own_model
from modelopt_cli.workflows.shared.reporting import Reporting, planned
from modelopt_cli.workflows.shared.run_logging import logged
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Report, Table

TRIALS = 20
"""Tries, where the command line does not say how many."""
_SAMPLES = 64  # that times are measured with
_HELD = "shift_statistics"  # what the reason names for which units stay that statistics run over


class CompressFile:
    """A workflow over an experiment file, for the model at `path`."""

    def __init__(
        self,
        path: Path,
        demands: Demands,
        *,
        trials: int = TRIALS,
        timeout: float | None = None,
        key: str | None = None,
        trust_code: bool = False,
    ) -> None:
        """`timeout`: seconds after which no try begins; `key`: the part of the file that holds the weights."""
        self.path, self.demands, self.trials, self.timeout = path, demands, trials, timeout
        self.key, self.trust_code = key, trust_code
        self.__name__ = "compress"

    @one_run()
    def run(self, experiment: Experiment, context: Context) -> Report:
        """Search, judge, write and report. Raises UsageError, InputError or RefusedError before any work."""
        context.emit(StageBegun("checking the experiment and reading its data"))
        opened = _open(self, experiment, context)
        return logged("compress", opened.run, opened.start.experiment, context)

    @one_run()
    def dry_run(self, experiment: Experiment, context: Context) -> Report:
        """Everything that can be checked, and how many tries and how long it is at most."""
        opened = _open(self, experiment, context)
        plan, notes = opened.plan()
        report = planned("compress", opened.start.experiment, plan, {"dry_run": True})
        return report.model_copy(update={"warnings": [*report.warnings, *notes]})


@dataclass(frozen=True)
class _Opened:
    """A model and its data, checked, with what is asked of it."""

    asked: CompressFile
    start: Start
    prepared: Prepared
    module: nn.Module
    extra: Mapping[str, Any] | None
    bare: bool
    written: bool  # the file says what the pruning's structure is

    def run(self, experiment: Experiment, context: Context) -> Report:
        """The search and what comes of it."""
        reporting = Reporting(experiment, context)
        run_files.check_resumed(experiment, context)
        with reporting.log.recording(), counting(context):
            context.emit(StageBegun("judging the given model"))
            timing = Timing(experiment, self._inputs(), self.module)
            given, held = self._given(timing)
            self._check(given, timing)
            run_files.record(experiment, context)
            demands = self.asked.demands
            if not demands.drops and demands.met(given.costs, given.costs):
                outcome = given_outcome(given, demands)
                gates = verdicts(demands, outcome.metrics, given, None)
                artefacts = _folder(context, {})
                return reporting.report("compression", "compress", outcome, judged=gates, artefacts=artefacts)
            tries = self._tries(given, context, timing)
            interrupted, written = False, dict[str, str]()
            try:
                begun = beginnings(self.start, demands.minimized, self.written)
                result = TargetSearch(tries, axes(self.start, demands.minimized, held), begun).run()
                context.emit(StageBegun("judging and measuring what came of it"))
                outcome = chosen_outcome(result, tries, timing, self.start)
                written = _written(result, tries, context)
                tries.forget()
            except (Stopped, GivenUp):
                result, interrupted = Result(), True
                outcome = unfinished(tries)
            artefacts = {**_folder(context, outcome.tables), **written}
            gates = [] if interrupted else verdicts(demands, outcome.metrics, given, result)
        return reporting.report(
            "compression", "compress", outcome, interrupted=interrupted, judged=gates, artefacts=artefacts
        )

    def _given(self, timing: Timing) -> tuple[Given, bool]:
        """The given model judged on validation, and whether units stay because statistics run over them."""
        run = PruneRun(
            self.start.experiment,
            self.prepared,
            seed=self.start.experiment.seed,
            dense=self.module,
            extra=self.extra,
            bare=self.bare,
            timed=False,
        )
        metrics = run.trainer.evaluate("validation")
        costs = dict(run.costs(metrics))
        if any(map(is_latency, self.asked.demands.costs)):
            costs |= timing(self.module)[0]
        held = any(_HELD in reason for reason in run.model.spared.values())
        return Given(self.module, self.extra, self.bare, metrics, costs), held

    def _check(self, given: Given, timing: Timing) -> None:
        """Raise UsageError for demands that this model and these data know nothing of."""
        for drop in self.asked.demands.drops:
            drop.check(given.metrics)
        if not given.metrics:
            raise UsageError(
                "the validation split is empty, so there is nothing to choose by; set data.splits.validation (e.g. 0.2)"
            )
        lacking = [metric for metric in self.asked.demands.costs if metric not in given.costs]
        if lacking:
            raise UsageError(
                f"{lacking[0]} is not measured here, but {', '.join(timing.metrics)}; name the batch size in "
                "evaluation.latency.batch_sizes"
            )

    def _tries(self, given: Given, context: Context, timing: Timing) -> Tries:
        return Tries(
            self.start,
            self.prepared,
            given,
            self.asked.demands,
            context,
            most=self.asked.trials,
            timeout=self.asked.timeout,
            timing=timing,
        )

    def _inputs(self) -> Any:
        """(N, *inputs): train samples, as the model takes them."""
        from modelopt_cli.pruning.units.session import joined
        from modelopt_cli.training.settings import TrainingSettings
        from modelopt_cli.workflows.runs.torch import trainer_of

        experiment = self.start.experiment
        training = experiment.training or TrainingSettings()
        trainer = trainer_of(experiment, self.prepared, self.module, training, seed=experiment.seed)
        return joined(trainer.samples(_SAMPLES))

    def plan(self) -> tuple[dict[str, object], list[str]]:
        """(tries, epochs, seconds, all at most; what there is to say): a model is pruned, to see how long it takes."""
        from modelopt_cli.workflows.runs.timing import training_seconds

        timing = Timing(self.start.experiment, self._inputs(), self.module)
        given, _ = self._given(timing)
        self._check(given, timing)
        demands, trials = self.asked.demands, self.asked.trials
        if not demands.drops and demands.met(given.costs, given.costs):
            return {"tries": 0, "epochs": 0, "estimated_seconds": 0.0}, list(given_outcome(given, demands).warnings)
        tries = self._tries(given, Context(), timing)
        one = tries.attempt("to see how long it takes", 0.5, Setting(AS_BEGUN), "none")
        full = min(FULL, trials)
        epochs = (trials - full) * self.start.short + full * self.start.full
        training_seconds(self.start.experiment, 1)  # the first one pays for imports and warm-up
        seconds = trials * one.seconds + training_seconds(self.start.experiment, epochs)
        if self.asked.timeout is not None:
            last = training_seconds(self.start.experiment, self.start.full) + one.seconds
            seconds = min(seconds, self.asked.timeout + last)
        return {"tries": trials, "epochs": epochs, "estimated_seconds": seconds}, list(self.start.notes)


def _open(asked: CompressFile, experiment: Experiment, context: Context) -> _Opened:
    """The model and the experiment, checked before any work."""

    if asked.trials < LEAST_TRIALS:
        raise UsageError(f"--trials {asked.trials}: a search takes at least {LEAST_TRIALS} tries")
    if asked.timeout is not None and not asked.timeout > 0.0:
        raise UsageError(f"--timeout {asked.timeout:g}: must be seconds above 0")
    if experiment.command is not None and experiment.data is None:
        raise UsageError(f"{experiment.origin}: a command trains a script's own model; compress takes data: and model:")
    experiment.require("data")
    experiment.require_one_seed("one model is searched for")
    notes = []
    if experiment.tuning is not None:
        notes.append("the tuning section is not used: what is tried follows from --target and --max-drop")
        experiment = experiment.with_values({"tuning": None})
    file = open_state(asked.path, key=asked.key)
    extra: Mapping[str, Any] | None = file.extra if file.bare else None
    experiment = with_own_model(file, experiment, trust_code=asked.trust_code)
    start, written = starting(experiment), experiment.pruning is not None
    check_metrics(start.experiment, context, "prune")
    prune.check_parts(start.experiment)
    module, shapes = build(file, experiment, trust_code=True)
    prepared = data_cache.prepared_data(start.experiment)
    shapes.check_fit(prepared.shapes, asked.path)
    noted = Start(start.experiment, start.short, start.full, start.schedule, (*notes, *start.notes))
    return _Opened(asked, noted, prepared, module, extra, file.bare, written)


def _folder(context: Context, tables: Mapping[str, Table]) -> dict[str, str]:
    """The tables written into the run's folder; what lies there."""
    written = run_files.write(context, tables, None)
    written.pop("tables", None)
    if context.directory is None or not tables:
        return written
    return {**written, "tables": str(context.directory.path_of("tries.csv"))}


def _written(result: Result, tries: Tries, context: Context) -> dict[str, str]:
    """The models that came of it, each under its name; the chosen one as a program, too."""
    from modelopt_cli.models.files import checkpoints

    if context.directory is None:
        return {}
    written: dict[str, str] = {}
    for name, one in result.written.items():
        run = tries.again(one)
        path = context.directory.path_of(f"{name}.pt")
        checkpoints.save(path, run.checkpoint({**one.metrics, **one.costs}))
        written[name] = str(path)
        if name == "model":
            written |= run.write_program(path.with_suffix(".pt2"))
            written |= _onnx(run, path.with_suffix(".onnx"))
        if one.int8 is not None:
            written |= one.int8.write(path)
    return written


def _onnx(run: PruneRun, path: Path) -> dict[str, str]:
    """The program as an ONNX file, where that can be written here."""
    from modelopt_cli.core.errors import MissingExtraError
    from modelopt_cli.models.files.exporting import format_of

    try:
        format_of(path)
    except MissingExtraError:
        return {}
    written = run.write_program(path)
    return {"onnx": written["program"]} if written else {}
