"""Watching what linear layers and convolutions are given: means, root mean squares and products of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn

from modelopt_cli.models.patches import patches
from modelopt_cli.pruning.statistics import Needs, Statistic

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


class InputWatch:
    """Sums over the forward passes made while it is open. One row a sample and position: what one output is made of."""

    def __init__(self, module: nn.Module, weights: Mapping[str, nn.Parameter], needs: Needs) -> None:
        self._needs = needs & {"input_norm", "input_mean", "gram"}
        self._module, self._weights = module, weights
        self._handles: list[Any] = []
        self._rows: dict[str, int] = {}
        self._sums: dict[Statistic, dict[str, Tensor]] = {name: {} for name in self._needs}

    def __enter__(self) -> Self:
        names = {id(weight): name for name, weight in self._weights.items()}
        for layer in self._module.modules() if self._needs else ():
            name = names.get(id(getattr(layer, "weight", None)))
            if name is not None and _watchable(layer):
                self._handles.append(layer.register_forward_pre_hook(self._watch(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _watch(self, name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            rows = input_rows(layer, given[0].detach())
            self._rows[name] = self._rows.get(name, 0) + len(rows)
            if "input_norm" in self._needs:
                self._add("input_norm", name, rows.square().sum(0))
            if "input_mean" in self._needs:
                self._add("input_mean", name, rows.sum(0))
            if "gram" in self._needs:
                self._add("gram", name, (rows.T @ rows).double())

        return hook

    def _add(self, statistic: Statistic, name: str, found: Tensor) -> None:
        sums = self._sums[statistic]
        sums[name] = sums[name] + found if name in sums else found

    def values(self) -> dict[Statistic, dict[str, Tensor]]:
        """Means over all rows."""
        found: dict[Statistic, dict[str, Tensor]] = {}
        for statistic, sums in self._sums.items():
            means = {name: total / self._rows[name] for name, total in sums.items()}
            if statistic == "input_norm":
                means = {name: mean.sqrt() for name, mean in means.items()}
            if statistic != "gram":  # (1, in, kernel...), to be multiplied with the weight
                means = {name: mean.view(1, *self._weights[name].shape[1:]) for name, mean in means.items()}
            found[statistic] = means
        return found


def _watchable(layer: nn.Module) -> bool:
    if isinstance(layer, _CONVOLUTIONS):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(rows, in * kernel) float32: every output of the layer is a product of the flattened weight with a row."""
    if isinstance(layer, _CONVOLUTIONS):
        assert not isinstance(layer.padding, str)
        found = patches(inputs.float(), layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return found.flatten(0, 1)
    return inputs.float().flatten(0, -2) if inputs.ndim > 2 else inputs.float()
