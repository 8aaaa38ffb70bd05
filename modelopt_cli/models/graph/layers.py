"""Layers of a captured graph that multiply a matrix with rows of inputs, seen alike: linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Axis
from modelopt_cli.models.graph.rewriting import set_tensor
from modelopt_cli.models.patches import patches

_aten = torch.ops.aten
_LINEAR, _ADDMM = _aten.linear.default, _aten.addmm.default
_SUMS = (_aten.add.Tensor, _aten.add_.Tensor)
_DROPOUTS = (_aten.dropout.default, _aten.dropout_.default, _aten.feature_dropout.default)
_VIEWS = (_aten.view.default, _aten.reshape.default)
_CONVOLUTIONS = {_aten.conv1d.default: 1, _aten.conv2d.default: 2}


@dataclass(frozen=True)
class Layer:
    """A node, its weight, and where its inputs stand. `spread`: columns of the matrix for each input (a kernel's).

    `shared`: its bias, or what the batch normalization behind it holds, is another layer's, too.
    """

    node: fx.Node
    weight: str
    bias: str | None
    inputs: fx.Node
    input_dim: int
    spread: int
    shared: bool = False

    @property
    def out_dim(self) -> int:
        """The dimension of the weight that its outputs are."""
        return 1 if self.node.target is _ADDMM else 0

    @property
    def rank(self) -> int:
        """How many dimensions its outputs have."""
        return len(self.node.meta["val"].shape)

    def input_axis(self, analysis: Analysis) -> Axis:
        """The axis that it sums over, with places of a kernel left out."""
        dims = analysis.values[self.inputs.name]
        assert dims is not None
        axis = dims[self.input_dim]
        assert axis is not None
        assert not isinstance(axis, list)
        return axis

    @property
    def names(self) -> list[str]:
        """Tensors that `take` replaces."""
        names = [self.weight] if self.bias is None else [self.weight, self.bias]
        node = _normalization(self.node) if self.bias is None else None
        return names if node is None else [*names, str(node.args[3].target)]

    def matrix(self, graph: fx.GraphModule) -> Tensor:
        """(out, in * spread)"""
        tensor: Tensor = attribute(graph, self.weight).detach()
        return tensor.T if self.node.target is _ADDMM else tensor.flatten(1)

    def take(self, graph: fx.GraphModule, matrix: Tensor, change: Tensor | None) -> None:
        """Put a matrix in, and add a change (out,) to its outputs where it takes one."""
        self.set_matrix(graph, matrix)
        if change is not None and self.takes_bias:
            self.add_to_bias(graph, change)

    def set_matrix(self, graph: fx.GraphModule, matrix: Tensor) -> None:
        """Put a matrix of the same shape in."""
        old = attribute(graph, self.weight)
        new = (matrix.T if self.node.target is _ADDMM else matrix).reshape(old.shape)
        set_tensor(graph, self.weight, _like(old, new))

    def rows(self, inputs: Tensor, positions: int | None = None) -> Tensor:
        """(rows, in * spread): each output value is the product of a row with a row of the matrix.

        `positions`: of so many positions of each sample, drawn at random, but the same for the same sizes.
        """
        if self.node.target in _CONVOLUTIONS:
            return _drawn(self._patches(inputs), positions)
        return _drawn(inputs.flatten(1, -2) if inputs.dim() > 2 else inputs[:, None], positions)

    def output_rows(self, outputs: Tensor, positions: int | None = None) -> Tensor:
        """(rows, out) of values in the shape of the layer's outputs, in the order of `rows`."""
        if self.node.target in _CONVOLUTIONS:
            return _drawn(outputs.flatten(2).transpose(1, 2), positions)
        return _drawn(outputs.flatten(1, -2) if outputs.dim() > 2 else outputs[:, None], positions)

    def _patches(self, inputs: Tensor) -> Tensor:
        """(B, P, in * kernel)"""
        target: Any = self.node.target
        dims = _CONVOLUTIONS[target]
        stride, padding, dilation = (self._sizes(index, default, dims) for index, default in ((3, 1), (4, 0), (5, 1)))
        kernel = tuple(self.node.args[1].meta["val"].shape[2:])  # type: ignore[union-attr]
        return patches(inputs, kernel, stride, padding, dilation)

    def _sizes(self, index: int, default: int, dims: int) -> tuple[int, ...]:
        given: Any = self.node.args[index] if len(self.node.args) > index else default
        listed = [given] if isinstance(given, int) else list(given)
        return tuple(listed if len(listed) == dims else listed * dims)

    def add_to_bias(self, graph: fx.GraphModule, change: Tensor) -> None:
        """Add to the bias; without one, to the batch normalization behind it. See `takes_bias`."""
        if self.bias is not None:
            old = attribute(graph, self.bias)
            set_tensor(graph, self.bias, _like(old, old.detach() + change))
            return
        mean = str(_normalization(self.node).args[3].target)
        set_tensor(graph, mean, attribute(graph, mean).detach() - change)

    def settle(self, graph: fx.GraphModule, mean: Tensor, variance: Tensor) -> None:
        """The batch normalization behind it gets the statistics (out,) that the layer's outputs have now.

        Its scale and shift make up for it: evaluated it gives what it gave, and in training it begins from the same.
        """
        node = _normalization(self.node)
        if node is None or self.shared or any(not isinstance(each, fx.Node) for each in node.args[1:3]):
            return
        names = [str(each.target) for each in node.args[1:5]]
        scale, shift, old_mean, old_variance = (attribute(graph, name).detach() for name in names)
        old = (old_variance + node.args[7]).sqrt()
        new = (variance.to(old.dtype) + node.args[7]).sqrt()
        values = (scale * new / old, shift + scale * (mean.to(old.dtype) - old_mean) / old, mean, variance)
        for name, value in zip(names, values, strict=True):
            set_tensor(graph, name, _like(attribute(graph, name), value))

    @property
    def is_convolution(self) -> bool:
        """Whether its outputs are (B, out, ...), not (..., out)."""
        return self.node.target in _CONVOLUTIONS

    def sum_with(self) -> tuple[fx.Node, fx.Node | None] | None:
        """(what is added to the layer's outputs, the batch normalization in between); None: there is no such sum.

        Of outputs (rows, out) what is added may be (B, ..., out).
        """
        norm = _normalization(self.node)
        end = norm or self.node
        while (same := _same_values(end)) is not None:
            end = same
        users = list(end.users)
        if len(users) != 1 or users[0].target not in _SUMS or users[0].kwargs:
            return None
        others = [each for each in users[0].args if each is not end]
        return (others[0], norm) if len(others) == 1 and isinstance(others[0], fx.Node) else None

    @property
    def takes_bias(self) -> bool:
        """Whether a constant can be added to its outputs."""
        return not self.shared and (self.bias is not None or _normalization(self.node) is not None)


def _drawn(rows: Tensor, positions: int | None) -> Tensor:
    """(B * P, n) from (B, P, n), of at most so many positions of each sample."""
    if positions is not None and positions < rows.shape[1]:
        generator = torch.Generator().manual_seed(rows.shape[1])
        drawn = torch.rand(rows.shape[:2], generator=generator).argsort(1)[:, :positions].to(rows.device)
        rows = rows.gather(1, drawn[:, :, None].expand(-1, -1, rows.shape[2]))
    return rows.flatten(0, 1)


def layers(graph: fx.GraphModule, analysis: Analysis) -> Mapping[str, Layer]:
    """Node's name -> layer, for those whose weight no other node uses."""
    users: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr" and str(node.target) in analysis.first:
            first = analysis.first[str(node.target)]
            users[first] = users.get(first, 0) + len(node.users)

    def alone(name: str) -> bool:
        return users.get(analysis.first.get(name, ""), 0) == 1

    by_node = {}
    for node in graph.graph.nodes:
        layer = _layer(node)
        if layer is not None and alone(layer.weight):
            by_node[node.name] = replace(layer, shared=not all(map(alone, _vectors(layer))))
    return by_node


def _vectors(layer: Layer) -> list[str]:
    """Its bias, and the tensors of the batch normalization behind it."""
    node = _normalization(layer.node)
    held = [] if node is None else [each for each in node.args[1:5] if isinstance(each, fx.Node)]
    return [*([] if layer.bias is None else [layer.bias]), *(str(each.target) for each in held)]


def _layer(node: fx.Node) -> Layer | None:
    arguments: list[Any] = list(node.args)
    if node.target is _ADDMM:
        bias, inputs, weight, dim, spread = arguments[0], arguments[1], arguments[2], 1, 1
    elif node.target is _LINEAR:
        inputs, weight, dim, spread = arguments[0], arguments[1], len(arguments[0].meta["val"].shape) - 1, 1
        bias = arguments[2] if len(arguments) > 2 else None
    elif node.target in _CONVOLUTIONS and (len(arguments) < 7 or arguments[6] == 1):
        inputs, weight, dim = arguments[0], arguments[1], 1
        spread = int(weight.meta["val"].shape[2:].numel())
        bias = arguments[2] if len(arguments) > 2 else None
    else:
        return None
    if weight.op != "get_attr" or (bias is not None and bias.op != "get_attr"):
        return None
    return Layer(node, str(weight.target), None if bias is None else str(bias.target), inputs, dim, spread)


def _normalization(node: fx.Node) -> Any:
    """The batch normalization, with statistics of its own, that alone takes the node's value."""
    users = list(node.users)
    if len(users) != 1 or users[0].target is not _aten.batch_norm.default:
        return None
    mean: Any = users[0].args[3]
    return users[0] if isinstance(mean, fx.Node) and mean.op == "get_attr" else None


def _same_values(node: fx.Node) -> fx.Node | None:
    """What alone takes the node's value and gives the same: a dropout that is off, or rows laid out as (B, ..., n)."""
    users = list(node.users)
    if len(users) != 1 or users[0].args[0] is not node:
        return None
    if users[0].target in _DROPOUTS:
        return users[0] if users[0].args[2] is False else None
    shape, other = node.meta["val"].shape, users[0].meta["val"]
    laid_out = users[0].target in _VIEWS and len(shape) == 2 and other.dim() >= 2 and other.shape[-1] == shape[-1]
    return users[0] if laid_out else None


def _like(old: Tensor, new: Tensor) -> Tensor:
    value = new.to(old.dtype).contiguous()
    return torch.nn.Parameter(value, old.requires_grad) if isinstance(old, torch.nn.Parameter) else value
