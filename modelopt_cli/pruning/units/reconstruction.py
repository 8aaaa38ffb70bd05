"""Compensation for units, in sequence: every layer that took some is fitted anew to what the layers before it now give.

The graph before and the graph after run side by side. When a layer's turn comes, the moments of its inputs in both are
known, and those after include what layers before it could not make up for (He et al., ICCV 2017, sec. 3.3). Where its
outputs are added to those of a shortcut, it also makes up for what the shortcut lost: the residual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Axis, Keep, kept
from modelopt_cli.models.graph.layers import Layer, layers
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import set_tensor
from modelopt_cli.models.graph.walk import Values, run_node, walk, writes
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.settings import PruningSettings

POSITIONS = 64
"""Of a sample that moments are taken over: neighbours say much the same."""
_LEAST_SCALE = 0.1  # of the mean scale of a batch normalization: a row that it all but switches off must not blow up


def compensate(
    network: Network, settings: PruningSettings, graph: fx.GraphModule, keep: Keep, inputs: Sequence[Tensor]
) -> None:
    """Make up in `graph`, the network's with units by `keep`, for what it lost, as the settings say."""
    compensation, recalibrates = settings.unit_compensation, settings.recalibrate_batch_norm
    if compensation.fits or recalibrates:
        before, held = network.current(), network.held
        reconstruct(before, graph, network.analysis, held, keep, inputs, compensation, recalibrate=recalibrates)


def reconstruct(
    before: fx.GraphModule,
    after: fx.GraphModule,
    analysis: Analysis,
    held: Keep,
    keep: Keep,
    batches: Sequence[Tensor],
    compensation: UnitCompensation,
    *,
    recalibrate: bool = False,
    positions: int = POSITIONS,
) -> list[str]:
    """Fit the layers of `after` (units by `keep`) to `before` (by `held`). Its tensors are replaced, not written to.

    `recalibrate`: batch normalizations of `after` are measured anew on the way. `positions`: how many of each sample
    count in the moments. Gives the weights that were fitted.
    """
    dense = layers(before, analysis)  # a convolution whose last group alone is left was grouped, and is no such layer
    known = {name: layer for name, layer in layers(after, analysis).items() if name in dense}
    fitted: list[str] = []

    def visit(nodes: Sequence[fx.Node], values: Values) -> None:
        name = nodes[0].name
        layer = known.get(name)
        if layer is not None and compensation.fits:
            stays = _left(layer.input_axis(analysis), held, keep)
            if not bool(stays.all()) or (compensation.everywhere and _changed(values, layer)):
                _fit(layer, stays, analysis, held, keep, (before, after), values, compensation, positions)
                fitted.append(layer.weight)
        if recalibrate and nodes[1].target is torch.ops.aten.batch_norm.default:
            _measure(after, nodes[1], values[1])

    walk([before, after], batches, visit)
    return fitted


def _left(axis: Axis, held: Keep, keep: Keep) -> Tensor:
    """Which of the positions that `held` leaves `keep` leaves, too."""
    return torch.from_numpy(kept(axis, keep)[kept(axis, held)])


def _fit(
    layer: Layer,
    stays: Tensor,
    analysis: Analysis,
    held: Keep,
    keep: Keep,
    graphs: tuple[fx.GraphModule, fx.GraphModule],
    values: Values,
    compensation: UnitCompensation,
    positions: int,
) -> None:
    before, after = graphs
    rows = _left(analysis.tensors[layer.weight][layer.out_dim], held, keep)  # outputs that stay
    residuals = ShortcutResidual(layer, graphs, values).batches(rows) if compensation.everywhere else None
    moments = _moments(layer, stays, values, positions, residuals)
    rows = rows.to(moments.kept.device)
    fitted = compensation.refit(layer.matrix(before)[rows], moments)
    layer.take(after, fitted.weight, fitted.bias)
    new = fitted.weight.double()
    mean = new @ moments.kept_mean
    second = ((new @ moments.kept_gram) * new).sum(1)
    offset = 0.0 if layer.bias is None else attribute(after, layer.bias).detach().double()
    layer.settle(after, mean + offset, (second - mean.square()).clamp_min(0.0))


def _changed(values: Values, layer: Layer) -> bool:
    """Whether the layer is given something else than before."""
    one, other = (own[layer.inputs.name][0] for own in values)
    return not torch.equal(one, other)


def _moments(
    layer: Layer, stays: Tensor, values: Values, positions: int, residuals: Sequence[Tensor] | None
) -> Moments:
    """See Moments; summed batch by batch. `residuals`: for each batch, in the shape of the layer's outputs."""
    count = 0
    sums: list[Tensor] = []
    for number, (was, now) in enumerate(zip(*(own[layer.inputs.name] for own in values), strict=True)):
        x, y = (layer.rows(each, positions).float() for each in (was, now))  # (rows, n), (rows, s)
        products = [x.sum(0), y.sum(0), x.T @ x, y.T @ y, x.T @ y]
        if residuals is not None:
            e = layer.output_rows(residuals[number], positions).float()  # (rows, out)
            products += [e.T @ y, e.sum(0)]
        sums = (
            [each.double() for each in products]
            if not sums
            else [a + b.double() for a, b in zip(sums, products, strict=True)]
        )
        count += len(x)
    mean, kept_mean, gram, kept_gram, cross, *extra = (each / count for each in sums)
    columns = stays.repeat_interleave(layer.spread).to(mean.device)
    return Moments(columns, mean, kept_mean, gram, kept_gram, cross, layer.takes_bias, *extra)


def _measure(graph: fx.GraphModule, node: fx.Node, values: Mapping[str, list[Tensor]]) -> None:
    """Running statistics of a batch normalization from what it is about to be given."""
    arguments = list(node.args)
    inputs, mean, variance = arguments[0], arguments[3], arguments[4]
    if not (isinstance(mean, fx.Node) and isinstance(variance, fx.Node) and isinstance(inputs, fx.Node)):
        return
    parts = values[inputs.name]
    dims = [dim for dim in range(parts[0].dim()) if dim != 1]
    count = sum(part.numel() // part.shape[1] for part in parts)
    first = torch.stack([part.double().sum(dims) for part in parts]).sum(0) / count
    shape = [1, -1, *[1] * (parts[0].dim() - 2)]
    second = torch.stack([(part.double() - first.view(shape)).square().sum(dims) for part in parts]).sum(0)
    for target, measured in ((mean.target, first), (variance.target, second / max(count - 1, 1))):
        old = attribute(graph, str(target))
        set_tensor(graph, str(target), measured.to(old.dtype))


class ShortcutResidual:
    """What a layer's outputs may add to make up for a shortcut that they are added to, and that lost some.

    Of a layer whose outputs (through a batch normalization or not) are added to a value that does not need them.
    """

    def __init__(self, layer: Layer, graphs: Sequence[fx.GraphModule], values: Values) -> None:
        """`graphs`: before and after, stopped at the layer with these values."""
        self._layer, self._graphs, self._values = layer, graphs, values

    def batches(self, rows: Tensor) -> list[Tensor] | None:
        """For each batch, in the shape of the layer's outputs after; None: there is no such shortcut.

        `rows`: which of the outputs before stay. With s the shortcut and g / d the scale and deviation of the batch
        normalization: (s before - s after) d / g.
        """
        added = self._layer.sum_with()
        if added is None:
            return None
        other, norm = added
        if other.op != "call_function":
            return None  # a parameter, the same in both
        was, now = (self._value(side, other) for side in (0, 1))
        if was is None or now is None:
            return None
        if not self._layer.is_convolution and self._layer.rank == 2:  # of (B, ..., out), rows in the same order
            was, now = ([each.flatten(0, -2) for each in parts] for parts in (was, now))
        dim = 1 if norm is not None or self._layer.is_convolution else -1
        index = rows.to(was[0].device).nonzero()[:, 0]
        residuals = []
        for one, two in zip(was, now, strict=True):
            if one.dim() != two.dim() or one.shape[dim] != len(rows):
                return None  # broadcast, so not a shortcut of the same outputs
            residuals.append(one.index_select(dim, index) - two)
        return residuals if norm is None else [each * self._factor(norm, each.dim()) for each in residuals]

    def _factor(self, norm: fx.Node, rank: int) -> Tensor:
        arguments: list[Any] = list(norm.args)
        scale, variance = (attribute(self._graphs[1], str(arguments[number].target)).detach() for number in (1, 4))
        least = _LEAST_SCALE * scale.abs().mean()
        scale = scale.sign().masked_fill(scale == 0, 1.0) * scale.abs().clamp_min(least)
        factor: Tensor = (variance + arguments[7]).sqrt() / scale
        return factor.view(1, -1, *[1] * (rank - 2))

    def _value(self, side: int, node: fx.Node) -> list[Any] | None:
        """The node's value before (0) or after (1), computed if need be; None when it needs the layer's outputs."""
        own = self._values[side]
        known: dict[str, list[Any]] = {}

        def find(each: fx.Node) -> bool:
            if each.name in own or each.name in known or each.op == "get_attr":
                return True
            if each.name == self._layer.node.name or each.op != "call_function" or writes(each):
                return False
            if not all(find(used) for used in each.all_input_nodes):
                return False
            batches = own[self._layer.inputs.name]  # as many; what is no placeholder does not look at them
            known[each.name] = run_node(self._graphs[side], each, {**own, **known}, batches)
            return True

        named = {each.name: each for each in self._graphs[side].graph.nodes}
        return ({**own, **known}).get(node.name) if find(named[node.name]) else None
