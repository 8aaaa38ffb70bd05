"""The course of a pruning: which phase comes next, the trainer that it needs, and where the weights go.

A step is an epoch of training or recovery, or a pruning. What the module was before pruning and straight after it is
kept, so that all three can be judged on the same data at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.workflows.pruning.amounts import amount_for, stand_ins
from modelopt_cli.workflows.pruning.phases import Marks, Phase, needs_training, phases
from modelopt_cli.workflows.pruning.recovery_teacher import recovery_criterion
from modelopt_cli.workflows.runs.base import checkpoint_of
from modelopt_cli.workflows.runs.torch import trainer_of

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.schedules import Stage
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.trainer import Trainer
    from modelopt_cli.workflows.pruning.pruned_model import PrunedModel


class PruneCourse:
    """`step` of `total` steps are done; `model` is what is pruned, `trainer` the one at work."""

    step = 0
    total = 1

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        monitor: str | Sequence[str] | None = None,
        state: Mapping[str, Any] | None = None,
        dense: nn.Module | None = None,
        bare: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """`dense`: the module to start from in place of training one, and the `extra` of the checkpoint it came from.

        `bare`: its weights come from a bare file, so its rules say which may go.
        """
        import torch

        from modelopt_cli.training.settings import TrainingSettings

        self._experiment, self._prepared, self._seed = experiment, prepared, seed
        self._training = experiment.training or TrainingSettings()
        self._pruning = experiment.require_pruning()
        torch.manual_seed(seed)
        built: nn.Module = experiment.require_model().build(prepared.shapes, seed) if dense is None else dense
        self.module = built
        trains = dense is None and needs_training(experiment)
        self._train = partial(trainer_of, experiment, prepared, monitor=monitor)
        self.trainer = self._train(self.module, self._training, seed=seed)
        self.model = self._opened_model(bare, extra)
        self._plan(trains)
        if trains and state is None:
            self.model.check()
        self._place, self._opened, self._marks = 0, -1, Marks((), self._prune_to)
        self._criterion: Criterion | None = None
        self._rewound = self.trainer.state() if self._rewinds_to(0) else None
        if state is not None:
            self._load(state)
        self._note()

    def _plan(self, trains: bool, amount: float | None = None) -> None:
        """Set stages and phases; a budget of bytes is planned again once the trained weights are there."""
        settings = self._pruning
        self._amount = amount if amount is not None else amount_for(settings, self.model)
        self._stages: Sequence[Stage] = settings.schedule.stages(self._amount)
        self._phases = phases(settings, self._training, self._stages, trains=trains)

    def _opened_model(self, bare: bool, extra: Mapping[str, Any] | None) -> PrunedModel:
        from modelopt_cli.pruning.structures import UnitStructure
        from modelopt_cli.workflows.pruning.masked import MaskedModel
        from modelopt_cli.workflows.pruning.unit_pruned import UnitPrunedModel

        if isinstance(self._pruning.structure, UnitStructure):
            return UnitPrunedModel(self._experiment, self.trainer, self._trainer_of, extra=extra)
        return MaskedModel(self._experiment, self.trainer, bare=bare, masks=(extra or {}).get("masks"))

    def _trainer_of(self, module: nn.Module) -> Trainer:
        """What evaluates this module."""
        return self._train(module, self._training, seed=self._seed)

    def _note(self) -> None:
        """Steps done are counted; what is left follows from the phases."""
        left = sum(phase.steps for phase in self._phases[self._place :])
        if self._opened == self._place and self._place < len(self._phases):
            left -= self.trainer.epoch - self._phases[self._place].first
        self.total = self.step + left

    def next(self) -> dict[str, float]:
        """Take one step; its metrics."""
        phase = self._phases[self._place]
        found = self._prune(phase) if phase.kind == "prune" else self._epoch(phase)
        self.step += 1
        self._note()
        return found

    @property
    def doing(self) -> str:
        """What the next step is about."""
        if self._place >= len(self._phases):
            return ""
        phase, stages = self._phases[self._place], len(self._stages)
        which = f" (stage {phase.stage + 1} of {stages})" if stages > 1 and phase.stage >= 0 else ""
        texts = {
            "train": "training",
            "collect": "collecting movement",
            "prune": f"pruning by {self._pruning.importance.name()}",
            "recover": "recovery",
        }
        return texts[phase.kind] + which

    @property
    def trains(self) -> bool:
        """Whether the model is trained here, in place of being loaded."""
        return any(phase.kind == "train" for phase in self._phases)

    @property
    def amount(self) -> float | None:
        """The share of what may go that goes in the end; None for a threshold or a fixed structure."""
        return self._amount

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The module as it is, with all that using it needs."""
        return checkpoint_of(self._experiment, self._prepared, self.module, metrics)

    def _epoch(self, phase: Phase) -> dict[str, float]:
        """One epoch of training, collecting or recovery."""
        if self._opened != self._place:
            self._opened = self._place
            self._open(phase)
        [(_, found)] = self.trainer.advance(self.trainer.epoch + 1)
        if self.trainer.stopped_early and not self._marks.done:
            self.trainer.forget_best()
        if phase.kind == "train" and self._rewinds_to(self.trainer.epoch):
            self._rewound = self.trainer.state()
        if self.trainer.epoch >= phase.settings.epochs or self.trainer.stopped_early:
            self._leave(phase)
        return {**found, **self.model.progress()}

    def _open(self, phase: Phase) -> None:
        """Begin a phase of epochs: the trainer it needs, at the epoch it begins with."""
        if phase.kind == "train":
            return
        if phase.kind == "collect":
            self.model.note("before")
            seed, hooks = derive(self._seed, "collect"), self.model.hooks()
            self.trainer = self._train(self.module, phase.settings, seed=seed, hooks=hooks)
            return
        stage = self._stages[phase.stage]
        self._marks = Marks(stage.marks[1:], self._prune_to)
        seed = self._seed if stage.rewind is not None else derive(self._seed, "recovery", phase.stage)
        self._criterion = recovery_criterion(
            self._experiment, self._prepared, lambda: self.model.as_it_was("before"), seed
        )
        hooks = self.model.hooks(self._marks)
        self.trainer = self._train(self.module, phase.settings, seed=seed, hooks=hooks, criterion=self._criterion)
        if stage.rewind is not None:
            if self._rewound is None:
                raise UsageError(
                    f"pruning.schedule.rewind is {stage.rewind}, but there is no such epoch: the model was loaded, or "
                    "its training ended before; set a lower one, 0 for the weights that it began with"
                )
            self.trainer.load_state(self._rewound)
            self.trainer.forget_best()  # of the epochs before, when the weights were dense
            self.model.settle()
        self.model.trainer = self.trainer

    def _leave(self, phase: Phase) -> None:
        if self._criterion is not None:
            self._criterion.close()
        self.trainer.finish()
        self.trainer.forget_best()  # what the phase leaves is what goes on
        self.model.settle()
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
                judged = self.model.judge("validation") if self.trainer.has("validation") else {}
                self._plan(self.trains, self.model.amount_for_size(self.checkpoint(stand_ins(judged))))
        self.model.begin_round(phase.stage)
        self._prune_to(self._stages[phase.stage].marks[0][1])
        self._place += 1
        recovers = self._place < len(self._phases) and self._phases[self._place].kind == "recover"
        if not recovers:
            self.model.end_round(phase.stage, recovered=False)
        return {**self.model.quick_metrics(), **self.model.progress()}

    def _prune_to(self, share: float) -> None:
        """Prune to this share, or by the threshold; the state straight after the last pruning is kept."""
        threshold = self._pruning.threshold
        self.model.prune(share if threshold is None else threshold)
        self._follow()
        self.trainer.forget_best()
        if share >= self._stages[-1].marks[-1][1] and self._marks.done:
            self.model.note("pruned")

    def restore(self, trained: Checkpoint) -> None:
        """Become a model that was pruned before from the same setting and seed."""
        if not self.trains:
            self.model.note("before")
        self.model.restore(trained)
        self._follow()

    def _follow(self) -> None:
        """The model may have got another module: a graph in place of the one that was captured."""
        if self.model.module is not self.module:
            self.module = self.model.module
            self.trainer = self.model.trainer = self._trainer_of(self.module)

    def state(self) -> dict[str, Any]:
        """Everything that going on from here needs."""
        return {
            "trainer": self.trainer.state(),
            "place": self._place,
            "opened": self._opened,
            "step": self.step,
            "amount": self._amount,
            "trains": self.trains,
            "rewound": self._rewound,
            "model": self.model.state(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._plan(state["trains"], state["amount"])
        self._place, self._rewound = state["place"], state["rewound"]
        self.step = state["step"]
        self.model.load_state(state["model"])
        self._follow()
        self._opened = state["opened"]
        if self._opened >= 0:  # a phase that has ended too: its trainer draws the next pruning's samples
            self._open(self._phases[self._opened])
        self.trainer.load_state(state["trainer"])
        if self._opened >= 0 and self._phases[self._opened].kind == "recover":
            steps = self.trainer.steps
            self._marks.skip(steps * self.trainer.epoch // self.trainer.epochs, steps)
