"""Compensation for units, in sequence: every layer that took some is fitted anew to what the layers before it now give.

The graph before and the graph after run side by side. When a layer's turn comes, the moments of its inputs in both are
known, and those after include what layers before it could not make up for (He et al., ICCV 2017, sec. 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Axis, Keep, kept
from modelopt_cli.models.graph.layers import Layer, layers
from modelopt_cli.models.graph.rewriting import set_tensor
from modelopt_cli.models.graph.walk import Values, walk
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import UnitCompensation
from modelopt_cli.pruning.units.residual import Debt

POSITIONS = 64
"""Of a sample that moments are taken over: neighbours say much the same."""


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
    known = layers(after, analysis)
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
    owed = Debt(layer, graphs, values).batches(rows) if compensation.everywhere else None
    moments = _moments(layer, stays, values, positions, owed)
    rows = rows.to(moments.kept.device)
    found = compensation.refit(layer.matrix(before)[rows], moments)
    layer.take(after, found.weight, found.bias)
    new = found.weight.double()
    mean = new @ moments.kept_mean
    second = ((new @ moments.kept_gram) * new).sum(1)
    offset = 0.0 if layer.bias is None else attribute(after, layer.bias).detach().double()
    layer.settle(after, mean + offset, (second - mean.square()).clamp_min(0.0))


def _changed(values: Values, layer: Layer) -> bool:
    """Whether the layer is given something else than before."""
    one, other = (own[layer.inputs.name][0] for own in values)
    return not torch.equal(one, other)


def _moments(layer: Layer, stays: Tensor, values: Values, positions: int, owed: Sequence[Tensor] | None) -> Moments:
    """See Moments; summed batch by batch. `owed`: for each batch, in the shape of the layer's outputs."""
    count = 0
    sums: list[Tensor] = []
    for place, (was, now) in enumerate(zip(*(own[layer.inputs.name] for own in values), strict=True)):
        x, y = (layer.rows(each, positions).float() for each in (was, now))  # (rows, n), (rows, s)
        found = [x.sum(0), y.sum(0), x.T @ x, y.T @ y, x.T @ y]
        if owed is not None:
            e = layer.output_rows(owed[place], positions).float()  # (rows, out)
            found += [e.T @ y, e.sum(0)]
        sums = (
            [each.double() for each in found]
            if not sums
            else [a + b.double() for a, b in zip(sums, found, strict=True)]
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
    for target, found in ((mean.target, first), (variance.target, second / max(count - 1, 1))):
        old = attribute(graph, str(target))
        set_tensor(graph, str(target), found.to(old.dtype))
