"""Normalization. Statistics over an axis change with the units in it; those of one channel do not."""

from __future__ import annotations

from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, table


def _of_channels(*places: int) -> Operator:
    """Statistics of each channel by itself; its tensors stand at these places."""

    def rule(call: Call) -> Dims:
        inputs = call.tensor(0)
        for position in places:
            dims = call.dims(call.argument(position))
            if dims is not None:
                call.unify(inputs[1], dims[0])
        return inputs

    return Operator(rule)


def _layer_norm(call: Call) -> Dims:
    """Also RMS normalization, which has no bias but a number in its place."""
    inputs, count = call.tensor(0), len(call.argument(1))
    for position, name in ((2, "weight"), (3, "bias")):
        dims = call.dims(call.argument(position, name))
        if dims is not None:
            for axis, own in zip(inputs[-count:], dims, strict=True):
                call.unify(axis, own)
    for axis in inputs[-count:]:
        call.shift(axis, "statistics")
    return inputs


def _resize_layer_norm(rewrite: Rewrite) -> None:
    count = len(rewrite.argument(1))
    rewrite.set(1, [rewrite.size(axis) for axis in rewrite.results()[-count:]])


def _group_norm(call: Call) -> Dims:
    inputs = call.tensor(0)
    outer, within = call.split(inputs[1], call.argument(1))
    call.shift(within, "statistics")
    call.note("groups", outer)
    for position, name in ((2, "weight"), (3, "bias")):
        dims = call.dims(call.argument(position, name))
        if dims is not None:
            call.unify(inputs[1], dims[0])
    return inputs


def _resize_group_norm(rewrite: Rewrite) -> None:
    rewrite.set(1, rewrite.size(rewrite.noted("groups")))


def _weight_norm(call: Call) -> Dims:
    """v / |v| * g, the norm over all dimensions but one."""
    direction, length, dim = call.tensor(0), call.tensor(1), call.argument(2, "dim", 0)
    call.normalized(call.argument(0), dim)
    for number, axis in enumerate(direction):
        if number == dim:
            call.unify(axis, length[number])
        else:
            call.shift(axis, "the norm of a weight")
    return direction


OPERATORS = {
    **table(
        _of_channels(1, 2, 3, 4), "batch_norm.default", "instance_norm.default", "_native_batch_norm_legit.default"
    ),
    **table(Operator(_layer_norm, _resize_layer_norm), "layer_norm.default", "rms_norm.default"),
    **table(Operator(_group_norm, _resize_group_norm), "group_norm.default"),
    **table(Operator(_weight_norm), "_weight_norm.default"),
}
