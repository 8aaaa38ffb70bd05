"""Models made smaller on trial: each pruned from the given one, recovered as far as is asked, judged on validation.

All tries have one seed, so that whatever looks at calibration samples looks at the same ones. What was tried is kept in
the run's folder, and a run that is gone on with does not try it again.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.core.work import GivenUp
from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.results.files import write_json
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.tuning.objective import Part
from modelopt_cli.workflows.compression.target.demands import Demands, MaxDrop, is_latency
from modelopt_cli.workflows.compression.target.settings import Recovery, Setting, Start
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared.context import Context, CourseAhead, EpochEnded, StageBegun

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.compression.target.quantized import Int8
    from modelopt_cli.workflows.compression.target.timing import Times

KEPT = ".tries.json"
_BUDGETS = {"model.parameters": "parameters", "model.size_bytes": "parameters", "model.file_bytes": "size_bytes"}
"""The budget of a pruning whose shares go with a cost; of the others that of FLOPs."""
_CLOSING = Part("judging", seconds=4.0)
_MAIN = ("accuracy", "r2", "loss")


@dataclass(frozen=True)
class Given:
    """The model that is to be made smaller."""

    module: nn.Module
    extra: Mapping[str, Any] | None  # of the file it came in
    bare: bool
    metrics: Mapping[str, float]  # on validation
    costs: Mapping[str, float]

    @property
    def main(self) -> str:
        """The metric by which a model is spoken of."""
        return next(f"validation.{name}" for name in _MAIN if f"validation.{name}" in self.metrics)


@dataclass
class Try:
    """One smaller model. What it is measured by is empty where it could not be made: `problem` says why."""

    number: int
    what: str
    share: float
    setting: Setting
    recovery: Recovery
    final: bool = False  # it may be the model in the end, so its run is kept
    costs: dict[str, float] = field(default_factory=dict)
    beside: dict[str, float] = field(default_factory=dict)
    """The given model's costs, times measured in turns with this one's."""
    before: dict[str, float] = field(default_factory=dict)  # on validation, straight after pruning
    after: dict[str, float] = field(default_factory=dict)  # after recovery; empty: there was none
    epochs: int = 0
    seconds: float = 0.0
    problem: str = ""
    verdict: str = ""
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list, repr=False)
    """What it reported epoch by epoch."""
    run: PruneRun | None = field(default=None, repr=False, compare=False)
    int8: Int8 | None = field(default=None, repr=False, compare=False)
    """What it was quantized to, where that is the model."""
    form: str = "float"
    float_metrics: dict[str, float] = field(default_factory=dict)  # of a model that was quantized: before that

    @property
    def metrics(self) -> Mapping[str, float]:
        """On validation, as it is."""
        return self.after or self.before

    @property
    def made(self) -> bool:
        """Whether there is such a model."""
        return not self.problem

    def ratio(self, metric: str) -> float:
        """What it costs, in shares of what the given model does."""
        return self.costs[metric] / self.beside[metric]


class Stopped(Exception):  # noqa: N818  (no error: the user asked for it)
    """The user asked for an end between two tries, or within one."""


class Tries:
    """Makes models on trial. `all`: those that were made, in order."""

    def __init__(
        self,
        start: Start,
        prepared: Prepared,
        given: Given,
        demands: Demands,
        context: Context,
        *,
        most: int,
        timeout: float | None = None,
        timing: Callable[[nn.Module | bytes], Times],
    ) -> None:
        """`timing`: metrics of the given model and another, timed in turns. No try begins after `timeout` seconds."""
        self._start, self._prepared, self.given, self.demands = start, prepared, given, demands
        self._context, self._timing = context, timing
        self._most, self._ends = most, None if timeout is None else time.monotonic() + timeout
        self.all: list[Try] = []
        self.quantizes = start.experiment.quantization is not None
        self._alone: Mapping[str, float] = {}  # what the given model costs when it is quantized
        self._kept: list[dict[str, Any]] = self._read()
        self.budget = _BUDGETS.get(demands.minimized if demands.target is None else demands.target.metric, "flops")
        if self.quantizes and self.budget == "size_bytes":
            self.budget = "parameters"  # bytes of a model.pt tell little of those of an int8 file

    # Whether to go on

    def left(self, reserve: int = 0) -> int:
        """How many tries there may still be, but for `reserve`; none when the time is over."""
        over = self._ends is not None and time.monotonic() >= self._ends
        return 0 if over else max(0, self._most - reserve - len(self.all))

    @property
    def out_of_time(self) -> bool:
        """Whether the time limit ended the search."""
        return self._ends is not None and time.monotonic() >= self._ends

    # One try

    def attempt(
        self,
        what: str,
        share: float,
        setting: Setting,
        recovery: Recovery,
        *,
        if_needed: bool = False,
        final: bool = False,
    ) -> Try:
        """A model with this share left. `if_needed`: it recovers only where it drops by more than it may without.
        `final`: it is kept, since it may be the one in the end.

        Raises Stopped where the user asked for an end.
        """
        if self._context.stop:
            raise Stopped
        share = float(f"{share:.4g}")
        one = Try(len(self.all) + 1, what, share, setting, recovery, final)
        if self._remembered(one):
            self.all.append(one)
            return one
        text = f"try {one.number} of at most {self._most}: {self.budget} {share:.1%}, {setting.name}"
        self._context.emit(StageBegun(f"{text}, {_RECOVERED[recovery]}"))
        self._course(recovery, None)
        began = time.perf_counter()
        try:
            self._make(one, if_needed=if_needed)
        except (UsageError, TrialError) as error:
            one.problem = str(error)
        except GivenUp:
            raise Stopped from None
        one.seconds = time.perf_counter() - began
        self.all.append(one)
        self._keep()
        self._course("short", Part(recovery, 1.0))
        return one

    def again(self, one: Try) -> PruneRun:
        """The run of a try that was made, also where it was made before the run was stopped. Raises Stopped."""
        if one.run is None:
            self._context.emit(StageBegun(f"try {one.number} once more: {one.setting.name}"))
            one.curve.clear()
            run = self._opened(one)
            self._advance(one, run, run.total)
            one.run = run
            self._quantize(one, run)
        return one.run

    def _make(self, one: Try, *, if_needed: bool) -> None:
        run = self._opened(one)
        epochs = self._start.epochs(one.recovery)
        rounds, done = one.recovery == "full" and self._start.schedule is not None, False
        if not rounds:
            self._advance(one, run, run.step + 1)
            one.before = run.trainer.evaluate("validation")
            done = if_needed and self.demands.allowed(one.before, self.given.metrics)
        if epochs and not done:
            self._advance(one, run, run.total)
            run.trainer.finish()
            run.model.settle()
            one.after, one.epochs = run.trainer.evaluate("validation"), run.step - 1
        one.costs = dict(run.costs(one.metrics))
        one.beside = dict(self.given.costs)
        if any(map(is_latency, self.demands.costs)):
            beside, own = self._timing(run.module)
            one.beside |= beside
            one.costs |= own
        if one.final:
            one.run = run
            self._quantize(one, run)
        else:
            one.costs = self.foreseen(one.costs)

    def _quantize(self, one: Try, run: PruneRun) -> None:
        """Where the file has a quantization section, the int8 file is the model, unless it loses too much."""
        if not self.quantizes:
            return
        from modelopt_cli.workflows.compression.target.quantized import better, quantized

        self._context.emit(StageBegun(f"try {one.number}: quantizing"))
        start = self._start.experiment
        int8 = quantized(start, self._prepared, run, self.given.module, self.demands, self._timing)
        if better(self.demands, int8, one.metrics, one.costs, self.given.metrics, one.beside):
            one.form, one.int8, one.float_metrics = "int8", int8, dict(one.metrics)
            one.costs |= {name: int8.costs[name] for name in one.costs if name in int8.costs}
            one.after = dict(int8.metrics)

    def foresee(self, alone: Try) -> None:
        """From here on costs of models that are not quantized are those that they would have: `alone` is the given
        model after quantization.
        """
        self._alone = alone.costs

    def foreseen(self, costs: Mapping[str, float]) -> dict[str, float]:
        """What a model of these costs has once it is quantized: bytes go with those of its tensors, times in
        proportion.
        """
        if not self._alone:
            return dict(costs)
        given, tensors = self.given.costs, "model.size_bytes"
        shares = {name: self._alone[name] / given[name] for name in costs if given.get(name) and name in self._alone}
        left = {name: value * shares.get(name, 1.0) for name, value in costs.items()}
        if "model.file_bytes" in shares:
            taken_out = (given[tensors] - costs[tensors]) * shares[tensors]
            left["model.file_bytes"] = max(self._alone["model.file_bytes"] - taken_out, left[tensors])
        return {name: value * (_SLACK if name.endswith("_bytes") else 1.0) for name, value in left.items()}

    def experiment(self, one: Try) -> Experiment:
        """The experiment that a try is a pruning of."""
        values: dict[str, Any] = {**one.setting.values, "pruning.budget": {self.budget: f"{100 * one.share:.6g}%"}}
        epochs = self._start.epochs(one.recovery)
        if epochs:
            values["pruning.recovery.epochs"] = epochs
        else:
            values = {path: value for path, value in values.items() if not path.startswith("pruning.recovery")}
            values["pruning.recovery"] = None
        if one.recovery == "full" and self._start.schedule is not None:
            values["pruning.schedule"] = self._start.schedule
        return self._start.experiment.with_values(values)

    def _opened(self, one: Try) -> PruneRun:
        experiment, given = self.experiment(one), self.given
        return PruneRun(
            experiment,
            self._prepared,
            seed=experiment.seed,
            dense=duplicate(given.module),
            extra=given.extra,
            bare=given.bare,
            timed=False,
        )

    def _advance(self, one: Try, run: PruneRun, until: int) -> None:
        """Up to this step, each told of. Raises Stopped."""
        while run.step < min(until, run.total):
            if self._context.stop:
                raise Stopped
            doing = run.doing
            for step, metrics in run.advance(run.step + 1):
                one.curve.append((step, dict(metrics)))
                self._context.emit(EpochEnded(step, run.known_total, metrics, doing))

    def _course(self, recovery: Recovery, done: Part | None) -> None:
        """Tell what is left: tries that are cheap, then those that recover for all their epochs."""
        left = max(0, self._most - len(self.all))
        full = min(left, FULL)
        times = max(1.0, self._start.full / max(self._start.short, 1))
        parts = [Part("short", left - full), Part("full", full, like=(("short", times),)), _CLOSING]
        if recovery == "full":
            parts = parts[1:]
        self._context.emit(CourseAhead(tuple(part for part in parts if part.units), done))

    # What was tried before

    def _read(self) -> list[dict[str, Any]]:
        directory = self._context.directory
        if directory is None or not self._context.resume:
            return []
        try:
            kept: list[dict[str, Any]] = json.loads(directory.path_of(KEPT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return kept

    def _keep(self) -> None:
        directory = self._context.directory
        if directory is not None:
            write_json(directory.path_of(KEPT), [_plain(one) for one in self.all])
            self._context.stop.kept = f"what came of {len(self.all)} tries"

    def forget(self) -> None:
        """The run is complete: there is nothing to go on with."""
        if self._context.directory is not None:
            with contextlib.suppress(OSError):
                self._context.directory.path_of(KEPT).unlink()

    def _remembered(self, one: Try) -> bool:
        """Take over what came of the same try before the run was stopped."""
        if one.number > len(self._kept):
            return False
        kept, own = self._kept[one.number - 1], _plain(one)
        if any(kept.get(name) != own[name] for name in ("share", "setting", "values", "recovery")):
            self._kept = []  # from here on the search goes another way
            return False
        for name in _RESULTS:
            setattr(one, name, kept[name])
        return True

    # What there is to show

    def table(self) -> Table:
        """A row for every try."""
        return Table.from_records([self._row(one) for one in self.all])

    def _row(self, one: Try) -> dict[str, Cell]:
        metric = self.demands.minimized if self.demands.target is None else self.demands.target.metric
        dropping = self.demands.drops[0].metric if self.demands.drops else self.given.main
        row: dict[str, Cell] = {
            "try": one.number,
            "what": one.what,
            "setting": one.setting.name,
            "budget": f"{self.budget} {one.share:.3%}",
        }
        for name in dict.fromkeys([metric, self.demands.minimized]):
            row[name] = one.costs.get(name)
            row[name + RATIO] = one.ratio(name) if name in one.costs else None
        row["drop before recovery"] = self._drop(dropping, one.before)
        row["drop"] = self._drop(dropping, one.after)
        if self.quantizes:
            row["form"] = one.form if one.final else None
        return {**row, "epochs": one.epochs, "seconds": one.seconds, "verdict": one.verdict or one.problem}

    def _drop(self, metric: str, metrics: Mapping[str, float]) -> float | None:
        return MaxDrop(metric, 0.0).drop(metrics, self.given.metrics) if metrics else None


_RESULTS = ("costs", "beside", "before", "after", "epochs", "seconds", "problem", "form", "float_metrics")
_SLACK = 1.05  # scales and zero points take a larger share of a smaller file
FULL = 5
"""At most so many models are recovered for all their epochs, of those that are left in the end."""
_RECOVERED = {"none": "not recovered", "short": "recovered shortly", "full": "recovered for all epochs"}


def _plain(one: Try) -> dict[str, Any]:
    """What is kept of a try."""
    return {
        "what": one.what,
        "share": one.share,
        "setting": one.setting.name,
        "values": json.loads(json.dumps(dict(one.setting.values))),
        "recovery": one.recovery,
        **{name: getattr(one, name) for name in _RESULTS},
    }
