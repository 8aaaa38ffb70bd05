"""One pass over the train split: batches, gradients, optimizer steps. The only loop that speed depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.training.criterion import CriterionContext, StepInfo
from modelopt_cli.training.inference import precision

if TYPE_CHECKING:
    from modelopt_cli.data.augmentations import Augmentation
    from modelopt_cli.training.batches import Batch, Split
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.inference import Transform
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.settings import TrainingSettings


class EpochRunner:
    """Runs epochs of `module` over `train`, whose steps take `sizes` samples. Holds the optimizer."""

    def __init__(
        self,
        module: torch.nn.Module,
        settings: TrainingSettings,
        train: Split,
        loss: Loss,
        transform: Transform,
        *,
        sizes: Sequence[int],
        outputs: int,
        seed: int,
        augment: Sequence[Augmentation] = (),
        hooks: Sequence[StepHook] = (),
        criterion: Criterion | None = None,
    ) -> None:
        self._module, self._settings, self._train = module, settings, train
        self._loss, self._transform, self._sizes, self._seed = loss, transform, list(sizes), seed
        self._augment, self._outputs, self._criterion = tuple(augment), outputs, criterion
        self._hooks = (*hooks, *([criterion] if criterion is not None else []))
        check_augmentations(self._augment, train.inputs)
        if criterion is not None:
            criterion.begin(self._setting())
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not self._parameters:
            raise UsageError("the model has no parameters to train; use a model with at least one nn.Parameter")
        self._parameters += criterion.parameters() if criterion is not None else ()
        self.optimizer = _optimizer(module, settings, self._parameters)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def _setting(self) -> CriterionContext:
        return CriterionContext(
            self._module,
            self._train,
            self._transform,
            self._augmented if self._augment else None,
            repr(self._augment),
            any(augmentation.needs_soft_targets for augmentation in self._augment),
            self._loss,
            self._outputs,
            self._settings.batch_size,
            self._seed,
            self._settings.precision == "bfloat16",
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of all epochs."""
        return self._settings.epochs * len(self._sizes)

    def shrink(self, kept: Mapping[str, Sequence[torch.Tensor | None]]) -> None:
        """The optimizer's own tensors follow parameters that have shrunk, and are the same objects.

        `kept`: parameter's name -> for each dimension the indices that stayed; None: all.
        """
        named = dict(self._module.named_parameters())
        for name, indices in kept.items():
            own = self.optimizer.state.get(named[name], {}) if name in named else {}
            for key, value in own.items():
                if isinstance(value, torch.Tensor) and value.dim() == len(indices) > 0:
                    for dim, index in enumerate(indices):
                        value = value if index is None else value.index_select(dim, index.to(value.device))
                    own[key] = value

    def run(self, epoch: int) -> float:
        """Train for epoch number `epoch` (from 1) and return its mean loss; NaN or infinite when it diverged."""
        self._module.train()
        done, steps = (epoch - 1) * len(self._sizes), self.steps
        total = torch.zeros((), device=self._train.device)
        factor = None
        for step, batch in enumerate(self._batches(epoch), done):
            found = self._settings.schedule.factor(step, steps, len(self._sizes))
            if found != factor:
                factor = found
                self._set_rate(factor)
            for hook in self._hooks:
                hook.before_step(step, steps)
            total += self._step(batch, StepInfo(epoch, step, steps, len(self._sizes))) * len(batch.inputs)
            for hook in self._hooks:
                hook.after_step()
        return float(total) / sum(self._sizes)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Batches of the epoch, in the order that (seed, epoch) gives, augmented."""
        count = len(self._train)
        order = torch.arange(count)
        if self._settings.shuffle:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(self._seed, "shuffle", epoch)))
        found = self._train.batches(order, self._sizes, self._transform)
        if not self._augment:
            return found
        view = epoch if self._criterion is None else self._criterion.view(epoch)
        return (self._augmented(batch, view) for batch in found)

    def _step(self, batch: Batch, step_info: StepInfo) -> torch.Tensor:
        """One optimizer step; returns the loss before it, (), detached."""
        if self._settings.optimizer.closure:
            first: list[torch.Tensor] = []

            def closure() -> torch.Tensor:
                first.append(self._gradients(batch, step_info))
                return first[-1]

            self.optimizer.step(closure)  # type: ignore[arg-type]
            return first[0]
        loss = self._gradients(batch, step_info)
        self.optimizer.step()
        return loss

    def _gradients(self, batch: Batch, step_info: StepInfo) -> torch.Tensor:
        """Set the clipped gradients of the loss; values are clipped before the norm."""
        for parameter in self._parameters:
            parameter.grad = None
        if self._settings.precision == "bfloat16":
            with precision(self._train.device, True):
                outputs = self._module(batch.inputs)
            outputs = outputs.float()
        else:
            outputs = self._module(batch.inputs)
        if self._criterion is None:
            loss = self._loss(outputs, batch.targets, batch.weights)
        else:
            loss = self._criterion.loss(
                batch, outputs, lambda: self._loss(outputs, batch.targets, batch.weights), step_info
            )
        torch.autograd.backward(loss)
        for hook in self._hooks:
            hook.after_backward()
        if self._settings.clip_value is not None:
            torch.nn.utils.clip_grad_value_(self._parameters, self._settings.clip_value)
        if self._settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        return loss.detach()

    def _set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _augmented(self, batch: Batch, view: int) -> Batch:
        """Random numbers depend on (seed, view, sample, place of the augmentation) alone, not on the batch."""
        from modelopt_cli.data.augmentations._random import uniform

        inputs, targets = batch.inputs, batch.targets
        places = batch.indices.to(inputs.device, non_blocking=True)
        if targets.ndim == 1 and any(augmentation.needs_soft_targets for augmentation in self._augment):
            targets = torch.nn.functional.one_hot(targets, self._outputs).to(inputs.dtype)
        for stream, augmentation in enumerate(self._augment):
            inputs, targets = augmentation.apply(inputs, targets, uniform(self._seed, view, places, stream))
        return batch._replace(inputs=inputs, targets=targets)


def check_augmentations(augment: Sequence[Augmentation], inputs: torch.Tensor) -> None:
    """Raise UsageError for an augmentation of images where `inputs` (N, ...) are none, or of tokens."""
    for augmentation in augment:
        if (augmentation.needs_images and inputs.ndim != 4) or inputs.dtype == torch.int64:
            needs = "images (N, C, H, W)" if augmentation.needs_images else "numbers"
            kind = str(inputs.dtype).removeprefix("torch.")
            raise UsageError(
                f"data.augment has '{augmentation.name()}', which needs {needs}, but the inputs are {kind} of shape "
                f"{tuple(inputs.shape)}; leave it out"
            )


def _optimizer(
    module: torch.nn.Module, settings: TrainingSettings, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer, in torch's fused implementation where there is one and the file leaves it open.

    Fused kernels take a third less time for small models on the CPU, but know no sparse gradients.
    """
    chosen = settings.optimizer
    open_choice = getattr(chosen, "fused", False) is None and getattr(chosen, "foreach", None) is None
    sparse = any(getattr(layer, "sparse", False) for layer in module.modules())
    if open_choice and not sparse and {parameter.device.type for parameter in parameters} <= {"cpu", "cuda"}:
        chosen = chosen.model_copy(update={"fused": True})
    return chosen.build(parameters)
