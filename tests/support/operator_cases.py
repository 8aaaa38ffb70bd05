"""Small networks, one for each way in which an operator treats axes: what comes free, what stays and why.

Each has a layer `a` before the operator and a layer `b` behind it. B: batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

Function = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class OperatorCase:
    """`units`: group -> its size. `shifts`: groups whose removal changes what is computed over them."""

    function: Function
    parts: Callable[[], Mapping[str, Any]]
    shape: tuple[int, ...]  # of a sample
    units: Mapping[str, int] = field(default_factory=dict)
    shifts: frozenset[str] = frozenset()
    stays: str = ""  # a reason that must be among those of what is frozen
    macs: bool = True  # whether FlopCounterMode sees what the operator computes


class Tiny(nn.Module):
    """Parts, and what is done with them."""

    def __init__(self, function: Function, parts: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self, inputs)


def linear(first: int = 6, second: int | None = None, rest: int = 3, **more: Callable[[], Any]) -> Any:
    """a: 5 to `first`; b: `second` (default: `first`) to 3. `more`: makes other parts."""
    return lambda: {
        "a": nn.Linear(5, first),
        "b": nn.Linear(first if second is None else second, rest),
        **{name: make() for name, make in more.items()},
    }


def conv(first: int = 6, second: int | None = None, dims: int = 2, **more: Callable[[], Any]) -> Any:
    """a: 3x3 from 2 channels; b: 1x1 to 3."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    return lambda: {
        "a": kind(2, first, 3, padding=1),
        "b": kind(first if second is None else second, 3, 1),
        **{name: make() for name, make in more.items()},
    }


def number(*shape: int) -> Callable[[], nn.Parameter]:
    return lambda: nn.Parameter(torch.randn(*shape))


def alone(act: Callable[[Tensor], Tensor], size: int = 6, **more: Any) -> OperatorCase:
    """An operator between two linear layers that leaves `a` as it is."""
    return OperatorCase(lambda m, x: m.b(act(m.a(x))), linear(size), (5,), {"a": size}, **more)


def on_maps(act: Callable[[Tensor], Tensor], first: int = 6, second: int | None = None, **more: Any) -> OperatorCase:
    """An operator between two convolutions; units by default those of `a`."""
    more = {"units": {"a": first}, **more}
    return OperatorCase(lambda m, x: m.b(act(m.a(x))), conv(first, second), (2, 8, 8), **more)


def frozen(act: Callable[[Tensor], Tensor], why: str, first: int = 6, second: int | None = None) -> OperatorCase:
    """An operator for which all of `a` must stay."""
    return OperatorCase(lambda m, x: m.b(act(m.a(x))), linear(first, second), (5,), stays=why)


def shifting(act: Callable[[Tensor], Tensor]) -> OperatorCase:
    """An operator that computes one number over all units of `a`."""
    return alone(lambda x: x * act(x), shifts=frozenset({"a"}))


def _assigned(hidden: Tensor) -> Tensor:
    hidden = torch.relu(hidden)
    hidden[:, :2] = 0.5
    return hidden


def _put(hidden: Tensor) -> Tensor:
    hidden = torch.relu(hidden)
    hidden[:, [0, 2]] = 1.0
    return hidden


def _heads(m: Any, x: Tensor, **options: Any) -> Tensor:
    """x: (B, 4, 5). Two heads of three."""
    query, key, value = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (m.a, m.c, m.d))
    mixed: Tensor = F.scaled_dot_product_attention(query, key, value, **options).transpose(1, 2).flatten(2)
    return m.b(mixed)


def _grouped_heads(m: Any, x: Tensor) -> Tensor:
    """Four heads of queries, two of keys and values, of three."""
    query, key, value = (layer(x).unflatten(-1, (-1, 3)).transpose(1, 2) for layer in (m.a, m.c, m.d))
    mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    return m.b(mixed.transpose(1, 2).flatten(2))


def _steps(m: Any, x: Tensor, lstm: bool) -> Tensor:
    """A cell over the second dimension."""
    hidden = torch.tanh(m.a(x))
    state = None
    for step in hidden.unbind(1):
        state = m.cell(step, state)
    assert state is not None
    return m.b(state[0] if lstm else state)


THREE = {"a": lambda: nn.Linear(5, 6), "c": lambda: nn.Linear(5, 6), "d": lambda: nn.Linear(5, 6)}
ATTENTION = linear(6, c=THREE["c"], d=THREE["d"])
HEADS = {"a": 2, "a#2": 3, "d": 3}

ELEMENTWISE = {
    "relu": alone(F.relu),
    "in_place": alone(lambda x: F.relu_(x.clone()).mul_(2.0)),
    "clamp": alone(lambda x: x.clamp(-0.5, 0.5).clip(max=0.3).clamp_min(-0.2)),
    "where": alone(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "masked_fill": alone(lambda x: x.masked_fill(x < 0, 0.25)),
    "fill": alone(lambda x: x + torch.zeros_like(x).fill_(0.5)),
    "broadcast": OperatorCase(
        lambda m, x: m.b(m.a(x) * m.scale + m.c(x)),
        linear(6, scale=number(6), c=lambda: nn.Linear(5, 6)),
        (5,),
        {"scale": 6},
    ),
    "prelu": OperatorCase(lambda m, x: m.b(m.p(m.a(x))), linear(6, p=lambda: nn.PReLU(6)), (5,), {"a": 6}),
    "prelu_of_maps": OperatorCase(lambda m, x: m.b(m.p(m.a(x))), conv(6, p=lambda: nn.PReLU(6)), (2, 4, 4), {"a": 6}),
    "dropout": alone(lambda x: F.dropout(F.gelu(x), 0.5, training=False)),
}

PRODUCTS = {
    "linear": OperatorCase(
        lambda m, x: m.b(m.a(x)), lambda: {"a": nn.Linear(5, 6, bias=False), "b": nn.Linear(6, 3)}, (4, 5), {"a": 6}
    ),
    "addmm": OperatorCase(
        lambda m, x: torch.addmm(m.bias, m.a(x), m.matrix),
        linear(6, bias=number(4), matrix=number(6, 4)),
        (5,),
        {"a": 6},
    ),
    "matmul": OperatorCase(lambda m, x: m.a(x) @ m.matrix, linear(6, matrix=number(6, 4)), (4, 5), {"a": 6}),
    "mm": OperatorCase(lambda m, x: torch.mm(m.a(x), m.matrix), linear(6, matrix=number(6, 4)), (5,), {"a": 6}),
    "mv": OperatorCase(lambda m, x: torch.mv(m.a(x), m.vector), linear(6, vector=number(6)), (5,), {"a": 6}),
    "addmv": OperatorCase(
        lambda m, x: torch.addmv(m.bias, m.a(x), m.vector), linear(6, vector=number(6), bias=number(1)), (5,), {"a": 6}
    ),
    "dot": OperatorCase(
        lambda m, x: x.sum(1) * torch.dot(torch.relu(m.a.bias), m.vector), linear(6, vector=number(6)), (5,), {"a": 6}
    ),
    "outer": OperatorCase(
        lambda m, x: m.a(x) @ torch.outer(m.one, m.other),
        linear(6, one=number(6), other=number(3)),
        (5,),
        {"one": 6},
    ),
    "inner": OperatorCase(lambda m, x: torch.inner(m.a(x), m.rows), linear(6, rows=number(4, 6)), (5,), {"a": 6}),
    "tensordot": OperatorCase(
        lambda m, x: torch.tensordot(m.a(x), m.cube, dims=([1, 2], [1, 0])),
        linear(6, cube=number(6, 4, 2)),
        (4, 5),
        {"a": 6},
    ),
    "bmm": OperatorCase(
        lambda m, x: m.b(torch.bmm(m.a(x), m.c(x).transpose(1, 2)) @ m.d(x)), ATTENTION, (4, 5), {"a": 6, "d": 6}
    ),
    "baddbmm": OperatorCase(
        lambda m, x: m.b(torch.baddbmm(m.d(x), m.a(x), m.cube.expand(x.shape[0], 6, 6))),
        linear(6, d=THREE["d"], cube=number(1, 6, 6)),
        (4, 5),
        {"cube": 6, "cube#2": 6},
    ),
    "bilinear": OperatorCase(
        lambda m, x: m.b(m.both(m.a(x), m.c(x))),
        linear(6, 4, c=lambda: nn.Linear(5, 7), both=lambda: nn.Bilinear(6, 7, 4)),
        (5,),
        {"a": 6, "c": 7, "both": 4},
    ),
    "einsum": OperatorCase(
        lambda m, x: torch.einsum("bnd,de->bne", m.a(x), m.matrix), linear(6, matrix=number(6, 4)), (4, 5), {"a": 6}
    ),
    "einsum_ellipsis": OperatorCase(
        lambda m, x: torch.einsum("...d,ed->...e", m.a(x), m.matrix), linear(6, matrix=number(4, 6)), (4, 5), {"a": 6}
    ),
    "einsum_without_arrow": OperatorCase(
        lambda m, x: m.b(torch.einsum("...d,de", m.a(x), m.matrix)),
        linear(6, 4, matrix=number(6, 4)),
        (4, 5),
        {"a": 6, "matrix": 4},
    ),
    "einsum_over_a_diagonal": OperatorCase(
        lambda m, x: m.b(m.a(x)) + m.d(m.c(x)) * torch.einsum("bnd,dd->bn", m.a(x), m.square)[:, :, None],
        linear(6, c=lambda: nn.Linear(5, 6), d=lambda: nn.Linear(6, 3), square=number(6, 6)),
        (4, 5),
        {"c": 6},
        stays="a diagonal",
    ),
    "einsum_of_a_trace": OperatorCase(
        lambda m, x: m.b(m.a(x) * torch.einsum("bnn->b", m.a(x) @ m.c(x).mT)[:, None, None]),
        linear(6, c=lambda: nn.Linear(5, 6)),
        (4, 5),
        {"a": 6},
    ),
    "vdot": OperatorCase(
        lambda m, x: x.sum(1) * torch.vdot(torch.relu(m.a.bias), m.vector), linear(6, vector=number(6)), (5,), {"a": 6}
    ),
    "vecdot": OperatorCase(
        lambda m, x: m.b(m.a(x)) * torch.linalg.vecdot(m.c(x), m.d(x))[..., None],
        linear(6, c=lambda: nn.Linear(5, 4), d=lambda: nn.Linear(5, 4)),
        (4, 5),
        {"a": 6, "c": 4},
    ),
    "einsum_of_four": OperatorCase(
        lambda m, x: torch.einsum("bi,ij,jk,ko->bo", m.a(x), m.one, m.two, m.three),
        linear(6, one=number(6, 4), two=number(4, 5), three=number(5, 3)),
        (5,),
        {"a": 6},
        stays="no parameter makes it",
    ),
}

MAPS = {
    "conv1d": OperatorCase(lambda m, x: m.b(m.a(x)), conv(6, dims=1), (2, 8), {"a": 6}),
    "conv3d": OperatorCase(lambda m, x: m.b(m.a(x)), conv(6, dims=3), (2, 4, 4, 4), {"a": 6}),
    "conv_padding_same": OperatorCase(
        lambda m, x: m.b(m.c(m.a(x))),
        conv(6, c=lambda: nn.Conv2d(6, 6, 3, padding="same", groups=3)),
        (2, 4, 4),
        {"a": 3, "a#2": 2, "c": 2},
    ),
    "depthwise": OperatorCase(
        lambda m, x: m.b(m.c(m.a(x))), conv(6, c=lambda: nn.Conv2d(6, 6, 3, groups=6)), (2, 4, 4), {"a": 6}
    ),
    "depthwise_twice": OperatorCase(
        lambda m, x: m.b(m.c(m.a(x))), conv(6, 12, c=lambda: nn.Conv2d(6, 12, 3, groups=6)), (2, 4, 4), {"a": 6, "c": 2}
    ),
    "transposed": OperatorCase(
        lambda m, x: m.b(m.c(m.a(x))), conv(6, 4, c=lambda: nn.ConvTranspose2d(6, 4, 2, 2)), (2, 4, 4), {"a": 6, "c": 4}
    ),
    "transposed_groups": OperatorCase(
        lambda m, x: m.b(m.c(m.a(x))),
        conv(6, 8, c=lambda: nn.ConvTranspose2d(6, 8, 2, 2, groups=2)),
        (2, 4, 4),
        {"a": 2, "a#2": 3, "c": 4},
    ),
    "max_pool": on_maps(lambda x: F.max_pool2d(x, 2)),
    "max_pool_with_places": on_maps(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "avg_pool": on_maps(lambda x: F.avg_pool2d(x, 2)),
    "adaptive_max_pool": on_maps(lambda x: F.adaptive_max_pool2d(x, 2)),
    "lp_pool": on_maps(lambda x: F.lp_pool2d(F.relu(x), 2, 2)),
    "upsample": on_maps(lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, (16, 16), mode="bilinear")),
    "reflected": on_maps(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "pixel_shuffle": on_maps(lambda x: F.pixel_shuffle(x, 2), 24, 6, units={"a": 6}),
    "pixel_unshuffle": on_maps(lambda x: F.pixel_unshuffle(x, 2), 6, 24),
    "channel_shuffle": on_maps(lambda x: F.channel_shuffle(x, 2), 6, units={"a": 2, "a#2": 3}),
    "unfold_and_fold": on_maps(lambda x: F.fold(F.unfold(x, 3, padding=1), (8, 8), 3, padding=1)),
    "unfold": OperatorCase(
        lambda m, x: m.b(F.unfold(m.a(x), 2, stride=2).transpose(1, 2)),
        lambda: {"a": nn.Conv2d(2, 6, 1), "b": nn.Linear(24, 3)},
        (2, 4, 4),
        {"a": 6},
    ),
}

PARTS = {
    "cat": OperatorCase(
        lambda m, x: m.b(torch.cat([m.a(x), m.c(x), x], 1)),
        linear(6, 15, c=lambda: nn.Linear(5, 4)),
        (5,),
        {"a": 6, "c": 4},
    ),
    "stack": OperatorCase(lambda m, x: m.b(torch.stack([m.a(x), m.c(x)], 1)), linear(6, c=THREE["c"]), (5,), {"a": 6}),
    "chunk": OperatorCase(lambda m, x: m.b(torch.mul(*m.a(x).chunk(2, 1))), linear(6, 3), (5,), {"a": 3}),
    "uneven_chunk": OperatorCase(
        lambda m, x: m.b(x[:, 0, None] * torch.cat(m.a(x).chunk(2, 1)[::-1], 1)), linear(7), (5,), {"a": 4, "a#2": 3}
    ),
    "split": OperatorCase(
        lambda m, x: m.b(torch.cat(m.a(x).split([4, 2], 1)[::-1], 1)), linear(6), (5,), {"a": 4, "a#2": 2}
    ),
    "tensor_split": OperatorCase(lambda m, x: m.b(m.a(x).tensor_split([2, 4], 1)[1]), linear(6, 2), (5,), {"a": 2}),
    "slice": OperatorCase(lambda m, x: m.b(m.a(x)[:, -4:]), linear(6, 4), (5,), {"a": 4}),
    "slice_twice": OperatorCase(
        lambda m, x: m.b(m.a(x)[:, :4]) + m.c(m.a(x)[:, 2:]),
        linear(6, 4, c=lambda: nn.Linear(4, 3)),
        (5,),
        {"a": 2, "a#2": 2, "a#3": 2},
    ),
    "slice_with_steps": frozen(lambda x: x[:, ::2], "a slice with steps", 6, 3),
    "assigned": OperatorCase(lambda m, x: m.b(_assigned(m.a(x))), linear(6), (5,), {"a": 2, "a#2": 4}),
    "narrow": OperatorCase(lambda m, x: m.b(m.a(x).narrow(1, 1, 3)), linear(6, 3), (5,), {"a": 3}),
    "select": frozen(lambda x: x[:, 0, None] * x[:, 1:], "chosen by its place", 6, 5),
    "unbind": OperatorCase(lambda m, x: m.b(sum(m.a(x).unbind(1))), linear(6), (4, 5), {"a": 6}),
    "pad": OperatorCase(lambda m, x: m.b(F.pad(m.a(x), (1, 2), value=0.5)), linear(6, 9), (5,), {"a": 6}),
    "pad_that_cuts": OperatorCase(lambda m, x: m.b(F.pad(m.a(x), (0, 0, 1, -2))), linear(6), (4, 5), {"a": 6}),
    "pad_that_cuts_units": frozen(lambda x: F.pad(x, (1, -2)), "cut by a negative padding", 6, 5),
    "chunk_of_samples": OperatorCase(
        lambda m, x: m.b(torch.cat(m.a(x).chunk(math.ceil(x.shape[0] / 128)))), linear(6), (5,), {"a": 6}
    ),
    "padded_in_a_circle": frozen(lambda x: F.pad(x[:, None], (1, 1), mode="circular")[:, 0], "padded by its own", 6, 8),
    "roll": frozen(lambda x: x.roll(1, 1), "moved within its dimension"),
    "roll_of_all": frozen(lambda x: x.roll(1), "moved within its dimension"),
    "roll_of_positions": OperatorCase(lambda m, x: m.b(m.a(x).roll((1, 2), (1, 2))), linear(6), (4, 4, 5), {"a": 6}),
    "flip": frozen(lambda x: x.flip(1), "moved within its dimension"),
    "glu": OperatorCase(lambda m, x: m.b(F.glu(m.a(x))), linear(6, 3), (5,), {"a": 3}),
    "glu_of_channels": OperatorCase(lambda m, x: m.b(F.glu(m.a(x), 1)), conv(6, 3), (2, 4, 4), {"a": 3}),
    "windows": frozen(lambda x: x.unfold(1, 3, 1).sum(-1), "windows that overlap", 6, 4),
}

INDEXING = {
    "embedding": OperatorCase(
        lambda m, x: m.b(m.table((x > 0).long())),
        linear(5, 6, table=lambda: nn.Embedding(9, 6)),
        (4,),
        {"table": 6},
        stays="the vocabulary of an embedding",
    ),
    "index": OperatorCase(lambda m, x: m.b(m.a(x)[:, torch.tensor([2, 0])]), linear(6), (4, 5), {"a": 6}),
    "index_of_units": frozen(lambda x: x[:, torch.tensor([2, 0])], "chosen by indices", 6, 2),
    "index_select": OperatorCase(
        lambda m, x: m.b(m.a(x).index_select(1, torch.tensor([1, 0, 0]))), linear(6), (4, 5), {"a": 6}
    ),
    "gather": OperatorCase(
        lambda m, x: m.b(m.a(x).gather(1, x[:, :, :1].argsort(1).expand(-1, -1, 6))), linear(6), (4, 5), {"a": 6}
    ),
    "gather_of_units": frozen(lambda x: x.gather(1, x.argsort(1)), "chosen by indices"),
    "scatter": OperatorCase(
        lambda m, x: m.b(torch.zeros_like(h := m.a(x)).scatter(1, x[:, :, :1].argsort(1).expand(-1, -1, 6), h)),
        linear(6),
        (4, 5),
        {"a": 6},
    ),
    "index_put": frozen(_put, "chosen by indices"),
}

NORMS = {
    "batch_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))), linear(6, norm=lambda: nn.BatchNorm1d(6)), (5,), {"a": 6}
    ),
    "batch_norm_without_weights": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))), conv(6, norm=lambda: nn.BatchNorm2d(6, affine=False)), (2, 4, 4), {"a": 6}
    ),
    "instance_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))), conv(6, norm=lambda: nn.InstanceNorm2d(6, affine=True)), (2, 4, 4), {"a": 6}
    ),
    "layer_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))), linear(6, norm=lambda: nn.LayerNorm(6)), (5,), {"a": 6}, frozenset({"a"})
    ),
    "rms_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))), linear(6, norm=lambda: nn.RMSNorm(6)), (5,), {"a": 6}, frozenset({"a"})
    ),
    "group_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))),
        conv(6, norm=lambda: nn.GroupNorm(3, 6)),
        (2, 4, 4),
        {"a": 3, "a#2": 2},
        frozenset({"a#2"}),
    ),
    "weight_norm": OperatorCase(
        lambda m, x: m.b(m.norm(m.a(x))),
        linear(6, 4, norm=lambda: parametrizations.weight_norm(nn.Linear(6, 4))),
        (5,),
        {"a": 6, "norm": 4},
    ),
}

REDUCTIONS = {
    "mean": shifting(lambda x: x.mean(1, keepdim=True)),
    "mean_of_positions": OperatorCase(lambda m, x: m.b(m.a(x).mean(1)), linear(6), (4, 5), {"a": 6}),
    "sum": OperatorCase(
        lambda m, x: m.b(m.c(x) + m.a(x).sum(1, keepdim=True)),
        linear(6, 4, c=lambda: nn.Linear(5, 4)),
        (5,),
        {"a": 6, "c": 4},
    ),
    "amax": shifting(lambda x: x.amax(1, keepdim=True)),
    "max": shifting(lambda x: x.max(1, keepdim=True).values),
    "max_with_places": frozen(lambda x: x * x.max(1, keepdim=True).indices, "ranked against each other"),
    "max_of_positions": OperatorCase(lambda m, x: m.b(m.a(x).max(1).values), linear(6), (4, 5), {"a": 6}),
    "logsumexp": shifting(lambda x: x.logsumexp(1, keepdim=True)),
    "product": shifting(lambda x: x.prod(1, keepdim=True)),
    "any": shifting(lambda x: (x > 0).any(1, keepdim=True)),
    "var": shifting(lambda x: x.var(1, keepdim=True) + x.std(1, keepdim=True)),
    "std_mean": shifting(lambda x: torch.add(*torch.std_mean(x, 1, keepdim=True))),
    "norm": shifting(lambda x: x.norm(dim=1, keepdim=True)),
    "normalize": OperatorCase(lambda m, x: m.b(F.normalize(m.a(x))), linear(6), (5,), {"a": 6}, frozenset({"a"})),
    "softmax": frozen(lambda x: x.softmax(1), "weighed against each other"),
    "log_softmax": frozen(lambda x: F.log_softmax(x, 1), "weighed against each other"),
    "cumsum": frozen(lambda x: x.cumsum(1), "summed up in order"),
    "topk": frozen(lambda x: x.topk(3, 1).values, "ranked against each other", 6, 3),
    "argmax": frozen(lambda x: x * x.argmax(1, keepdim=True), "ranked against each other"),
    "sort": frozen(lambda x: x.sort(1).values, "ranked against each other"),
    "sort_of_positions": OperatorCase(lambda m, x: m.b(m.a(x).sort(1)[0]), linear(6), (4, 5), {"a": 6}),
    "argsort": frozen(lambda x: x * x.argsort(1), "ranked against each other"),
    "diff": frozen(lambda x: x.diff(dim=1, prepend=x[:, :1]), "differences of neighbours"),
    "diff_of_positions": OperatorCase(lambda m, x: m.b(m.a(x).diff(dim=1)), linear(6), (4, 5), {"a": 6}),
    "triangle": frozen(lambda x: (x[:, :, None] * x[:, None]).tril().sum(1), "a triangle of a matrix"),
}

SPECTRAL = {
    "fft_of_positions": OperatorCase(lambda m, x: m.b(torch.fft.fft(m.a(x), dim=1).real), linear(6), (4, 5), {"a": 6}),
    "fft_of_units": frozen(lambda x: torch.fft.fft(x).abs(), "mixed by a Fourier transform"),
    "fft_of_both": frozen(lambda x: torch.fft.fft2(x[:, None]).real[:, 0], "mixed by a Fourier transform"),
    "there_and_back": OperatorCase(
        lambda m, x: m.b(torch.fft.irfftn(torch.fft.rfftn(m.a(x), dim=(1,)) * m.filter[:, None], s=(4,), dim=(1,))),
        linear(6, filter=number(3)),
        (4, 5),
        {"a": 6},
    ),
    "complex": OperatorCase(
        lambda m, x: m.b(torch.complex(m.a(x), m.c(x)).conj().angle() + torch.polar(m.a(x).abs(), m.c(x)).imag),
        linear(6, c=lambda: nn.Linear(5, 6)),
        (5,),
        {"a": 6},
    ),
    "rotated": OperatorCase(
        lambda m, x: m.b(
            torch.view_as_real(
                torch.view_as_complex(m.a(x).view(-1, 3, 2)) * torch.polar(torch.ones_like(m.turn), m.turn)
            ).flatten(1)
        ),
        linear(6, turn=number(3)),
        (5,),
        {"turn": 3},
        stays="the parts of a complex number",
    ),
    "matrix_norm": shifting(lambda x: torch.linalg.matrix_norm(x[:, None], "fro", keepdim=True)[:, 0]),
    "norm_of_another_order": shifting(lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True)),
    "norm_of_positions": OperatorCase(
        lambda m, x: m.b(m.a(x) * torch.linalg.vector_norm(m.a(x), 3, dim=1, keepdim=True)), linear(6), (4, 5), {"a": 6}
    ),
    "cosine": shifting(lambda x: F.cosine_similarity(x, x.roll(1, 0), dim=1)[:, None]),
    "trace": OperatorCase(
        lambda m, x: m.b(m.a(x)) * torch.trace(m.square),
        linear(6, square=number(4, 4)),
        (5,),
        {"a": 6},
        stays="a diagonal",
    ),
}

SHAPES = {
    "view": OperatorCase(
        lambda m, x: m.b(m.a(x).view(-1, 3, 2).transpose(1, 2)),
        linear(6, 3),
        (5,),
        {"a": 3},
    ),
    "flatten": OperatorCase(
        lambda m, x: m.b(m.a(x).flatten(1)),
        lambda: {"a": nn.Conv2d(2, 6, 3), "b": nn.Linear(24, 3)},
        (2, 4, 4),
        {"a": 6},
        stays="a position",
    ),
    "unflatten": OperatorCase(
        lambda m, x: m.b(m.a(x).unflatten(1, (2, 3)).transpose(1, 2).flatten(1)), linear(6), (5,), {"a": 2, "a#2": 3}
    ),
    "view_as": OperatorCase(lambda m, x: m.b(m.a(x).view_as(m.c(x)) + m.c(x)), linear(6, c=THREE["c"]), (5,), {"a": 6}),
    "interleaved": OperatorCase(
        lambda m, x: m.b(m.a(x).view(-1, 6, 4).transpose(1, 2).reshape(-1, 6, 4)),
        linear(24, 4),
        (5,),
        {"a": 2},
        stays="interleaved with an order",
    ),
    "squeeze": OperatorCase(
        lambda m, x: m.b(m.a(x).unsqueeze(1).squeeze(1)[:, None, :, None].squeeze((1, 3))), linear(6), (5,), {"a": 6}
    ),
    "permute": OperatorCase(
        lambda m, x: m.b(m.a(x).permute(2, 0, 1).movedim(0, -1).swapaxes(0, 1).transpose(0, 1)),
        linear(6),
        (4, 5),
        {"a": 6},
    ),
    "matrix_transposed": OperatorCase(lambda m, x: m.b(m.a(x).mT.mT), linear(6), (4, 5), {"a": 6}),
    "expand": OperatorCase(
        lambda m, x: m.b(m.a(x)[:, None].expand(-1, 4, -1) + m.row.expand_as(m.a(x)[:, None])),
        linear(6, row=number(1, 6)),
        (5,),
        {"row": 6},
    ),
    "repeat": OperatorCase(lambda m, x: m.b(m.a(x).repeat(1, 2)), linear(6, 12), (5,), {"a": 6}),
    "repeat_interleave": OperatorCase(lambda m, x: m.b(m.a(x).repeat_interleave(2, 1)), linear(6, 12), (5,), {"a": 6}),
    "made": OperatorCase(
        lambda m, x: m.b(m.a(x) + torch.ones(x.shape[0], 6) + x.new_zeros(6) + torch.arange(x.shape[1])[0]),
        linear(6),
        (5,),
        {"a": 6},
    ),
}

ATTENTIONS = {
    "attention": OperatorCase(_heads, ATTENTION, (4, 5), HEADS),
    "causal": OperatorCase(lambda m, x: _heads(m, x, is_causal=True), ATTENTION, (4, 5), HEADS),
    "scaled": OperatorCase(lambda m, x: _heads(m, x, scale=0.3), ATTENTION, (4, 5), HEADS),
    "masked": OperatorCase(
        lambda m, x: _heads(m, x, attn_mask=torch.ones(4, 4, dtype=torch.bool).tril()), ATTENTION, (4, 5), HEADS
    ),
    "biased": OperatorCase(
        lambda m, x: _heads(m, x, attn_mask=m.bias),
        linear(6, c=THREE["c"], d=THREE["d"], bias=number(2, 4, 4)),
        (4, 5),
        {"bias": 2, "a": 3, "d": 3},
    ),
    "grouped": OperatorCase(
        _grouped_heads, linear(12, c=THREE["c"], d=THREE["d"]), (4, 5), {"a": 2, "a#2": 2, "a#3": 3, "d": 3}
    ),
}


def _recurrent(kind: Callable[..., nn.RNNBase], width: int = 4, units: int = 4, **options: Any) -> OperatorCase:
    """A recurrent layer of four units between two linear layers; `b` takes `width` of it."""
    return OperatorCase(
        lambda m, x: m.b(m.layer(torch.tanh(m.a(x)))[0]),
        linear(6, width, layer=lambda: kind(6, 4, batch_first=True, **options)),
        (7, 5),
        {"a": 6, "layer": units},
    )


RECURRENT = {
    "lstm": _recurrent(nn.LSTM),
    "lstm_without_bias": _recurrent(nn.LSTM, bias=False),
    "lstm_of_two_layers_both_ways": _recurrent(nn.LSTM, 8, num_layers=2, bidirectional=True),
    "lstm_with_projection": _recurrent(nn.LSTM, 3, 3, proj_size=3),
    "gru": _recurrent(nn.GRU),
    "rnn": _recurrent(nn.RNN),
    "rnn_of_positions_first": OperatorCase(
        lambda m, x: m.b(m.layer(torch.tanh(m.a(x)).transpose(0, 1))[0].transpose(0, 1)),
        linear(6, 4, layer=lambda: nn.RNN(6, 4, nonlinearity="relu")),
        (7, 5),
        {"a": 6, "layer": 4},
    ),
    "last_state": OperatorCase(
        lambda m, x: m.b(m.layer(m.a(x))[1][0].squeeze(0)),
        linear(6, 4, layer=lambda: nn.LSTM(6, 4, batch_first=True)),
        (7, 5),
        {"a": 6, "layer": 4},
    ),
    "lstm_cell": OperatorCase(
        lambda m, x: _steps(m, x, True), linear(6, 4, cell=lambda: nn.LSTMCell(6, 4)), (3, 5), {"a": 6, "cell": 4}
    ),
    "gru_cell": OperatorCase(
        lambda m, x: _steps(m, x, False), linear(6, 4, cell=lambda: nn.GRUCell(6, 4)), (3, 5), {"a": 6, "cell": 4}
    ),
    "rnn_cell": OperatorCase(
        lambda m, x: _steps(m, x, False),
        linear(6, 4, cell=lambda: nn.RNNCell(6, 4, bias=False)),
        (3, 5),
        {"a": 6, "cell": 4},
    ),
}

FAMILIES = {
    "elementwise": ELEMENTWISE,
    "products": PRODUCTS,
    "maps": MAPS,
    "parts": PARTS,
    "indexing": INDEXING,
    "norms": NORMS,
    "reductions": REDUCTIONS,
    "shapes": SHAPES,
    "spectral": SPECTRAL,
    "attention": ATTENTIONS,
    "recurrent": RECURRENT,
}
CASES = {f"{family}-{name}": case for family, cases in FAMILIES.items() for name, case in cases.items()}
