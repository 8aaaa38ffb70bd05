"""One pruning of a torch module as a run: trained or loaded, then pruned and recovered stage by stage, then judged.

A step is an epoch of training or recovery, or a pruning. The run holds the trainer at work, which holds the module.
What prunes it (masked.py, unit_pruned.py) is given the module and gives it back, or another one in its place. What the
module was before pruning and straight after it is kept, so that all three are judged on the same data at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.results.files import write_whole
from modelopt_cli.tuning.objective import Part, StepReport
from modelopt_cli.workflows.pruning.amounts import amount_for, stand_ins
from modelopt_cli.workflows.pruning.phases import Phase, PruningHook, needs_training, phases
from modelopt_cli.workflows.pruning.recovery_teacher import recovery_criterion
from modelopt_cli.workflows.runs.base import RestorableRun, checkpoint_of
from modelopt_cli.workflows.runs.torch import trainer_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.schedules import Stage
    from modelopt_cli.results.report import Table
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.training.settings import TrainingSettings
    from modelopt_cli.training.trainer import Trainer, TrainerState
    from modelopt_cli.workflows.pruning.masked import MaskedModel
    from modelopt_cli.workflows.pruning.unit_pruned import UnitPrunedModel

_DOING = {"train": "training", "collect": "collecting movement", "prune": "pruning by {}", "recover": "recovery"}
_COSTS: dict[str, tuple[tuple[tuple[str, float], ...], float | None]] = {
    "collect": ((("train", 1.0),), None),
    "recover": ((("train", 1.0),), None),
}
"""Of each kind of phase: what a unit of it costs before one was seen. See Part."""
_QUICK = ("accuracy", "r2")  # the metric that stands in the table of rounds beside the loss


class CourseState(TypedDict):
    """Where a saved run stands in its phases, and what it holds."""

    trainer: TrainerState
    place: int  # number of the phase that comes next or is under way
    opened: int  # number of the phase that was begun last, -1 before the first
    step: int
    amount: float | None
    trains: bool
    rewound: TrainerState | None  # after the epoch that lottery tickets go back to
    model: Any  # MaskedState or UnitPrunedState, as the structure is


class PruneState(TypedDict, total=False):
    """A saved run. Those of earlier versions have no `warnings`."""

    course: CourseState
    seconds: float
    warnings: list[str]


class PruneRun(RestorableRun):
    """Trains unless given a model, prunes by the pruning section, recovers; judged on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        state: PruneState | None = None,
        monitor: str | Sequence[str] | None = None,
        timed: bool = True,
        dense: nn.Module | None = None,
        warnings: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        bare: bool = False,
        cuts: Path | None = None,
    ) -> None:
        """`timed`: how long the model takes is one of the metrics.

        `dense`: the module to start from in place of training one, with the `warnings` and the `extra` of the
        checkpoint it came from. `bare`: its weights come from a bare file, so its rules say which may go. `cuts`: a
        folder where prunings of the same module share what their allocations measured.
        """
        import torch

        from modelopt_cli.training.settings import TrainingSettings

        self._experiment, self._prepared, self._seed = experiment, prepared, seed
        self._monitor, self._timed, self._cuts = monitor, timed, cuts
        self._training = experiment.training or TrainingSettings()
        self._settings = experiment.require_pruning()
        self._log = WarningLog(warnings if state is None else state.get("warnings", ()))
        self.answers: dict[str, Answers] = {}
        self._given = dense is not None or experiment.require_model().is_trained
        self._restored: list[str] | None = None  # warnings of the pruning that this run's model comes from
        self._seconds = 0.0 if state is None else float(state["seconds"])
        with self._log.recording():
            torch.manual_seed(seed)
            module: nn.Module = experiment.require_model().build(prepared.shapes, seed) if dense is None else dense
            trains = dense is None and needs_training(experiment)
            self.trainer = self._trainer(module, self._training, seed)
            self._calibrating = self.trainer  # draws the samples that are looked at
            self.model = self._pruned_model(module, extra, bare=bare, check=trains and state is None)
            self._plan(trains)
            self._phase, self._opened, self._hook = 0, -1, PruningHook((), self._prune_to)
            self._criterion: Criterion | None = None
            self._rewound = self.trainer.state() if self._rewinds_to(0) else None
            if state is not None:
                self._load_state(state["course"])
        self._count_steps()

    def _trainer(
        self,
        module: nn.Module,
        settings: TrainingSettings,
        seed: int,
        hooks: Sequence[StepHook] = (),
        criterion: Criterion | None = None,
    ) -> Trainer:
        return trainer_of(
            self._experiment,
            self._prepared,
            module,
            settings,
            seed=seed,
            monitor=self._monitor,
            hooks=hooks,
            criterion=criterion,
        )

    def _pruned_model(
        self, module: nn.Module, extra: Mapping[str, Any] | None, *, bare: bool, check: bool
    ) -> MaskedModel | UnitPrunedModel:
        """What prunes the module, by the structure that the file names."""
        from modelopt_cli.workflows.pruning.masked import MaskedModel
        from modelopt_cli.workflows.pruning.unit_pruned import UnitPrunedModel

        def samples(count: int) -> Sequence[Batch]:
            """Of a network that was given they are drawn by the data, so that all trials look at the same ones.

            What an allocation measured is theirs together then (cut_store.py). After a recovery the network is a
            trial's own, and so are its samples.
            """
            shared = self._given and self._calibrating.seed == self._seed
            seed = int(self._prepared.fingerprint[:15], 16) if shared else None
            return self._calibrating.samples(count, seed)

        loss, task = self.trainer.loss, self._prepared.task
        if isinstance(self._settings.structure, UnitStructure):
            return UnitPrunedModel(
                self._experiment,
                module,
                samples=samples,
                loss=loss,
                task=task,
                extra=extra,
                check=check,
                cuts=self._cuts,
            )
        return MaskedModel(
            self._experiment,
            module,
            samples=samples,
            loss=loss,
            task=task,
            validation_loss=lambda: self._quick_metrics()["validation.loss"],
            bare=bare,
            masks=(extra or {}).get("masks"),
        )

    def _plan(self, trains: bool, amount: float | None = None) -> None:
        """Set stages and phases; a budget of bytes is planned again once the trained weights are there."""
        from modelopt_cli.models.summary import count_parameters

        if amount is None:
            amount = amount_for(self._settings, self.model.counts[1], count_parameters(self.module))
        self.amount = amount  # of what may go, a share; None for a threshold or a fixed structure
        self._stages: Sequence[Stage] = self._settings.schedule.stages(amount)
        self._phases = phases(self._settings, self._training, self._stages, trains=trains)

    @property
    def module(self) -> nn.Module:
        """The one that is trained and pruned."""
        return self.trainer.module

    @property
    def trains(self) -> bool:
        """Whether the model is trained here, in place of being loaded."""
        return any(phase.kind == "train" for phase in self._phases)

    # Step by step

    def advance(self, until: int) -> list[StepReport]:
        """Train, prune and recover up to step `until`."""
        start = time.perf_counter()
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            phase = self._phases[self._phase]
            with self._log.recording():
                metrics = self._prune(phase) if phase.kind == "prune" else self._epoch(phase)
            self.step += 1
            self._count_steps()
            costs = {} if self.early_costs is None else self.early_costs.of(self.module)
            reports.append((self.step, {**metrics, **costs}))
        self._seconds += time.perf_counter() - start
        return reports

    def _count_steps(self) -> None:
        """Steps done are counted; what is left, and what comes next, follows from the phases."""
        left = sum(phase.steps for phase in self._phases[self._phase :])
        if self._opened == self._phase and self._phase < len(self._phases):
            left -= self.trainer.epoch - self._phases[self._phase].first
        self.total = self.step + left
        self.doing = ""
        if self._phase < len(self._phases):
            phase, stages = self._phases[self._phase], len(self._stages)
            which = f" (stage {phase.stage + 1} of {stages})" if stages > 1 and phase.stage >= 0 else ""
            self.doing = _DOING[phase.kind].format(self._settings.importance.name()) + which

    @property
    def ahead(self) -> list[Part]:
        """See the base class: epochs of a kind cost alike; a pruning costs what its importance asks for."""
        parts = []
        for number, phase in enumerate(self._phases[self._phase :], start=self._phase):
            steps = phase.steps
            if number == self._phase == self._opened:
                steps -= self.trainer.epoch - phase.first
            like, seconds = _COSTS.get(phase.kind, ((), None))
            counts = "" if phase.kind == "prune" else "batches"
            parts.append(Part(phase.kind, steps, like, seconds, counts))
        return parts

    def _epoch(self, phase: Phase) -> dict[str, float]:
        """One epoch of training, collecting or recovery."""
        if self._opened != self._phase:
            self._opened = self._phase
            self._open(phase)
        [(_, metrics)] = self.trainer.advance(self.trainer.epoch + 1)
        if self.trainer.stopped_early and not self._hook.done:
            self.trainer.forget_best()
        if phase.kind == "train" and self._rewinds_to(self.trainer.epoch):
            self._rewound = self.trainer.state()
        if self.trainer.epoch >= phase.settings.epochs or self.trainer.stopped_early:
            self._leave(phase)
        return {**metrics, **self.model.progress(self.module)}

    def _open(self, phase: Phase) -> None:
        """Begin a phase of epochs: the trainer it needs, at the epoch it begins with."""
        if phase.kind == "train":
            return
        if phase.kind == "collect":  # calibration goes on with the samples of the training before
            self.model.snapshots.keep("before", self.module)
            seed = derive(self._seed, "collect")
            self.trainer = self._trainer(self.module, phase.settings, seed, self.model.hooks())
            return
        stage = self._stages[phase.stage]
        self._hook = PruningHook(stage.marks[1:], self._prune_to)
        seed = self._seed if stage.rewind is not None else derive(self._seed, "recovery", phase.stage)
        before = self.model.snapshots.module
        self._criterion = recovery_criterion(self._experiment, self._prepared, lambda: before("before"), seed)
        hooks = self.model.hooks(self._hook)
        self.trainer = self._calibrating = self._trainer(self.module, phase.settings, seed, hooks, self._criterion)
        if stage.rewind is not None:
            if self._rewound is None:
                raise UsageError(
                    f"pruning.schedule.rewind is {stage.rewind}, but there is no such epoch: the model was loaded, or "
                    "its training ended before; set a lower one, 0 for the weights that it began with"
                )
            self.trainer.load_state(self._rewound)
            self.trainer.forget_best()  # of the epochs before, when the weights were dense
            self.model.settle()

    def _leave(self, phase: Phase) -> None:
        if self._criterion is not None:
            self._criterion.close()
        self.trainer.finish()
        self.trainer.forget_best()  # what the phase leaves is what goes on
        self.model.settle()
        if phase.kind == "recover":
            self._end_round(phase, recovered=True)
        self._phase += 1

    def _rewinds_to(self, epoch: int) -> bool:
        return any(stage.rewind == epoch for stage in self._stages)

    def _prune(self, phase: Phase) -> dict[str, float]:
        """A stage's first pruning; the later ones come while it recovers."""
        if phase.stage == 0:
            self.model.snapshots.keep("before", self.module)
            if self._settings.budget is not None and self._settings.budget.size_bytes is not None:
                self._plan(self.trains, self.model.amount_for_size(self._stand_in(self.full_metrics())))
        self.model.snapshots.begin_round(phase.stage)
        self._prune_to(self._stages[phase.stage].marks[0][1])
        self._phase += 1
        recovers = self._phase < len(self._phases) and self._phases[self._phase].kind == "recover"
        if not recovers:
            self._end_round(phase, recovered=False)
        return {**self._quick_metrics(), **self.model.progress(self.module)}

    def _prune_to(self, share: float) -> None:
        """Prune to this share, or by the threshold; the state straight after the last pruning is kept."""
        threshold = self._settings.threshold
        module, kept = self.model.prune(self.module, share if threshold is None else threshold)
        self._go_on_with(module)
        self.trainer.shrink(kept)
        if share >= self._stages[-1].marks[-1][1] and self._hook.done:
            self.model.snapshots.keep("pruned", module)

    def _go_on_with(self, module: nn.Module) -> None:
        """Another module stands in the place of the one so far: a graph that was captured of it."""
        if module is not self.module:
            self.trainer = self._calibrating = self._trainer(module, self._training, self._seed)

    def _end_round(self, phase: Phase, *, recovered: bool) -> None:
        row = {**self.model.round_row(self.module), "recovered": recovered, **self._quick_metrics()}
        self.model.snapshots.end_round(phase.stage, row)

    def _quick_metrics(self) -> dict[str, float]:
        """The loss, and the task's first metric, on the validation split (without one, on the train split)."""
        split = "validation" if self.trainer.has("validation") else "train"
        metrics = self.trainer.evaluate(split, [f"{split}.loss", *(f"{split}.{name}" for name in _QUICK)])
        return {f"validation.{name.partition('.')[2]}": value for name, value in metrics.items()}

    # What came of it

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, its change by pruning, the model's size, the seconds that it took."""
        self.trainer.finish()
        self.model.settle()
        judged = self.full_metrics()
        return {
            **judged,
            **self.costs(judged),
            "train.seconds": self._seconds,
            "train.epochs": float(self.step),
        }

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """The model's sizes, and how long it takes where that is wanted. `judged`: its metrics on validation."""
        sizes = self.model.sizes(self._stand_in(judged))
        return {**sizes, **(self.model.speed(self.module) if self._timed else {})}

    def full_metrics(self) -> dict[str, float]:
        """Every metric on the validation split, and its change by pruning; empty when there is none."""
        return self._judge("validation")

    def test_metrics(self) -> dict[str, float]:
        """The same on the test split; reads it once for each of the models that the report names."""
        return self._judge("test")

    def _judge(self, split: str) -> dict[str, float]:
        if getattr(self._prepared, split) is None:
            return {}
        with self._log.recording():

            def measure(module: nn.Module) -> dict[str, float]:
                keep = partial(self.answers.__setitem__, split) if module is self.module else None
                return self.trainer.evaluator.measure(module, split, keep=keep)

            return self.model.snapshots.judge(self.module, measure)

    @property
    def warnings(self) -> list[str]:
        """What training told, and what pruning could not do or did in its place."""
        return [*self._log.texts, *(self.model.warnings if self._restored is None else self._restored)]

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return list(self.model.noise)

    @property
    def details(self) -> Mapping[str, object]:
        """See the base class."""
        return self.model.details

    def tables(self) -> dict[str, Table]:
        """stages, layers, rounds, and the sensitivity curve where it was measured."""
        return self.model.tables(self.module)

    # What is saved

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The pruned model with what was done to it."""
        return replace(self.model.recorded(self._plain_checkpoint(metrics)), warnings=self.warnings)

    def _plain_checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        return checkpoint_of(self._experiment, self._prepared, self.module, metrics)

    def _stand_in(self, judged: Mapping[str, float]) -> Checkpoint:
        """Of the model as it is, with numbers in place of metrics, by which its size is known."""
        return self._plain_checkpoint(stand_ins(judged))

    def dense_checkpoint(self) -> Checkpoint | None:
        """The model before pruning, where it was trained here."""
        snapshots = self.model.snapshots
        module = snapshots.module("before") if self.trains else None
        if module is None:
            return None
        return replace(self._plain_checkpoint(snapshots.metrics("before")), model=module, warnings=self._log.texts)

    def write_program(self, path: Path) -> dict[str, str]:
        """Write the model as a program without code, where units were taken out: as masks, it would not be smaller.
        It takes raw inputs, as what `modelopt export` writes.

        A program that would take batches of one size alone is not written.
        """
        from modelopt_cli.models.files.exporting import about_raw_model, exported_bytes
        from modelopt_cli.training.raw_inputs import WithPreprocessing, about_raw, raw_example

        if not isinstance(self._settings.structure, UnitStructure):
            return {}
        data = self._prepared
        preprocessing, task = data.preprocessing, data.shapes.task
        raw = about_raw(preprocessing, task, data.shapes.outputs)
        about = about_raw_model(data.shapes, data.label_names, raw, preprocessing.to_plain())
        program = WithPreprocessing(self.module, preprocessing, task)
        device = next((parameter.device for parameter in self.module.parameters()), None)
        content, dynamic = exported_bytes(program, raw_example(preprocessing, 2).to(device), path.suffix, about)
        if not dynamic:
            return {}  # the model's warnings say why
        write_whole(path, lambda stream: stream.write(content))
        return {"program": str(path)}

    def restore(self, trained: Checkpoint) -> None:
        """See the base class."""
        if not self.trains:
            self.model.snapshots.keep("before", self.module)
        self._go_on_with(self.model.restore(self.module, trained))
        self._restored = [text for text in trained.warnings if text not in self._log.texts]

    def state(self) -> PruneState:
        """Everything that going on from here needs."""
        course: CourseState = {
            "trainer": self.trainer.state(),
            "place": self._phase,
            "opened": self._opened,
            "step": self.step,
            "amount": self.amount,
            "trains": self.trains,
            "rewound": self._rewound,
            "model": self.model.state(self.module),
        }
        return {"course": course, "seconds": self._seconds, "warnings": self._log.texts}

    def _load_state(self, course: CourseState) -> None:
        self._plan(course["trains"], course["amount"])
        self._phase, self._rewound = course["place"], course["rewound"]
        self.step = course["step"]
        self._go_on_with(self.model.load_state(self.module, course["model"]))
        self._opened = course["opened"]
        if self._opened >= 0:  # a phase that has ended too: its trainer draws the next pruning's samples
            self._open(self._phases[self._opened])
        self.trainer.load_state(course["trainer"])
        if self._opened >= 0 and self._phases[self._opened].kind == "recover":
            steps = self.trainer.steps
            self._hook.skip(steps * self.trainer.epoch // self.trainer.epochs, steps)
