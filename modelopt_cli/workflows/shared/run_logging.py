"""From what a workflow tells while it runs to what its loggers are handed: `loggers:` of the file.

A run is one run for a logger. A search has a child for each trial, several seeds a child for each seed. Nothing here
waits for a logger, and nothing that goes wrong with one ends the run: it becomes a warning.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import InterruptedRunError, StorageError
from modelopt_cli.core.references import redacted, without_values
from modelopt_cli.results.deliveries.delivery import Delivery, Record
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Points, Setting, Status
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.context import (
    Context,
    EpochEnded,
    Message,
    Progress,
    RunBegun,
    SearchStarted,
    SeedBegun,
    SeedEnded,
    TrialChanged,
)
from modelopt_cli.workflows.shared.run_files import flatten

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import GateResult, Report

_LEFT_SOON = 3.0  # seconds for the loggers of a run that was asked to stop
_FINAL, _BEST, _TRIALS = "final/", "best/", "trials/"  # what names of metrics begin with, but for those of a curve
_FILES = ("report", "page", "model")  # artefacts of a report that loggers are told of
_STATUS: Mapping[State, Status] = {
    State.COMPLETED: "completed",
    State.STOPPED: "stopped",
    State.FAILED: "failed",
}


def logged(
    workflow: str, work: Callable[[Experiment, Context], Report], experiment: Experiment, context: Context
) -> Report:
    """`work`, told to the file's loggers."""
    if not experiment.loggers:
        return work(experiment, context)
    logging = RunLogging(workflow, experiment, context)
    try:
        report = work(experiment, replace(context, emit=logging.take))
    except BaseException as error:
        logging.failed(error)
        raise
    return logging.ended(report)


class RunLogging:
    """The loggers of one run at work. They begin when the run has begun: one that is refused leaves no trace there."""

    def __init__(self, workflow: str, experiment: Experiment, context: Context) -> None:
        self._workflow, self._experiment, self._context = workflow, experiment, context
        self._deliveries: list[Delivery] = []
        self._shown: set[str] = set()  # loggers whose place was told
        self._warnings: list[str] = []
        self._open: dict[str, None] = {}  # children under way
        self._states: dict[int, State] = {}  # of the trials that have begun
        self._steps: dict[int, int] = {}  # trial -> last step that was handed on
        self._counts: Counter[str] = Counter()  # ended trials by state
        self._seed: int | None = None  # the one of several that runs now
        self._searching = False

    # What the workflow tells

    def take(self, event: Progress) -> None:
        """Hand an event on: to the loggers what they want of it, and to whoever else listens."""
        match event:
            case RunBegun():
                self._begin()
            case SeedBegun(seed):
                self._seed = seed
                self._begin_child(f"seed-{seed}", {"seed": seed}, {})
            case SeedEnded(seed, report):
                self._begin_child(f"seed-{seed}", {"seed": seed}, {})
                self._seed = None
                self._end(f"seed-{seed}", report)
            case SearchStarted(trials=trials):
                self._searching = True
                for trial in trials:
                    self._follow(trial)
            case TrialChanged(trial, best):
                self._follow(trial)
                if trial.state.finished:
                    self._tell_best(best)
            case EpochEnded(step, _, metrics, doing):
                self._tell_step(step, metrics, doing)
        self._tell_user()
        self._context.emit(event)

    def ended(self, report: Report) -> Report:
        """The run has come to its end. Gives its report, with what went wrong with the loggers."""
        self._leave_children()
        self._end(OWN, report)
        self._close()
        if not self._warnings:
            return report
        amended = report.model_copy(update={"warnings": [*report.warnings, *self._warnings]})
        if self._context.directory is not None:
            amended = self._context.directory.write_report(amended, page=self._experiment.report)
        return amended

    def failed(self, error: BaseException) -> None:
        """The run ended by an error."""
        self._leave_children()
        asked = bool(self._context.stop) or isinstance(error, InterruptedRunError | KeyboardInterrupt)
        status: Status = "interrupted" if asked else "failed"
        self._put(Ended(OWN, status, _line(f"{type(error).__name__}: {error}")))
        with contextlib.suppress(StorageError):  # what ended the run says more
            self._close()

    # The run

    def _begin(self) -> None:
        if self._deliveries:
            return
        location = _location(self._experiment, self._context)
        self._deliveries = [Delivery(logger, location) for logger in self._experiment.loggers]
        settings = {name: value for name, value in self._experiment.written().items() if name != "loggers"}
        tags = {
            "modelopt.workflow": self._workflow,
            "modelopt.version": version("modelopt-cli"),
            "modelopt.directory": "" if location.folder is None else str(location.folder),
        }
        self._put(Begun(OWN, _flat(settings), {name: text for name, text in tags.items() if text}))

    def _tell_step(self, step: int, metrics: Mapping[str, float], doing: str) -> None:
        """A step of the run, of one of its seeds, or (of a search) of the best setting's last training."""
        if self._searching:
            metrics = {f"refit/{name}": value for name, value in metrics.items()}
        elif self._workflow == "distill" and doing:  # several models are trained, one after the other
            metrics = {f"{doing}/{name}": value for name, value in metrics.items()}
        run = OWN if self._seed is None else f"seed-{self._seed}"
        self._put(Points(run, [(step, _numbers(metrics))]))

    def _end(self, run: str, report: Report) -> None:
        self._open.pop(run, None)
        self._put(
            Ended(
                run,
                report.status,
                _line(report.reason),
                _numbers(report.metrics, _FINAL),
                {**_gates(report.gates), **_best_trial(report)},
                {what: path for what, path in report.artefacts.items() if what in _FILES},
            )
        )

    # Children

    def _begin_child(self, run: str, settings: Mapping[str, Setting], tags: Mapping[str, str]) -> None:
        self._begin()
        if run not in self._open:
            self._open[run] = None
            self._put(Begun(run, settings, tags))

    def _follow(self, trial: Trial) -> None:
        """Hand on what is new of a trial."""
        if trial.state is State.QUEUED or self._states.get(trial.number, State.QUEUED).finished:
            return
        run = f"trial-{trial.number}"
        if trial.number not in self._states:
            parent = {} if trial.parent is None else {"modelopt.goes_on_from": f"trial-{trial.parent}"}
            tags = {"modelopt.origin": trial.origin, "modelopt.seed": str(trial.seed), **parent}
            self._begin_child(run, _flat(trial.params), tags)
        self._states[trial.number] = trial.state
        last = self._steps.get(trial.number, -1)
        new = []
        for point in reversed(trial.curve):
            if point.step <= last:
                break
            new.append((point.step, _numbers(point.metrics)))
        if new:
            self._steps[trial.number] = new[0][0]
            self._put(Points(run, new[::-1]))
        if trial.state.finished:
            self._counts[str(trial.state)] += 1
            self._open.pop(run, None)
            tags = {"modelopt.state": str(trial.state), "modelopt.failure": trial.failure}
            metrics = {**_numbers(trial.metrics, _FINAL), f"{_FINAL}seconds": trial.seconds}
            self._put(Ended(run, _STATUS[trial.state], _line(trial.reason), metrics, tags))

    def _tell_best(self, best: Trial | None) -> None:
        """The search after one more trial has ended: how many ended how, and what the best one reached."""
        counts = {f"{_TRIALS}{state}": float(count) for state, count in self._counts.items()}
        reached = {}
        if best is not None:
            goals = [Goal.parse(str(goal)).metric for goal in self._experiment.require_tuning().goals]
            reached = {f"{_BEST}{name}": float(best.metrics[name]) for name in goals if name in best.metrics}
            reached[f"{_BEST}trial"] = float(best.number)
        self._put(Points(OWN, [(sum(self._counts.values()), {**reached, **counts})]))

    def _leave_children(self) -> None:
        """Those that have not ended may go on with --resume."""
        states = {f"trial-{number}": str(state) for number, state in self._states.items()}
        for run in self._open:
            self._put(Ended(run, "interrupted", "", {}, {"modelopt.state": states.get(run, "running")}))
        self._open.clear()

    # Loggers

    def _put(self, record: Record) -> None:
        for delivery in self._deliveries:
            delivery.put(record)

    def _close(self) -> None:
        for delivery in self._deliveries:
            delivery.close(_LEFT_SOON if self._context.stop else None)
        self._tell_user()

    def _tell_user(self) -> None:
        """Where to look, and what went wrong; from this thread, whichever it came up in."""
        for number, delivery in enumerate(self._deliveries):
            if delivery.where and str(number) not in self._shown:
                self._shown.add(str(number))
                self._context.emit(Message(redacted(f"{delivery.name}: {delivery.where}")))
            while delivery.warnings:
                text = redacted(f"{delivery.name}: {delivery.warnings.popleft()}")
                self._warnings.append(text)
                self._context.emit(Message(text, warning=True))


def _location(experiment: Experiment, context: Context) -> Location:
    """Where the run is. A run that was given a folder of its own stands alone; else all lie under one root."""
    if context.directory is None:
        return Location(experiment.name, experiment.name)
    path = context.directory.path
    numbered = path.name.isdigit() and path.parent.name == experiment.name
    title = f"{experiment.name}/{path.name}" if numbered else path.name
    return Location(experiment.name, title, path, path.parents[1] if numbered else path)


def _flat(settings: Mapping[str, object]) -> dict[str, Setting]:
    """Dotted path -> value; a list as text. Without values from the environment, and without what is not set."""
    flat = {name: value for name, value in flatten(settings).items() if value not in (None, [], {})}
    plain = {name: value if isinstance(value, str | int | float) else str(value) for name, value in flat.items()}
    return dict(without_values(plain))


def _numbers(metrics: Mapping[str, float], before: str = "") -> dict[str, float]:
    return {redacted(f"{before}{name}"): float(value) for name, value in metrics.items()}


def _line(text: str) -> str:
    return redacted(text.strip().partition("\n")[0])


def _gates(gates: list[GateResult]) -> dict[str, str]:
    tags = {}
    for number, gate in enumerate(gates, start=1):
        value = "no such metric" if gate.value is None else f"value {gate.value:.6g}"
        tags[f"modelopt.gate.{number}"] = f"{gate.condition}: {'met' if gate.met else 'missed'} ({value})"
    return tags


def _best_trial(report: Report) -> dict[str, str]:
    return {} if report.best is None else {"modelopt.best_trial": f"trial-{report.best.get('number')}"}
