"""Numbers that a network computes over its own weights (a norm, a sum, a spectral norm's sigma), and what makes up for
them when they change.

A weight that is computed from parameters alone may be scaled by a number that runs over units which are taken out:
w = g v / |v| in weight norm, w = v / (u . v z) in spectral norm. What is silent gives nothing, but its weights count in
such a number, so it changes when units go, and with it the weights of all units that stay. Where a tensor does no more
than scale these weights (a gain g; in spectral norm the vector u, to which sigma is proportional), it takes the change:
it is multiplied by what the weights of the units that stay were, over what they are now. Whether it can is tried with
numbers, so the code may compute the norm in whatever way. All others are statistics of the units.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.axes import Axis, Keep, Mask, Prime, factors, holds, kept, primes
from modelopt_cli.models.graph.call import Dims, GraphAxes, Rewrite, WeightStatistic, module_path
from modelopt_cli.models.graph.operators import operator_of
from modelopt_cli.models.graph.operators.elementwise import ELEMENTWISE
from modelopt_cli.models.graph.operators.shapes import OPERATORS as SHAPES

_EXACT = 1e-6  # of the largest weight, in double precision


@dataclass(frozen=True)
class Gain:
    """A tensor c times as large makes the weights that `node` gives c^degree times as large."""

    node: str
    tensor: str
    degree: int
    dims: tuple[tuple[int, int], ...]  # (dimension of the tensor, of the weights) along which c varies; (): one number
    primes: frozenset[Prime]  # units that may go: the gain makes up for what is computed over them


class Weights:
    """The part of a graph that no input takes part in, which can be run by itself, whole or without some units."""

    def __init__(self, nodes: Iterable[fx.Node], analysis: GraphAxes) -> None:
        """`nodes`: of a copy of the graph, as their arguments are exchanged while it runs."""
        self.analysis = analysis
        self._nodes = {node.name: node for node in nodes if node.name in analysis.static}

    def behind(self, name: str) -> list[fx.Node]:
        """The node and all that it is computed from, in order."""
        behind: set[str] = set()
        left = [self._nodes[name]]
        while left:
            node = left.pop()
            if node.name not in behind:
                behind.add(node.name)
                left += node.all_input_nodes
        return [node for key, node in self._nodes.items() if key in behind]

    def tensors(self, name: str) -> list[str]:
        """First names of the tensors that it is computed from."""
        first = self.analysis.first
        listed = (str(node.target) for node in self.behind(name) if node.op == "get_attr")
        return list(dict.fromkeys(first[each] for each in listed if each in first))

    def value(self, name: str, tensors: Mapping[str, Tensor], keep: Keep) -> Tensor:
        """What the node gives for these tensors (by first names), of which `keep` has been left."""
        values: dict[str, Any] = {}
        for node in self.behind(name):
            if node.op == "get_attr":
                values[node.name] = tensors[self.analysis.first[str(node.target)]]
                continue
            before = node.target, node.args, node.kwargs
            try:
                operator = operator_of(node.target)
                if operator is not None and operator.rewrite is not None and node.name not in self.analysis.opaque:
                    operator.rewrite(Rewrite(node, self.analysis, keep))
                target: Any = node.target
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda each: values[each.name])
                values[node.name] = target(*args, **kwargs)
            finally:
                node.target, node.args, node.kwargs = before
        given: Tensor = values[name]
        return given


def settle(graph: fx.GraphModule, analysis: GraphAxes, weights: Weights, tensors: Mapping[str, Tensor]) -> list[Gain]:
    """Mark the primes whose units have a part in a statistic of weights, but for those that a gain makes up for."""
    wanted: dict[Prime, list[WeightStatistic]] = {}
    for each in [*analysis.weight_statistics, *_of_computed(graph, analysis)]:
        for prime in dict.fromkeys(primes(each.axis)):
            if prime.size > 1 and not (each.product and prime not in analysis.active):
                wanted.setdefault(prime, []).append(each)
    ends = _ends(graph, analysis)
    gains: dict[str, Gain] = {}
    asked: dict[str, list[Prime]] = {}
    for prime, statistics in wanted.items():
        if prime in analysis.active and not prime.frozen:
            for name in {end for each in statistics for end in ends.get(each.node, ())}:
                asked.setdefault(name, []).append(prime)
    for name, some in asked.items():
        gain = _gain(name, some, ends, analysis, weights, tensors) if name in analysis.static else None
        if gain is not None:
            gains[name] = gain
    for prime, statistics in wanted.items():
        for each in statistics:
            reached = ends.get(each.node, frozenset((each.node,)))
            if not all(name in gains and prime in gains[name].primes for name in reached):
                analysis.axes.shift(prime, each.what)
    return list(gains.values())


def _of_computed(graph: fx.GraphModule, analysis: GraphAxes) -> Iterable[WeightStatistic]:
    """Sums over weights that an input scales (StyleGAN2's demodulation), beside products of these with what units give.

    What is silent adds nothing to a sum, unless what is added up is made of the very weights that take the units.
    """
    sources: dict[str, frozenset[str]] = {}
    nodes = {node.name: node for node in graph.graph.nodes}
    for node in nodes.values():
        if node.op == "get_attr" and str(node.target) in analysis.first:
            sources[node.name] = frozenset((analysis.first[str(node.target)],))
        elif node.op == "call_function" and (operator_of(node.target) is ELEMENTWISE or node.target in SHAPES):
            sources[node.name] = frozenset().union(*(sources.get(each.name, ()) for each in node.all_input_nodes))
    taking: set[tuple[str, Prime]] = set()
    for each in analysis.contractions:
        if each.operand is None or each.inputs is None or each.inputs in analysis.static:
            continue
        for name in sources.get(each.operand, frozenset()) - sources.get(each.inputs, frozenset()):
            taking |= {(name, prime) for prime in primes(each.axis)}
    for each in analysis.contractions:
        if each.operand is None and each.inputs is not None and each.node not in analysis.static:
            for name in sources.get(each.inputs, ()):
                if any((name, prime) in taking for prime in primes(each.axis)):
                    path = module_path(nodes[each.node]) or "the model"
                    yield WeightStatistic(each.node, each.axis, f"a sum of weights in {path}")


def _ends(graph: fx.GraphModule, analysis: GraphAxes) -> dict[str, frozenset[str]]:
    """Node of weights -> where what it gives leaves them: the last nodes of weights on the way to an input's values."""
    ends_of: dict[str, frozenset[str]] = {}
    for node in reversed(graph.graph.nodes):
        if node.name in analysis.static:
            later = [ends_of.get(user.name, frozenset()) for user in node.users if user.name in analysis.static]
            ends = any(user.name not in analysis.static for user in node.users)
            ends_of[node.name] = frozenset({node.name} if ends else ()).union(*later)
    return ends_of


def _gain(
    name: str,
    wanted: Sequence[Prime],
    ends: Mapping[str, frozenset[str]],
    analysis: GraphAxes,
    weights: Weights,
    tensors: Mapping[str, Tensor],
) -> Gain | None:
    """The tensor that makes up for most of these primes; None: there is none for any."""
    nodes = {node.name: node for node in weights.behind(name)}
    dims = analysis.values[name]
    if not dims or isinstance(dims[0], list):
        return None
    own = {each: tensors[each].double() for each in weights.tensors(name) if tensors[each].is_floating_point()}
    given = {each: own.get(each, tensors[each]) for each in weights.tensors(name)}
    best: Gain | None = None
    try:
        base = weights.value(name, given, {})
        for each in own:
            reached = {end for node in nodes.values() if _is(node, each, analysis) for end in ends[node.name]}
            if reached != {name}:
                continue
            for candidate in _scalings(name, each, base, given, analysis, weights):
                good = {prime for prime in wanted if _makes_up(candidate, prime, base, given, analysis, weights)}
                if good and (best is None or len(good) > len(best.primes)):
                    best = Gain(name, each, candidate.degree, candidate.dims, frozenset(good))
    except Exception:  # an operator that takes no such numbers, or that cannot be run without units
        return None
    return best


def _is(node: fx.Node, name: str, analysis: GraphAxes) -> bool:
    return node.op == "get_attr" and analysis.first.get(str(node.target)) == name


def _scalings(
    name: str, tensor: str, base: Tensor, given: Mapping[str, Tensor], analysis: GraphAxes, weights: Weights
) -> Iterable[Gain]:
    """Ways in which the tensor scales the weights: by each of its values, or all by one number."""
    value, dims = given[tensor], analysis.values[name]
    pairs = _along(analysis.tensors[tensor], dims)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for way in dict.fromkeys(([tuple(pairs)] if pairs else []) + [()]):
        shape = [value.shape[dim] if any(dim == own for own, _ in way) else 1 for dim in range(value.dim())]
        scale = (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)).to(value.device)
        scaled = weights.value(name, {**given, tensor: value * scale}, {})
        for degree in (1, -1):
            if _agree(scaled, base * _spread(scale, way, base.dim()) ** degree):
                yield Gain(name, tensor, degree, way, frozenset())


def _along(own: Dims, dims: Dims) -> list[tuple[int, int]] | None:
    """Where each dimension of a tensor lies among those of the weights; None where one does not."""
    pairs = []
    for dim, axis in enumerate(own):
        if axis.size > 1:
            alike = [at for at, other in enumerate(dims) if [*map(id, factors(other))] == [*map(id, factors(axis))]]
            if len(alike) != 1:
                return None
            pairs.append((dim, alike[0]))
    return pairs


def _spread(scale: Tensor, way: Sequence[tuple[int, int]], rank: int) -> Tensor:
    """A factor in the shape of a tensor, in one that it can be multiplied with the weights in."""
    shape = [1] * rank
    for own, other in way:
        shape[other] = scale.shape[own]
    order = [own for own, _ in sorted(way, key=lambda pair: pair[1])]
    rest = [dim for dim in range(scale.dim()) if dim not in order]
    return scale.permute([*order, *rest]).reshape(shape)


def _makes_up(
    gain: Gain, prime: Prime, base: Tensor, given: Mapping[str, Tensor], analysis: GraphAxes, weights: Weights
) -> bool:
    """Whether the weights are what they were when a third of these units goes, whichever."""
    if gain.degree > 0 and any(holds(axis, prime) for axis in analysis.tensors[gain.tensor]):
        return False  # these are the weights themselves
    for seed in (0, 1):
        mask = np.random.default_rng(seed).permutation(prime.size) >= max(1, prime.size // 3)
        keep: dict[Prime, Mask] = {prime: mask}
        left = {name: _left(value, analysis.tensors[name], keep, {}) for name, value in given.items()}
        changed = _changed(gain, base, left, keep, {}, analysis, weights)
        after = weights.value(gain.node, {**left, gain.tensor: changed}, keep)
        if not _agree(after, _left(base, analysis.values[gain.node], keep, {})):  # type: ignore[arg-type]
            return False
    return True


def made_up(
    gains: Iterable[Gain], weights: Weights, tensors: Mapping[str, Tensor], keep: Keep, held: Keep | None = None
) -> dict[str, Tensor]:
    """Gains (by first names) that change when `keep` is left of what `held` has left; `tensors`: as these are now."""
    analysis, before = weights.analysis, held or {}
    changed: dict[str, Tensor] = {}
    for gain in gains:
        going = (kept(prime, keep)[kept(prime, before)] for prime in gain.primes)
        if all(mask.all() for mask in going):
            continue
        names = weights.tensors(gain.node)
        given = {
            name: tensors[name].detach().double() if tensors[name].is_floating_point() else tensors[name]
            for name in names
        }
        base = weights.value(gain.node, given, before)
        left = {name: _left(value, analysis.tensors[name], keep, before) for name, value in given.items()}
        value = _changed(gain, base, left, keep, before, analysis, weights)
        changed[gain.tensor] = value.to(tensors[gain.tensor].dtype)
    return changed


def _changed(
    gain: Gain,
    base: Tensor,
    left: Mapping[str, Tensor],
    keep: Keep,
    held: Keep,
    analysis: GraphAxes,
    weights: Weights,
) -> Tensor:
    """The gain, times what the weights that stay were over what they are: the best factor in the sense of squares."""
    now = weights.value(gain.node, left, keep).double()
    was = _left(base, analysis.values[gain.node], keep, held).double()  # type: ignore[arg-type]
    rest = [dim for dim in range(now.dim()) if all(dim != other for _, other in gain.dims)]
    over, under = was * now, now * now
    if rest:
        over, under = over.sum(rest, keepdim=True), under.sum(rest, keepdim=True)
    factor = (over / under) ** gain.degree
    factor = factor.where(factor.isfinite() & (factor != 0), torch.ones_like(factor))
    value = left[gain.tensor]
    order = [other for _, other in gain.dims]
    factor = factor.permute([*order, *(dim for dim in range(factor.dim()) if dim not in order)]).flatten()
    shape = [value.shape[dim] if any(dim == own for own, _ in gain.dims) else 1 for dim in range(value.dim())]
    return value * factor.reshape(shape)


def _left(value: Tensor, dims: Collection[Axis], keep: Keep, held: Keep) -> Tensor:
    for dim, axis in enumerate(dims):
        mask = kept(axis, keep)[kept(axis, held)]
        if not mask.all():
            value = value.index_select(dim, torch.from_numpy(np.flatnonzero(mask)).to(value.device))
    return value


def _agree(values: Tensor, expected: Tensor) -> bool:
    if values.shape != expected.shape or not values.numel():
        return False
    return bool((values - expected).abs().max() <= _EXACT * expected.abs().max())
