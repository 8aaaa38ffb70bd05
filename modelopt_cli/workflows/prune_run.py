"""One pruning of a torch module as a run: trained or loaded, then pruned and recovered, stage by stage.

A step is an epoch of training or recovery, or a pruning. What the module was before pruning and straight after it is
kept, so that all three can be judged on the same data at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.objective import Report
from modelopt_cli.workflows.model_run import RestorableRun
from modelopt_cli.workflows.prune_amounts import amount_for, stand_ins
from modelopt_cli.workflows.prune_phases import Marks, Phase, needs_training, phases
from modelopt_cli.workflows.pruned_model import PrunedModel
from modelopt_cli.workflows.torch_run import checkpoint_of

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.checkpoints import Checkpoint
    from modelopt_cli.pruning.schedules import Stage
    from modelopt_cli.results.report import Table
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.settings import TrainingSettings
    from modelopt_cli.training.trainer import Trainer


class PruneRun(RestorableRun):
    """Trains unless given a model, prunes by the pruning section, recovers; judged on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        monitor: str | None = None,
        state: Mapping[str, Any] | None = None,
        dense: Mapping[str, Any] | None = None,
        bare: bool = False,
        masks: Mapping[str, Any] | None = None,
    ) -> None:
        """`dense`: weights to start from (a state dict) in place of training, with their packed `masks`.

        `bare`: they come from a bare file, so its rules say which may go.
        """
        import torch

        from modelopt_cli.training.settings import TrainingSettings

        self._experiment, self._prepared, self._seed, self._monitor = experiment, prepared, seed, monitor
        self._training = experiment.training or TrainingSettings()
        self._pruning = experiment.require_pruning()
        torch.manual_seed(seed)
        module = experiment.require_model().build(prepared.shapes, seed)
        if dense is not None:
            module.load_state_dict(dense)
        self._module = module
        self._seconds = 0.0
        self.warnings: list[str] = []
        trains = dense is None and needs_training(experiment)
        self._trainer = self._new_trainer(self._training, seed)
        self.model = PrunedModel(experiment, self._trainer, bare=bare, masks=masks)
        self._plan(trains)
        self._place, self._opened, self._marks = 0, -1, Marks((), self._prune_to)
        self._rewound = self._trainer.state() if self._rewinds_to(0) else None
        if state is not None:
            self._load(state)
        self._note()

    def _plan(self, trains: bool, amount: float | None = None) -> None:
        """Set stages and phases; a budget of bytes is planned again once the trained weights are there."""
        settings = self._pruning
        self._amount = amount if amount is not None else amount_for(settings, self.model)
        self._stages: Sequence[Stage] = settings.schedule.stages(self._amount)
        self._phases = phases(settings, self._training, self._stages, trains=trains)

    def _new_trainer(self, settings: TrainingSettings, seed: int, hooks: Sequence[StepHook] = ()) -> Trainer:
        from modelopt_cli.core.device import choose
        from modelopt_cli.training.trainer import Trainer

        return Trainer(
            self._module,
            settings,
            self._prepared,
            seed=seed,
            device=choose(self._experiment.device),
            augment=self._experiment.require_data().augment,
            monitor=self._monitor,
            extra_metrics=self._experiment.evaluation.metrics,
            hooks=hooks,
        )

    def _note(self) -> None:
        """Steps done are counted; what is left follows from the phases."""
        left = sum(phase.steps for phase in self._phases[self._place :])
        if self._opened == self._place and self._place < len(self._phases):
            left -= self._trainer.epoch - self._phases[self._place].first
        self.total = self.step + left

    def advance(self, until: int) -> list[Report]:
        """Train, prune and recover up to step `until`."""
        start = time.perf_counter()
        reports: list[Report] = []
        while self.step < min(until, self.total):
            phase = self._phases[self._place]
            found = self._prune(phase) if phase.kind == "prune" else self._epoch(phase)
            self.step += 1
            self._note()
            reports.append((self.step, found))
        self._seconds += time.perf_counter() - start
        return reports

    def _epoch(self, phase: Phase) -> dict[str, float]:
        """One epoch of training, collecting or recovery."""
        if self._opened != self._place:
            self._opened = self._place
            self._open(phase)
        [(_, found)] = self._trainer.advance(self._trainer.epoch + 1)
        if self._trainer.stopped_early and not self._marks.done:
            self._trainer.forget_best()
        if phase.kind == "train" and self._rewinds_to(self._trainer.epoch):
            self._rewound = self._trainer.state()
        if self._trainer.epoch >= phase.settings.epochs or self._trainer.stopped_early:
            self._leave(phase)
        return {**found, "model.sparsity": self.model.sparsity}

    def _open(self, phase: Phase) -> None:
        """Begin a phase of epochs: the trainer it needs, at the epoch it begins with."""
        if phase.kind == "train":
            return
        if phase.kind == "collect":
            self.model.note("before")
            hooks: list[StepHook] = [self.model.meter, self.model.masking, self.model.earlier]
            self._trainer = self._new_trainer(phase.settings, derive(self._seed, "collect"), hooks)
            return
        stage = self._stages[phase.stage]
        self._marks = Marks(stage.marks[1:], self._prune_to)
        hooks = [self.model.meter, self._marks, self.model.masking, self.model.earlier]
        seed = self._seed if stage.rewind is not None else derive(self._seed, "recovery", phase.stage)
        self._trainer = self._new_trainer(phase.settings, seed, hooks)
        if stage.rewind is not None:
            if self._rewound is None:
                raise UsageError(
                    f"pruning.schedule.rewind is {stage.rewind}, but there is no such epoch: the model was loaded, or "
                    "its training ended before; set a lower one, 0 for the weights that it began with"
                )
            self._trainer.load_state(self._rewound)
            self._trainer.forget_best()  # of the epochs before, when the weights were dense
            self.model.masking.apply()
        self.model.trainer = self._trainer

    def _leave(self, phase: Phase) -> None:
        self._trainer.finish()
        self._trainer.forget_best()  # what the phase leaves is what goes on
        self.model.masking.apply()
        if phase.kind == "recover":
            self.model.end_round(phase.stage, recovered=True)
        self._place += 1

    def _rewinds_to(self, epoch: int) -> bool:
        return any(stage.rewind == epoch for stage in self._stages)

    def _prune(self, phase: Phase) -> dict[str, float]:
        """A stage's first pruning; the later ones come while it recovers."""
        if phase.stage == 0:
            self.model.note("before")
            if self._pruning.budget is not None and self._pruning.budget.size_bytes is not None:
                trains = any(each.kind == "train" for each in self._phases)
                metrics = stand_ins(self.full_metrics())
                checkpoint = checkpoint_of(self._experiment, self._prepared, self._module, metrics)
                self._plan(trains, self.model.amount_for_size(checkpoint))
        self.model.begin_round(phase.stage)
        self._prune_to(self._stages[phase.stage].marks[0][1])
        self._place += 1
        recovers = self._place < len(self._phases) and self._phases[self._place].kind == "recover"
        if not recovers:
            self.model.end_round(phase.stage, recovered=False)
        return {**self.model.quick_metrics(), "model.sparsity": self.model.sparsity}

    def _prune_to(self, share: float) -> None:
        """Prune to this share, or by the threshold; the state straight after the last pruning is kept."""
        threshold = self._pruning.threshold
        self.model.prune(share if threshold is None else threshold)
        self._trainer.forget_best()
        if share >= self._stages[-1].marks[-1][1] and self._marks.done:
            self.model.note("pruned")

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, its change by pruning, the model's size, the seconds that it took."""
        self._trainer.finish()
        self.model.masking.apply()
        judged = self.full_metrics()
        return {
            **judged,
            **self.model.sizes(),
            **self._file_sizes(stand_ins(judged)),
            "train.seconds": self._seconds,
            "train.epochs": float(self.step),
        }

    @property
    def amount(self) -> float | None:
        """The share of what may go that goes in the end; None for a threshold or a fixed structure."""
        return self._amount

    def _file_sizes(self, metrics: Mapping[str, float]) -> dict[str, float]:
        from modelopt_cli.models.checkpoints import file_sizes

        return {"model.compressed_bytes": float(file_sizes(self.checkpoint(metrics))[1])}

    def full_metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, and its change by pruning; empty when there is none."""
        return self.model.judge("validation") if self._prepared.validation is not None else {}

    def test_metrics(self) -> Mapping[str, float]:
        """The same on the test split; reads it once for each of the models that the report names."""
        return self.model.judge("test") if self._prepared.test is not None else {}

    def tables(self) -> dict[str, Table]:
        """stages, layers, rounds, and the sensitivity curve where it was measured."""
        return self.model.tables()

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The pruned model with its masks."""
        return self.model.with_masks(checkpoint_of(self._experiment, self._prepared, self._module, metrics))

    def dense_checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint | None:
        """The model before pruning, where it was trained here."""
        if not any(phase.kind == "train" for phase in self._phases):
            return None
        return self.model.with_state("before", checkpoint_of(self._experiment, self._prepared, self._module, metrics))

    def restore(self, trained: Checkpoint) -> None:
        """See the base class."""
        from modelopt_cli.models.packed import unpack_masks

        if not any(phase.kind == "train" for phase in self._phases):
            self.model.note("before")
        self._module.load_state_dict(trained.model.state_dict())
        self.model.masking.set(unpack_masks(trained.extra["masks"], self.model.masking.weights))

    def state(self) -> Any:
        """Everything that going on from here needs."""
        return {
            "trainer": self._trainer.state(),
            "place": self._place,
            "opened": self._opened,
            "step": self.step,
            "amount": self._amount,
            "trains": any(phase.kind == "train" for phase in self._phases),
            "rewound": self._rewound,
            "model": self.model.state(),
            "seconds": self._seconds,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._plan(state["trains"], state["amount"])
        self._place, self._rewound = state["place"], state["rewound"]
        self.step, self._seconds = state["step"], float(state["seconds"])
        self.model.load_state(state["model"])
        self._opened = state["opened"]
        if self._opened >= 0:  # a phase that has ended too: its trainer draws the next pruning's samples
            self._open(self._phases[self._opened])
        self._trainer.load_state(state["trainer"])
        if self._opened >= 0 and self._phases[self._opened].kind == "recover":
            steps = self._trainer.steps
            self._marks.skip(steps * self._trainer.epoch // self._trainer.epochs, steps)
