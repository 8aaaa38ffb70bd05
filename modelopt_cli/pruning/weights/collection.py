"""What importances and compensations of weights need, collected in one pass over the calibration batches.

Models are in evaluation mode, so that batch normalisation and dropout are what they are when the model is used. The
loss is the plain one, a mean over samples by their weights; batches count by the sum of theirs. Two statistics need
more than the pass: the Hessian times the gradient needs the gradient first, and flow needs no data at all. Movement is
collected while training goes on, by a hook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from modelopt_cli.core.work import counted
from modelopt_cli.models.modes import evaluating
from modelopt_cli.pruning.common.statistics import Needs, Statistic, Statistics
from modelopt_cli.pruning.weights.layer_inputs import InputWatch
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.hooks import StepHook
from modelopt_cli.training.losses import Loss

Parameters = Mapping[str, nn.Parameter]
_PER_SAMPLE_NUMBERS = 1 << 26  # gradient numbers held at a time for the squares of single samples


def collect(
    module: nn.Module, weights: Parameters, needs: Needs, batches: Callable[[], Sequence[Batch]], loss: Loss
) -> Statistics:
    """What `needs` names, of these weights of `module`. `batches` is called once, where data are needed.

    `movement` is collected by a MovementMeter and not here.
    """
    values: dict[Statistic, dict[str, Tensor]] = {}
    if needs & {"gradient", "squared_gradient", "hessian_gradient", "input_norm", "input_mean", "gram"}:
        given = batches()
        with evaluating(module):
            values |= _pass(module, weights, needs, given, loss)
            if "hessian_gradient" in needs:
                with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
                    values["hessian_gradient"] = _hessian_gradient(module, weights, values["gradient"], given, loss)
    if "flow" in needs:
        with evaluating(module):
            values["flow"] = _flow(module, weights, batches()[0].inputs)
    return Statistics(values)


def _pass(
    module: nn.Module, weights: Parameters, needs: Needs, batches: Sequence[Batch], loss: Loss
) -> dict[Statistic, dict[str, Tensor]]:
    gradients = bool(needs & {"gradient", "hessian_gradient"})
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()} if _square(needs) else None
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()} if gradients else None
    shares = _shares(batches)
    with InputWatch(module, weights, needs) as watch:
        for batch, share in counted(zip(batches, shares, strict=True), "batches measured", len(batches)):
            with torch.set_grad_enabled(gradients):
                outputs = module(batch.inputs)
            if sums is not None:
                value = loss(outputs, batch.targets, batch.weights)
                for name, gradient in zip(weights, _gradients(value, list(weights.values())), strict=True):
                    sums[name].add_(gradient, alpha=share)
    if squares is not None:
        for batch, share in counted(zip(batches, shares, strict=True), "batches of single samples", len(batches)):
            _add_squares(module, weights, batch, loss, squares, share)
    values: dict[Statistic, dict[str, Tensor]] = dict(watch.values())
    if sums is not None:
        values["gradient"] = sums
    if squares is not None:
        values["squared_gradient"] = squares
    return values


def _shares(batches: Sequence[Batch]) -> list[float]:
    """What each batch counts for: its samples, or the sum of their weights, as a share of all."""
    sums = [float(len(batch.inputs)) if batch.weights is None else float(batch.weights.sum()) for batch in batches]
    total = sum(sums) or 1.0
    return [each / total for each in sums]


def _square(needs: Needs) -> bool:
    return "squared_gradient" in needs


def _gradients(value: Tensor, parameters: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Zero for parameters that take no part in `value`."""
    gradients = torch.autograd.grad(value, parameters, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(parameter) if g is None else g for g, parameter in zip(gradients, parameters, strict=True)]


@torch.no_grad()  # of torch's own graph, which would hold all batches; the gradients of torch.func are taken inside
def _add_squares(
    module: nn.Module, weights: Parameters, batch: Batch, loss: Loss, squares: Mapping[str, Tensor], share: float
) -> None:
    """Add the mean of squared gradients of single samples: all at once (vmap) where the module's code allows it."""
    parameters = {name: weight.detach() for name, weight in weights.items()}

    def single(values: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return loss(functional_call(module, dict(values), (inputs[None],)), targets[None], None)

    numbers = sum(weight.numel() for weight in weights.values())
    size = max(1, min(len(batch.inputs), _PER_SAMPLE_NUMBERS // max(numbers, 1)))
    many: Any = vmap(grad(single), in_dims=(None, 0, 0))
    factors = torch.ones(len(batch.inputs), device=batch.inputs.device) if batch.weights is None else batch.weights
    factors = factors * (share / factors.sum().clamp_min(1e-30))  # (B,) what each sample counts for
    for inputs, targets, factor in zip(
        *(torch.split(each, size) for each in (batch.inputs, batch.targets, factors)), strict=True
    ):
        try:
            gradients = many(parameters, inputs, targets)
        except RuntimeError:  # control flow or in-place work that vmap does not take
            each = [grad(single)(parameters, one, target) for one, target in zip(inputs, targets, strict=True)]
            gradients = {name: torch.stack([one[name] for one in each]) for name in parameters}
        for name, gradient in gradients.items():
            squares[name].add_(torch.einsum("b,b...->...", factor.to(gradient.dtype), gradient.square()))


def _hessian_gradient(
    module: nn.Module, weights: Parameters, gradient: Mapping[str, Tensor], batches: Sequence[Batch], loss: Loss
) -> dict[str, Tensor]:
    """H g = d(g . dL/dw)/dw with the first g held fixed."""
    parameters = list(weights.values())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for batch, share in counted(zip(batches, _shares(batches), strict=True), "batches measured", len(batches)):
        value = loss(module(batch.inputs), batch.targets, batch.weights)
        first = _gradients(value, parameters, create_graph=True)
        inner = sum((one * gradient[name]).sum() for name, one in zip(weights, first, strict=True))
        assert isinstance(inner, Tensor)
        second = _gradients(inner, parameters) if inner.requires_grad else [torch.zeros_like(p) for p in parameters]
        for total, product in zip(sums, second, strict=True):
            total.add_(product, alpha=share)
    return dict(zip(weights, sums, strict=True))


def _flow(module: nn.Module, weights: Parameters, example: Tensor) -> dict[str, Tensor]:
    """dR/d|w| in float64: R grows with the product of all layers."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = {
        name: tensor.detach().abs().double() if tensor.is_floating_point() else tensor for name, tensor in state.items()
    }
    for name in weights:
        values[name].requires_grad_(True)
    inputs = torch.ones_like(example[:1])
    outputs = functional_call(module, values, (inputs.double() if inputs.is_floating_point() else inputs,))
    flows = _gradients(outputs.sum(), [values[name] for name in weights])
    # Ranks depend on ratios alone; scaled, the flow of a deep model fits float32.
    largest = max((float(each.abs().max()) for each in flows if each.numel()), default=0.0) or 1.0
    return {name: (each / largest).float() for name, each in zip(weights, flows, strict=True)}


class MovementMeter(StepHook):
    """Sums -w dL/dw over optimizer steps: positive where training moves a weight away from 0.

    Sanh et al., NeurIPS 2020, sec. 4.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self._weights = dict(weights)
        self.sums = {name: torch.zeros_like(weight) for name, weight in self._weights.items()}

    @torch.no_grad()
    def after_backward(self) -> None:
        """Add this step's movement."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self.sums[name].addcmul_(weight, weight.grad, value=-1.0)

    def load(self, sums: Mapping[str, Tensor]) -> None:
        """Go on from sums that were collected before."""
        for name, total in sums.items():
            self.sums[name].copy_(total)
