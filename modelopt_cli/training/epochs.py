"""One pass over the train split: batches, gradients, optimizer steps. The only loop that speed depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.work import tell
from modelopt_cli.training.criterion import CriterionContext, StepInfo
from modelopt_cli.training.inference import precision

if TYPE_CHECKING:
    from modelopt_cli.training.batches import Batch, EpochBatches
    from modelopt_cli.training.criterion import Criterion
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.ranks import Ranks
    from modelopt_cli.training.settings import TrainingSettings


class EpochRunner:
    """Runs epochs of `module` over `batches`. Holds the optimizer."""

    def __init__(
        self,
        module: torch.nn.Module,
        settings: TrainingSettings,
        batches: EpochBatches,
        loss: Loss,
        *,
        hooks: Sequence[StepHook] = (),
        criterion: Criterion | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """`loss`: on the targets. `criterion`: what is descended in its place. `ranks`: who shares the training.

        Raises UsageError for no parameters.
        """
        self._module, self._settings, self._batches = module, settings, batches
        self._loss, self._criterion, self._ranks = loss, criterion, ranks
        self._hooks = (*hooks, *([criterion] if criterion is not None else []))
        if criterion is not None:
            criterion.begin(CriterionContext(module, settings, batches, loss))
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not self._parameters:
            raise UsageError("the model has no parameters to train; use a model with at least one nn.Parameter")
        self._parameters += criterion.parameters() if criterion is not None else ()
        self._called = module if ranks is None else ranks.wrap(module)  # for a forward pass in training
        self.optimizer = _optimizer(module, settings, self._parameters)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def steps(self) -> int:
        """Optimizer steps of all epochs."""
        return self._settings.epochs * len(self._batches.sizes)

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
        sizes = self._batches.sizes
        done, steps, steps_per_epoch = (epoch - 1) * len(sizes), self.steps, len(sizes)
        view = epoch if self._criterion is None else self._criterion.view(epoch)
        total = torch.zeros((), device=self._batches.split.device)
        factor = None
        for step, batch in enumerate(self._batches.epoch(epoch, view), done):
            tell("batches", step - done, steps_per_epoch)
            scheduled = self._settings.schedule.factor(step, steps, steps_per_epoch)
            if scheduled != factor:
                factor = scheduled
                self._set_rate(factor)
            for hook in self._hooks:
                hook.before_step(step, steps)
            total += self._step(batch, StepInfo(epoch, step, steps, steps_per_epoch)) * len(batch.inputs)
            for hook in self._hooks:
                hook.after_step()
        return float(total) / sum(sizes)

    def _step(self, batch: Batch, step_info: StepInfo) -> torch.Tensor:
        """One optimizer step; returns the loss before it, (), detached."""
        if self._settings.optimizer.closure:
            losses: list[torch.Tensor] = []

            def closure() -> torch.Tensor:
                losses.append(self._gradients(batch, step_info))
                return losses[-1]

            self.optimizer.step(closure)  # type: ignore[arg-type]
            return losses[0]
        loss = self._gradients(batch, step_info)
        self.optimizer.step()
        return loss

    def _gradients(self, batch: Batch, step_info: StepInfo) -> torch.Tensor:
        """Set the clipped gradients of the loss; values are clipped before the norm."""
        for parameter in self._parameters:
            parameter.grad = None
        outputs = self._outputs(batch.inputs)
        if self._criterion is None:
            loss = self._loss(outputs, batch.targets, batch.weights)
        else:
            loss = self._criterion.loss(
                batch, outputs, lambda: self._loss(outputs, batch.targets, batch.weights), step_info
            )
        torch.autograd.backward(loss if self._ranks is None else self._ranks.scaled(loss))
        for hook in self._hooks:
            hook.after_backward()
        if self._settings.clip_value is not None:
            torch.nn.utils.clip_grad_value_(self._parameters, self._settings.clip_value)
        if self._settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        return loss.detach()

    def _outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of the whole batch (B, ...); of several processes each computes its own share."""
        own = inputs if self._ranks is None else self._ranks.share(inputs)
        if self._settings.precision == "bfloat16":
            with precision(self._batches.split.device, True):
                outputs = self._called(own)
            outputs = outputs.float()
        else:
            outputs = self._called(own)
        return outputs if self._ranks is None else self._ranks.whole(outputs)

    def _set_rate(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor


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
