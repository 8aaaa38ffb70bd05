"""One training of a torch module as a run: a step is an epoch. Every trainer of workflows/ is made here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NotRequired, TypedDict

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.tuning.objective import Part, StepReport
from modelopt_cli.workflows.runs.base import RestorableRun, checkpoint_of
from modelopt_cli.workflows.shared.earlier_pruning import earlier_masks

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.weights.masking import Masking
    from modelopt_cli.results.report import Table
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.training.ranks import Ranks
    from modelopt_cli.training.settings import TrainingSettings
    from modelopt_cli.training.trainer import Trainer, TrainerState
    from modelopt_cli.workflows.shared.latencies import Latencies


_MODEL = "model"


class TorchState(TypedDict):
    """A saved training. Those of earlier versions have no `warnings`."""

    trainer: TrainerState
    seconds: float
    warnings: NotRequired[list[str]]


class TorchRun(RestorableRun):
    """Builds the model from `seed`, trains it on the train split, judges it on the validation split."""

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        monitor: str | Sequence[str] | None = None,
        state: TorchState | None = None,
        criterion: Criterion | None = None,
        timed: bool = False,
        ranks: Ranks | None = None,
    ) -> None:
        """`criterion`: gives the loss that is descended, in place of the targets. `timed`: metrics hold its latency.

        `ranks`: the processes that share the training, of which this is one.
        """
        import torch

        from modelopt_cli.core.device import choose

        self._experiment, self._prepared, self._seed, self._timed = experiment, prepared, seed, timed
        self._latencies: Latencies | None = None
        self._log = WarningLog(() if state is None else state.get("warnings", ()))
        self.answers: dict[str, Answers] = {}
        torch.manual_seed(seed)
        with self._log.recording():
            module = experiment.require_model().build(prepared.shapes, seed).to(choose(experiment.device))
            self._masking = _masking(experiment, module)
            self.trainer = trainer_of(
                experiment,
                prepared,
                module,
                experiment.require_training(),
                seed=seed,
                monitor=monitor,
                hooks=[self._masking] if self._masking else [],
                criterion=criterion,
                ranks=ranks,
            )
        self.seconds = 0.0  # that training took
        if state is not None:
            self.trainer.load_state(state["trainer"])
            self.seconds = float(state["seconds"])
        self._note()

    def _note(self) -> None:
        self.step = self.trainer.epoch
        self.total = self.trainer.epoch if self.trainer.stopped_early else self.trainer.epochs

    def advance(self, until: int) -> list[StepReport]:
        """Train up to epoch `until`."""
        start = time.perf_counter()
        with self._log.recording():
            reports = self.trainer.advance(until)
        self.seconds += time.perf_counter() - start
        self._note()
        costs = {} if self.early_costs is None else self.early_costs.of(self.trainer.module)
        return [(step, {**metrics, **costs}) for step, metrics in reports]

    @property
    def ahead(self) -> list[Part]:
        """See the base class."""
        return [Part("epoch", self.total - self.step, counts="batches")]

    @property
    def warnings(self) -> list[str]:
        """What the model and its training told."""
        return self._log.texts

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, the model's size, and the seconds that training took."""
        from modelopt_cli.models.summary import summarise

        self.trainer.finish()
        return {
            **self.full_metrics(),
            **summarise(self.trainer.module),
            "train.seconds": self.seconds,
            "train.epochs": float(self.trainer.best_epoch or self.trainer.epoch),
            **(self.costs({}) if self._timed else {}),
        }

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """How long the model takes, where the file asks for it (evaluation.latency)."""
        from modelopt_cli.models.measure import example
        from modelopt_cli.workflows.shared.latencies import measured

        settings = self._experiment.evaluation.latency
        if settings is None:
            return {}
        inputs = example(self._prepared.shapes, max(settings.batch_sizes))
        self._latencies = measured({_MODEL: self.trainer.module}, inputs, settings)
        return self._latencies.metrics(_MODEL)

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return [] if self._latencies is None else list(self._latencies.warnings)

    @property
    def details(self) -> Mapping[str, object]:
        """See the base class."""
        return {} if self._latencies is None else self._latencies.told

    def tables(self) -> dict[str, Table]:
        """`latency`, where it was measured."""
        return {} if self._latencies is None else {"latency": self._latencies.table()}

    def restore(self, trained: Checkpoint) -> None:
        """Take the weights of a model that was trained before from the same setting and seed."""
        self.trainer.module.load_state_dict(trained.model.state_dict())
        self._log.add(trained.warnings)

    def full_metrics(self) -> dict[str, float]:
        """Every metric on the validation split; empty when there is none."""
        return self._evaluate("validation")

    def test_metrics(self) -> dict[str, float]:
        """Every metric on the test split; empty when there is none. Read once, after every choice is made."""
        return self._evaluate("test")

    def _evaluate(self, split: str) -> dict[str, float]:
        if getattr(self._prepared, split) is None:
            return {}
        with self._log.recording():
            return self.trainer.evaluate(split, keep=partial(self.answers.__setitem__, split))

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The trained model with all that using it needs."""
        checkpoint = checkpoint_of(self._experiment, self._prepared, self.trainer.module, metrics, self.warnings)
        if self._masking:
            from modelopt_cli.models.files.packed import pack_masks

            self._masking.apply()
            checkpoint.extra["masks"] = pack_masks(self._masking.masks, self._masking.weights)
        return checkpoint

    def state(self) -> TorchState:
        """Trainer state and the time used."""
        return {"trainer": self.trainer.state(), "seconds": self.seconds, "warnings": self.warnings}


def _masking(experiment: Experiment, module: nn.Module) -> Masking | None:
    """What keeps the zeros of a model that was pruned before, while it is trained on."""
    masks = earlier_masks(experiment.require_model(), dict(module.named_parameters()))
    if not masks:
        return None
    from modelopt_cli.pruning.weights.masking import Masking

    parameters = dict(module.named_parameters())
    return Masking({name: parameters[name] for name in masks}, masks)


def trainer_of(
    experiment: Experiment,
    prepared: Prepared,
    module: nn.Module,
    settings: TrainingSettings,
    *,
    seed: int,
    monitor: str | Sequence[str] | None = None,
    hooks: Sequence[StepHook] = (),
    criterion: Criterion | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """A trainer of `module` on the experiment's data, device and augmentation.

    `settings` may differ from the experiment's own; the rest is as Trainer has it. Raises UsageError, TrialError."""
    from modelopt_cli.core.device import choose
    from modelopt_cli.training.trainer import Trainer

    return Trainer(
        module,
        settings,
        prepared,
        seed=seed,
        device=choose(experiment.device),
        augment=experiment.require_data().augment,
        monitor=monitor,
        extra_metrics=experiment.evaluation.own,
        hooks=hooks,
        criterion=criterion,
        ranks=ranks,
    )
