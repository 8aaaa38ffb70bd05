"""What train, prune and distill have in common: one experiment is checked, run step by step, judged, saved, reported.

A workflow says what is its own: what it checks, opens, judges and keeps. Going on where a run was stopped, saved
states, files, several seeds, and a report with its warnings and gates are the same for all, so none can forget them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from modelopt_cli.core.work import GivenUp
from modelopt_cli.tuning.objective import Part, Run
from modelopt_cli.workflows.shared import run_files
from modelopt_cli.workflows.shared.context import Context, CourseAhead, EpochEnded, StageBegun
from modelopt_cli.workflows.shared.counting import counting
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.over_seeds import over_seeds
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, planned
from modelopt_cli.workflows.shared.run_logging import logged
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Kind, Report, Table
    from modelopt_cli.workflows.shared.run_files import Curve

R = TypeVar("R", bound=Run)
_WORTH_SAVING = 5.0  # seconds of work that judging should not put at risk


class ModelWorkflow(ABC, Generic[R]):
    """A workflow that ends with one model; `R` is the kind of run that it opens."""

    name: ClassVar[Literal["train", "prune", "distill", "compress"]]
    tells_dry_run: ClassVar[bool] = True  # whether `dry_run` is among the details of its reports
    opening_refuses: ClassVar[bool] = False
    """Whether `opened` is a check, too: what it refuses leaves no run behind. Else a failure there is a failed run."""

    closing: ClassVar[Sequence[Part]] = (Part("judging", seconds=0.5),)
    """What comes after the run's last step, for the time that is left."""

    @abstractmethod
    def check(self, experiment: Experiment) -> None:
        """Raise UsageError (or InputError, RefusedError) for what can be known before any work to go wrong."""

    @abstractmethod
    def opened(self, experiment: Experiment, context: Context, state: Any) -> AbstractContextManager[R]:
        """The run, from a saved state where there is one; it is closed at the end."""

    @abstractmethod
    def judged(self, experiment: Experiment, run: R) -> Outcome:
        """What came of the finished run: its model judged on every split."""

    @abstractmethod
    def tables(self, run: R, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """All tables of the report, in order; `judged`: those of the outcome, none where the run was interrupted."""

    @abstractmethod
    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """What a dry run estimates."""

    def kept(self, run: R, context: Context) -> dict[str, str]:
        """Write what is kept beside model and tables: what -> path."""
        return {}

    def derived(self, tables: Mapping[str, Table]) -> Mapping[str, float]:
        """Metrics over several seeds that follow from the tables of means, such as ratios."""
        return {}

    def kind(self, experiment: Experiment) -> Kind:
        """Of its reports."""
        return "training"

    @one_run()
    def run(self, experiment: Experiment, context: Context) -> Report:
        """Run, judge on every split, save; over several seeds where the file says so."""
        context.emit(StageBegun("checking the experiment and reading its data"))
        check_metrics(experiment, context, self.name)
        return logged(self.name, self.seeded, experiment, context)

    def seeded(self, experiment: Experiment, context: Context) -> Report:
        """The run, or its runs with several seeds."""
        if experiment.seeds > 1:
            return over_seeds(self.once, experiment, context, self.derived)
        return self.once(experiment, context)

    @one_run()
    def dry_run(self, experiment: Experiment, context: Context) -> Report:
        """Everything that can be checked without training, and how long it will take."""
        check_metrics(experiment, context, self.name)
        self.check(experiment)
        return planned(self.name, experiment, self.plan(experiment), {"dry_run": True} if self.tells_dry_run else {})

    def once(self, experiment: Experiment, context: Context) -> Report:
        """One seed's run."""
        reporting = Reporting(experiment, context)
        run_files.check_resumed(experiment, context)
        self.check(experiment)
        if not self.opening_refuses:
            run_files.record(experiment, context)
        state, curve = run_files.load_state(context)
        with reporting.log.recording(), counting(context), self.opened(experiment, context, state) as run:
            if self.opening_refuses:
                run_files.record(experiment, context)  # now that nothing stands in the way
            advance(run, curve, context, self.closing)
            judged = None if context.stop else self._judged(experiment, context, run, curve)
            interrupted = judged is None
            if judged is None:
                details = {"dry_run": False} if self.tells_dry_run else {}
                judged = Outcome(details=details, warnings=run.warnings)
                context.emit(StageBegun("saving what was done"))
            outcome = replace(judged, tables=self.tables(run, curve, judged.tables))
            artefacts = run_files.write(context, outcome.tables, outcome.model)
            if not interrupted:  # what is the run's own is safe by now
                artefacts |= self.kept(run, context)
                run_files.forget_state(context)
        return reporting.report(self.kind(experiment), self.name, outcome, interrupted=interrupted, artefacts=artefacts)

    def _judged(self, experiment: Experiment, context: Context, run: R, curve: Curve) -> Outcome | None:
        """`judged`; None where the user asked for an end and it took too long."""
        context.emit(StageBegun("judging and measuring what came of it"))
        try:
            return self.judged(experiment, run)
        except GivenUp:
            run_files.save_state(context, run, curve)
            return None


def advance(run: Run, curve: Curve, context: Context, closing: Sequence[Part] = ()) -> None:
    """Go on to the end, or until asked to stop; the state is saved now and then. `closing`: what comes afterwards.

    A step that goes on too long after the user asked for an end is given up, and the run is not to be used any more: as
    it was saved before, so it can be gone on with.
    """
    saved, before = time.monotonic(), None
    context.emit(CourseAhead((*run.ahead, *closing)))
    while run.step < run.total and not context.stop:
        doing = run.doing
        if doing != before:
            if before is not None:  # a stage is finished: from here on it need not be done again
                run_files.save_state(context, run, curve)
                saved = time.monotonic()
            context.emit(StageBegun(doing or "training"))
            before = doing
        if context.directory is not None:
            context.directory.check()
        kind, step = run.ahead[0].kind if run.ahead else doing, run.step
        try:
            reports = run.advance(run.total if run.leaps else run.step + 1)
        except GivenUp:
            return
        context.emit(CourseAhead((*run.ahead, *closing), Part(kind, run.step - step)))
        for step, metrics in reports:
            curve.append((step, dict(metrics)))
            context.emit(EpochEnded(step, run.known_total, metrics, doing))
        if time.monotonic() - saved > run_files.SAVE_EVERY:
            run_files.save_state(context, run, curve)
            saved = time.monotonic()
    if context.stop or time.monotonic() - saved > _WORTH_SAVING:  # judging may take long, too
        run_files.save_state(context, run, curve)
