"""What takes the maps of each channel by themselves: pooling, resizing, padding; and channels made of positions."""

from __future__ import annotations

from modelopt_cli.models.graph.axes import product
from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, table
from modelopt_cli.models.graph.operators.convolutions import SPATIAL


def _pool(dims: int) -> Operator:
    def rule(call: Call) -> Dims:
        inputs = call.tensor(0)
        for axis in inputs[-dims:]:
            call.freeze(axis, SPATIAL)
        return [*inputs[:-dims], *(call.new(size, SPATIAL) for size in call.shape[-dims:])]

    return Operator(rule)


def _pool_with_places(dims: int) -> Operator:
    """(maxima, where they stand)"""

    def rule(call: Call) -> list[Dims | None]:
        inputs, result = call.tensor(0), call.node.meta["val"][0]
        for axis in inputs[-dims:]:
            call.freeze(axis, SPATIAL)
        axes = [*inputs[:-dims], *(call.new(call.number(size), SPATIAL) for size in result.shape[-dims:])]
        return [list(axes), list(axes)]

    return Operator(rule)


def _pixel_shuffle(call: Call) -> Dims:
    inputs, factor = call.tensor(0), call.argument(1)
    channels, within = call.split(inputs[-3], inputs[-3].size // factor**2)
    for axis in (within, *inputs[-2:]):
        call.freeze(axis, SPATIAL)
    return [*inputs[:-3], channels, *(call.new(size, SPATIAL) for size in call.shape[-2:])]


def _pixel_unshuffle(call: Call) -> Dims:
    inputs, factor = call.tensor(0), call.argument(1)
    for axis in inputs[-2:]:
        call.freeze(axis, SPATIAL)
    within = call.new(factor**2, SPATIAL)
    positions = [call.new(size, SPATIAL) for size in call.shape[-2:]]
    return [*inputs[:-3], product([inputs[-3], within]), *positions]


def _channel_shuffle(call: Call) -> Dims:
    """Groups x channels of a group become channels of a group x groups."""
    inputs = call.tensor(0)
    groups, within = call.split(inputs[1], call.argument(1))
    call.note("groups", groups)
    return [inputs[0], product([within, groups]), *inputs[2:]]


def _resize_channel_shuffle(rewrite: Rewrite) -> None:
    rewrite.set(1, rewrite.size(rewrite.noted("groups")))


def _patches(call: Call) -> Dims:
    """nn.Unfold: (B, C, H, W) to (B, C x places in the kernel, positions)."""
    inputs = call.tensor(0)
    for axis in inputs[-2:]:
        call.freeze(axis, SPATIAL)
    within = call.new(call.shape[-2] // inputs[-3].size, SPATIAL)
    return [*inputs[:-3], product([inputs[-3], within]), call.new(call.shape[-1], SPATIAL)]


def _from_patches(call: Call) -> Dims:
    """nn.Fold."""
    inputs = call.tensor(0)
    channels, within = call.split(inputs[-2], call.shape[-3])
    for axis in (within, inputs[-1]):
        call.freeze(axis, SPATIAL)
    return [*inputs[:-2], channels, *(call.new(size, SPATIAL) for size in call.shape[-2:])]


_POOLS = (
    "max_pool{0}d.default avg_pool{0}d.default adaptive_avg_pool{0}d.default "
    "upsample_nearest{0}d.vec upsample_nearest{0}d.default upsample_bilinear{0}d.vec upsample_bilinear{0}d.default "
    "upsample_linear{0}d.vec upsample_trilinear{0}d.vec upsample_bicubic{0}d.vec upsample_bicubic{0}d.default "
    "reflection_pad{0}d.default replication_pad{0}d.default lp_pool{0}d.default"
)
_WITH_PLACES = ("adaptive_max_pool{0}d.default", "max_pool{0}d_with_indices.default")
OPERATORS = {
    **{key: each for dims in (1, 2, 3) for key, each in table(_pool(dims), *_POOLS.format(dims).split()).items()},
    **{
        key: each
        for dims in (1, 2, 3)
        for key, each in table(_pool_with_places(dims), *(name.format(dims) for name in _WITH_PLACES)).items()
    },
    **table(Operator(_pixel_shuffle), "pixel_shuffle.default"),
    **table(Operator(_pixel_unshuffle), "pixel_unshuffle.default"),
    **table(
        Operator(_channel_shuffle, _resize_channel_shuffle), "channel_shuffle.default", "native_channel_shuffle.default"
    ),
    **table(Operator(_patches), "im2col.default"),
    **table(Operator(_from_patches), "col2im.default"),
}
