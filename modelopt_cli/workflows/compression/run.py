"""A whole compression as one run: its steps are the steps of its stages, one stage after the other.

Who is finished lies in the stage cache. A command leaves out the stages that are there already. A trial of a search
takes their models too, and reports their curves again as steps of its own, so that trials compare at the same step
whoever of them trained the model that they share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.results.report import Table
from modelopt_cli.tuning.objective import Part, StepReport
from modelopt_cli.workflows.compression import models, opening
from modelopt_cli.workflows.compression.quantized_file import QuantizedFile
from modelopt_cli.workflows.compression.stages import digests, plan_stages
from modelopt_cli.workflows.runs.base import RestorableRun
from modelopt_cli.workflows.runs.early_costs import EarlyCosts
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.compression.stage_cache import StageCache, StageRecord
    from modelopt_cli.workflows.compression.stages import Stage
    from modelopt_cli.workflows.quantization.run import QuantizeRun
    from modelopt_cli.workflows.runs.base import ModelRun

    Finish = Callable[[Stage, Experiment, ModelRun], "FinishedStage"]
    """(stage, its experiment, its finished run) -> what came of it."""


@dataclass(frozen=True)
class FinishedStage:
    """What came of a stage. `judged`: metrics of each row that it has in the table of stages, its model's last.

    `write`: writes what else there is to keep into the stage's folder.
    """

    checkpoint: Checkpoint
    judged: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    write: Callable[[Path], None] | None = None


class CompressState(TypedDict):
    """Where a saved run stands; finished stages are in the cache."""

    number: int  # of the stage under way, or next
    step: int  # of the whole run
    repeated: int  # steps of that stage's curve that were reported again
    curve: list[tuple[int, dict[str, float]]]  # of that stage so far
    seconds: float  # that it took so far
    run: Any  # the state of its run; None: it has not begun
    warnings: list[str]


class CompressRun(RestorableRun):
    """One stage after the other, unless the cache has it; the model is the last stage's."""

    def __init__(
        self,
        experiment: Experiment,
        cache: StageCache,
        *,
        trial: bool = False,
        left_out: int | None = None,
        wanted: Sequence[str] | None = None,
        state: CompressState | None = None,
        finish: Finish | None = None,
    ) -> None:
        """`trial`: it is one of a search.

        `left_out`: of so many stages at the beginning no steps are reported where the cache has them; None: of all.
        `wanted`: metrics that are asked for; None: all. `finish`: how a finished stage is judged; None: not at all.
        """
        self.experiment, self._cache, self._trial = experiment, cache, trial
        self._wanted, self._finish_stage = wanted, finish
        self._log = WarningLog(() if state is None else state["warnings"])
        with self._log.recording():
            self.prepared = data_cache.prepared_data(experiment)
            self.stages = plan_stages(experiment, trial=trial)
            self.digests = digests(self.stages)
        self._left_out = len(self.stages) if left_out is None else left_out
        self.models = models.StageModels(experiment, self.prepared, self.stages, self._log, wanted=wanted)
        # Also without a stopper: a search whose time is over stops trials, too.
        self.early_costs = EarlyCosts(experiment, self.prepared, wanted) if trial else None
        self.taken: list[str] = []  # names of stages that the cache had
        self._number, self._repeating = 0, list[dict[str, float]]()
        self._repeated: dict[str, float] = {}  # the last of them that was reported
        self._run: ModelRun | None = None
        self._curve: list[tuple[int, dict[str, float]]] = []
        self._seconds = 0.0  # that the stage under way has taken
        if state is not None:
            self._load_state(state)
        else:
            self._next_stage()
        self._count()

    # Step by step

    def advance(self, until: int) -> list[StepReport]:
        """Go on up to step `until`, over the borders of stages."""
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            with self._log.recording():
                metrics = self._repeat() if self._repeating else self._take_step()
            self._count()
            reports.append((self.step, metrics))
        return reports

    def _repeat(self) -> dict[str, float]:
        """The next report of a stage that another run has computed."""
        metrics = self._repeated = self._repeating.pop(0)
        self.step += 1
        if not self._repeating:
            record = self._record(self._number)
            assert record is not None
            self._take(record)
        return metrics

    def _take_step(self) -> dict[str, float]:
        """A step of the stage under way, which is begun where it has not."""
        run, start = self._run or self._open(), time.perf_counter()
        last: dict[str, float] = {}
        for _, metrics in run.advance(run.step + 1):
            last = dict(metrics)
        self._seconds += time.perf_counter() - start
        self.step += 1
        module = _module_of(run)
        last |= {} if self.early_costs is None or module is None else self.early_costs.of(module)
        self._curve.append((run.step, last))
        if run.step >= run.total:
            self._finish(run)
        return last

    def _open(self, state: Any = None) -> ModelRun:
        """Begin the stage's run, or go on with it."""
        stage = self.stages[self._number]
        experiment = stage.after(self.models.path_before(self._number))
        self._run = opening.open_stage(
            stage,
            experiment,
            folder=self._cache.folder,
            before=self.models.before(self._number),
            dense=self.models.reference,
            wanted=self._wanted,
            state=state,
        )
        return self._run

    def _finish(self, run: ModelRun) -> None:
        """Judge and keep what the stage has become."""
        stage, start = self.stages[self._number], time.perf_counter()
        if self._finish_stage is None:
            finished = FinishedStage(run.checkpoint(run.metrics()))
        else:
            finished = self._finish_stage(stage, stage.after(self.models.path_before(self._number)), run)
        self._seconds += time.perf_counter() - start

        quantized = QuantizedFile.of(cast("QuantizeRun", run)) if stage.name == "quantize" else None

        def write(folder: Path) -> None:
            if quantized is not None:
                quantized.save(folder)
            if finished.write is not None:
                finished.write(folder)

        record = self._cache.keep(
            self.digests[self._number],
            finished.checkpoint,
            self._curve,
            self._seconds,
            judged=finished.judged,
            own=stage.own,
            more=write,
        )
        self.models.add(record, finished.checkpoint)
        run.close()
        self._move_on()

    def _take(self, record: StageRecord) -> None:
        """The stage under way is finished already."""
        self.taken.append(self.stages[self._number].name)
        self.models.add(record)
        self._move_on()

    def _move_on(self) -> None:
        self._number, self._run, self._curve, self._seconds = self._number + 1, None, [], 0.0
        self._next_stage()

    def _next_stage(self) -> None:
        """Past the stages that the cache has, or to the first one whose steps are to be reported."""
        while self._number < len(self.stages):
            record = self._record(self._number)
            if record is None:
                return
            if self._number >= self._left_out and record.curve:
                self._repeating = [dict(metrics) for _, metrics in record.curve]
                return
            self.taken.append(self.stages[self._number].name)
            self.models.add(record)
            self._number += 1

    def _record(self, number: int) -> StageRecord | None:
        return self._cache.record(self.digests[number], own=self.stages[number].own)

    def _count(self) -> None:
        """How many steps there are, as far as one can know, and what the next one is about."""
        self.total = self.step + int(sum(part.units for part in self.ahead))
        self.doing = ""
        if self._number < len(self.stages):
            stage = self.stages[self._number]
            inner = "" if self._run is None or self._run.doing in ("", stage.name) else f": {self._run.doing}"
            self.doing = f"{stage.name}{inner}"

    @property
    def ahead(self) -> list[Part]:
        """See the base class; a part for each stage."""
        parts: list[Part] = []
        for number, stage in enumerate(self.stages[self._number :], start=self._number):
            if number == self._number and self._repeating:
                parts.append(Part(f"{stage.name} again", len(self._repeating), seconds=0.01))
            elif number == self._number and self._run is not None:
                parts.append(Part(stage.name, self._run.total - self._run.step))
            else:
                parts.append(Part(stage.name, opening.planned_steps(stage)))
        return parts

    # What came of it

    @property
    def finished(self) -> bool:
        """Whether all stages are."""
        return self._number >= len(self.stages)

    def metrics(self) -> Mapping[str, float]:
        """The last model's on the validation split, their change since the first, costs, ratios of costs, seconds."""
        if self._repeating:  # it was stopped before it came to a model of its own
            return {**self._repeated, "train.seconds": self._seconds, "train.epochs": float(self.step)}
        judged = self.full_metrics()
        seconds = sum(record.seconds for record in self.models.records) + self._seconds
        return {**judged, **self.costs(judged), "train.seconds": seconds, "train.epochs": float(self.step)}

    @property
    def keepable(self) -> bool:
        """See the base class."""
        return not self._repeating

    def full_metrics(self) -> dict[str, float]:
        """See the base class."""
        return self._judge("validation")

    def test_metrics(self) -> dict[str, float]:
        """See the base class."""
        return self._judge("test")

    def _judge(self, split: str) -> dict[str, float]:
        with self._log.recording():
            if self._run is None:
                return self.models.judge_last(split)
            run = self._run
            metrics = dict(run.full_metrics() if split == "validation" else run.test_metrics())
            return {**metrics, **self.models.changes(metrics, split)}

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """What the last model costs, and what share that is of what the first one cost."""
        with self._log.recording():
            return self.models.costs(None if self._run is None else self._run.checkpoint(judged))

    @property
    def answers(self) -> Mapping[str, Answers]:  # type: ignore[override]  # of the last model
        """See the base class."""
        return self.models.answers

    @property
    def warnings(self) -> list[str]:
        """What the stages told, each with its name, and what their figures do not show."""
        texts = [*self._log.texts, *self.models.warnings]
        if self._run is not None:
            texts += [f"{self.stages[self._number].name}: {text}" for text in self._run.warnings]
        return list(dict.fromkeys(texts))

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return self.models.noise

    @property
    def details(self) -> Mapping[str, object]:
        """See the base class."""
        return self.models.details

    def tables(self) -> dict[str, Table]:
        """stages: a row for each model; latency: how long each takes."""
        with self._log.recording():
            return self.models.tables()

    def curve_table(self) -> Table:
        """A row a step of each stage that has come so far."""
        curves = [record.curve for record in self.models.records] + ([self._curve] if self._curve else [])
        named = zip(self.stages, curves, strict=False)
        return Table.from_records(
            [{"stage": stage.name, "step": step, **metrics} for stage, curve in named for step, metrics in curve]
        )

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The last model of floating point; a trial's holds the quantized file, too."""
        if self._run is not None:
            return self._run.checkpoint(metrics)
        return self.models.checkpoint(metrics, whole=self._trial)

    def kept_files(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write the quantized file beside the model, where there is one; what -> path."""
        return self.models.write_quantized(folder, stem)

    def restore(self, trained: Checkpoint) -> None:
        """The last model is one that was made before from the same setting and seed; earlier stages are made anew."""
        self.make_shared()
        self._repeating, self._run = [], None
        self.models.restore(trained)
        self._number = len(self.stages)
        self._count()

    def make_shared(self) -> None:
        """Make, or take, the stages that trials share."""
        shared = next((number for number, stage in enumerate(self.stages) if stage.own), len(self.stages))
        while self._number < shared:
            self.advance(self.step + 1)

    def close(self) -> None:
        """See the base class."""
        if self._run is not None:
            self._run.close()

    def discard(self) -> None:
        """Remove what is this trial's alone; it goes on no more."""
        self._cache.forget_own()

    # What is saved

    def state(self) -> CompressState:
        """See the base class."""
        record = self._record(self._number) if self._repeating else None
        return {
            "number": self._number,
            "step": self.step,
            "repeated": 0 if record is None else len(record.curve) - len(self._repeating),
            "curve": [(step, dict(metrics)) for step, metrics in self._curve],
            "seconds": self._seconds,
            "run": None if self._run is None else self._run.state(),
            "warnings": self._log.texts,
        }

    def _load_state(self, state: CompressState) -> None:
        while self._number < state["number"]:
            record = self._record(self._number)
            if record is None:
                raise UsageError(
                    f"the stage {self.stages[self._number].name} of this run is no longer in {self._cache.folder}, so "
                    "that it cannot be gone on with; run it anew, without --resume"
                )
            self._number += 1
            self.models.add(record)
        self.step = int(state["step"])
        self._curve = [(int(step), dict(metrics)) for step, metrics in state["curve"]]
        self._seconds = float(state["seconds"])
        if state["run"] is not None:
            run = self._open(state["run"])
            if run.step >= run.total:  # stopped after the very last step
                self._finish(run)
            return
        self._next_stage()
        if self._repeating:
            done = state["repeated"]
            self._repeated = self._repeating[done - 1] if done else {}
            self._repeating = self._repeating[done:]


def _module_of(run: ModelRun) -> nn.Module | None:
    """The module that is trained or pruned; None: there is none yet."""
    trainer = getattr(run, "trainer", None)
    module: nn.Module | None = getattr(run, "module", None) if trainer is None else trainer.module
    return module
