"""Fits a torch module, epoch by epoch; stops and resumes exactly.

What an epoch does depends on the seed, its number and the state after the epoch before, on nothing else: the order of
the samples, dropout and augmentation derive from (seed, epoch). So `advance(3)`, `state()`, `load_state()` in another
process and `advance(6)` give bit for bit what `advance(6)` gives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.training import checks, losses, restoring
from modelopt_cli.training.batches import EpochBatches, Split, batch_sizes, fits_on_device
from modelopt_cli.training.best import BestEpoch, goal_of
from modelopt_cli.training.copies import copied, own_random_numbers, seed_generators
from modelopt_cli.training.epochs import EpochRunner
from modelopt_cli.training.evaluation import Evaluator
from modelopt_cli.training.inference import (
    failures,
    input_transform,
    scale_targets,
)

if TYPE_CHECKING:
    from modelopt_cli.data.augmentations import Augmentation
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.data.raw import Task
    from modelopt_cli.training.batches import Batch
    from modelopt_cli.training.best import BestState
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.metrics.answers import Keep
    from modelopt_cli.training.metrics.scoring import Metric
    from modelopt_cli.training.ranks import Ranks
    from modelopt_cli.training.settings import TrainingSettings

EpochReport = tuple[int, dict[str, float]]
"""(epoch, metrics)"""


class TrainerState(TypedDict):
    """What a training goes on from, in any process; part of saved runs, so its keys stay."""

    epoch: int
    stopped_early: bool
    module: dict[str, torch.Tensor]
    optimizer: dict[str, Any]  # torch's own
    optimizer_options: dict[str, Any]  # the optimizer's section, with defaults
    best: BestState
    guide: NotRequired[Any]  # of the criterion, which alone knows what is in it


class Trainer:
    """One training of `module`. Everything random derives from `seed`; torch's global generators stay as they were."""

    def __init__(
        self,
        module: torch.nn.Module,
        settings: TrainingSettings,
        prepared: Prepared,
        *,
        seed: int,
        device: str,
        augment: Sequence[Augmentation] = (),
        monitor: str | Sequence[str] | None = None,
        extra_metrics: Sequence[str | Metric] = (),
        hooks: Sequence[StepHook] = (),
        criterion: Criterion | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """`device`: as core/device.py chose it. `monitor`: metrics to report beside the losses, e.g. a search's goal.

        `criterion`: gives the loss that is descended, in place of the settings' own. `ranks`: the processes that share
        the training; the first one evaluates. Raises UsageError where settings, data and module do not go together,
        TrialError when memory is short.
        """
        self.module, self.settings, self.seed = module, settings, seed
        self.epoch, self.epochs, self.stopped_early = 0, settings.epochs, False
        self._prepared, self._device, self.criterion = prepared, torch.device(device), criterion
        self._goal = goal_of(settings.monitored) if settings.monitored else None
        given = (monitor,) if isinstance(monitor, str) else tuple(monitor or ())
        self._monitors = tuple(dict.fromkeys((*given, *([self._goal.metric] if self._goal else []))))
        self._best, self._ranks = BestEpoch(), ranks
        self.loss: Loss  # the plain one, without label smoothing and class weights
        self._last: dict[str, torch.Tensor] | None = None  # the last epoch's, while the best one's are in the module
        with failures():
            self._build(augment, extra_metrics, hooks)

    def _build(
        self, augment: Sequence[Augmentation], extra_metrics: Sequence[str | Metric], hooks: Sequence[StepHook]
    ) -> None:
        settings, prepared = self.settings, self._prepared
        self.module.to(device=self._device, dtype=torch.float32)
        targets = scale_targets(prepared.train.targets, prepared.preprocessing)
        sizes = batch_sizes(len(targets), settings, single_allowed=not checks.normalises_batches(self.module))
        parts = [part for part in (prepared.train, prepared.validation) if part is not None]
        train = Split(prepared.train, targets, self._device, fits_on_device(parts, settings, self._device))
        training, self.loss = losses.make(settings, prepared.task, prepared.shapes.outputs, targets, self._device)
        transform = input_transform(prepared.preprocessing, self._device)
        self.evaluator = Evaluator(prepared, train, self.loss, transform, extra=extra_metrics)
        self.evaluator.check(self._monitors)
        checks.check_outputs(self.module, transform(train.inputs[:1].to(self._device)), prepared)
        self.batches = EpochBatches(
            train, transform, sizes, self.seed, settings.shuffle, tuple(augment), prepared.shapes.outputs
        )
        runner = EpochRunner(
            self.module, settings, self.batches, training, hooks=hooks, criterion=self.criterion, ranks=self._ranks
        )
        self._runner = runner

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights `finish` restores; None when the last one's stay."""
        return self._best.epoch or None if self.settings.keeps_best else None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self._runner.steps

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one at work."""
        return self._runner.optimizer

    def advance(self, until: int) -> list[EpochReport]:
        """Train up to epoch `until` (at most `epochs`) and return (epoch, metrics) for each new epoch.

        Metrics: `train.loss`, the mean over the epoch while it went on; at evaluations `validation.loss` and what is
        monitored. Raises TrialError: `nan` when a loss is no longer finite, `memory`, or `error` from the module.
        """
        reports: list[EpochReport] = []
        self.return_to_last()
        with failures(), own_random_numbers(self._device):
            while self.epoch < min(until, self.epochs) and not self.stopped_early:
                reports.append(self._next_epoch())
        return reports

    def _next_epoch(self) -> EpochReport:
        epoch = self.epoch + 1
        seed_generators(derive(self.seed, "epoch", epoch), self._device)
        metrics = {"train.loss": self._runner.run(epoch)}
        checks.check_finite(metrics, epoch, self.settings)
        self.epoch = epoch
        if epoch % self.settings.evaluate_every == 0 or epoch == self.epochs:
            metrics.update(self._judged())
            checks.check_finite(metrics, epoch, self.settings)
            self._note(metrics)
        return epoch, metrics

    def _judged(self) -> dict[str, float]:
        if self._ranks is None:
            return self.evaluator.after_epoch(self.module, self._monitors)
        return self._ranks.of_the_first(lambda: self.evaluator.after_epoch(self.module, self._monitors))

    def _note(self, metrics: dict[str, float]) -> None:
        """Compare with the best epoch so far."""
        if self._goal is None:
            return
        loss = self._goal.loss(metrics)
        if self._best.improves(loss, self.settings):
            assert loss is not None
            weights = copied(self.module.state_dict()) if self.settings.keeps_best else None
            self._best = BestEpoch(loss, self.epoch, weights, fresh=False)
        self.stopped_early = self._best.exhausted(self.epoch, self.settings)

    def forget_best(self) -> None:
        """Epochs before now no longer count for patience and the best weights: the module has been changed since."""
        self._best, self._last = BestEpoch(epoch=self.epoch, fresh=True), None
        self.stopped_early = False

    def shrink(self, kept: Mapping[str, Sequence[torch.Tensor | None]]) -> None:
        """The module's parameters have shrunk, so what is remembered of them does. See EpochRunner.shrink."""
        self._runner.shrink(kept)
        self.forget_best()

    def samples(self, count: int, seed: int | None = None) -> list[Batch]:
        """Batches of `count` train samples (or all), by the seed (None: its own); not augmented, on the device."""
        train = self.batches.split
        count = min(count, len(train))
        generator = torch.Generator().manual_seed(derive(self.seed if seed is None else seed, "samples"))
        order = torch.randperm(len(train), generator=generator)[:count]
        size = min(self.settings.batch_size, count)
        sizes = [size] * (count // size) + ([count % size] if count % size else [])
        return list(train.batches(order, sizes, self.batches.transform))

    def state(self) -> TrainerState:
        """Everything that `load_state` needs to go on exactly: plain values and tensors on the CPU, all copies."""
        self.return_to_last()
        state: TrainerState = {
            "epoch": self.epoch,
            "stopped_early": self.stopped_early,
            "module": copied(self.module.state_dict(), "cpu"),
            "optimizer": copied(self.optimizer.state_dict(), "cpu"),
            "optimizer_options": self.settings.optimizer.model_dump(mode="json"),
            "best": {
                "loss": self._best.loss,
                "epoch": self._best.epoch,
                "weights": copied(self._best.weights, "cpu"),
                "fresh": self._best.fresh,
            },
        }
        if self.criterion is not None:
            state["guide"] = copied(self.criterion.state(), "cpu")
        return state

    def load_state(self, state: TrainerState) -> None:
        """Go on from what `state` gave, in a trainer of the same arguments, or of other settings.

        Other settings count from here on: the schedule goes on at the same epoch, from their learning rate. An
        optimizer of another type, or with momentum switched on, begins without memories. Raises TrialError when the
        state does not fit the module.
        """
        self._last = None
        self.epoch, self.stopped_early = state["epoch"], state["stopped_early"]
        restoring.load_module(self.module, state["module"])
        if restoring.remembers_alike(state["optimizer_options"], self.settings.optimizer):
            restoring.load_optimizer(self.optimizer, copied(state["optimizer"]))
        self._best = BestEpoch(**{**state["best"], "weights": copied(state["best"]["weights"])})
        if self.criterion is not None:
            self.criterion.load_state(copied(state["guide"]))

    def finish(self) -> None:
        """Put the best epoch's weights into the module where the settings keep them; training may still go on."""
        if self._last is None and self._best.weights is not None:
            self._last = copied(self.module.state_dict())
            self.module.load_state_dict(self._best.weights)

    def return_to_last(self) -> None:
        """Put the last epoch's weights back, where `finish` had put in the best one's."""
        if self._last is not None:
            self.module.load_state_dict(self._last)
            self._last = None

    @property
    def task(self) -> Task:
        """What the data ask for."""
        return self._prepared.task

    def has(self, split: str) -> bool:
        """Whether there is such a split, and it is not empty."""
        return getattr(self._prepared, split, None) is not None

    def evaluate(self, split: str, wanted: Collection[str] | None = None, keep: Keep | None = None) -> dict[str, float]:
        """The plain loss and every metric on `split` (or those `wanted`): `{"validation.accuracy": ...}`.

        `keep` is given the answers. Raises UsageError when the split is empty.
        """
        if not self.has(split):
            raise UsageError(f"the {split} split is empty; set data.splits.{split}")
        return self.evaluator.measure(self.module, split, wanted, keep)
