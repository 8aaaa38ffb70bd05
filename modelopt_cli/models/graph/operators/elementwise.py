"""Operators that take each position by itself: axes are broadcast, and those that meet are one."""

from __future__ import annotations

from typing import Any

import torch

from modelopt_cli.models.graph.call import Call, Dims, Operator, overload, table


def _elementwise(call: Call) -> Dims:
    inputs = [dims for each in call.node.all_input_nodes if (dims := call.dims(each)) is not None]
    return call.broadcast(call.shape, inputs)


def _prelu(call: Call) -> Dims:
    inputs, slope = call.tensor(0), call.tensor(1)
    if slope[0].size > 1:
        call.unify(inputs[1 if len(inputs) > 1 else 0], slope[0])
    return inputs


ELEMENTWISE = Operator(_elementwise)


def is_elementwise(target: Any) -> bool:
    """Whether torch tags the operator, or the one that it is the in-place form of, as pointwise."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
        return False
    if torch.Tag.pointwise in target.tags:
        return True
    packet, _, which = str(target).removeprefix("aten.").partition(".")
    if not packet.endswith("_"):
        return False
    found = overload(f"{packet.rstrip('_')}.{which}")
    return found is not None and torch.Tag.pointwise in found.tags


_UNTAGGED = """
    alias.default alpha_dropout.default and.Tensor and_.Tensor bernoulli.default clone.default contiguous.default
    copy_.default detach.default detach_.default dropout.default dropout_.default feature_dropout.default
    feature_dropout_.default float.default full_like.default gelu.default gelu_.default lift_fresh_copy.default
    nan_to_num.default ones_like.default or.Tensor rand_like.default randn_like.default relu6.default rrelu.default
    selu.default selu_.default celu.default celu_.default to.device to.dtype to.dtype_layout to.other type_as.default
    where.self where.ScalarOther where.ScalarSelf where.Scalar zeros_like.default _to_copy.default
    __and__.Tensor __or__.Tensor __and__.Scalar __or__.Scalar empty_like.default masked_fill.Scalar masked_fill.Tensor
    masked_fill_.Scalar masked_fill_.Tensor hardtanh.default hardtanh_.default hardswish.default hardswish_.default
    hardsigmoid.default hardsigmoid_.default silu.default silu_.default mish.default mish_.default softplus.default
    leaky_relu.default leaky_relu_.default elu.default elu_.default relu6_.default threshold.default threshold_.default
    logsigmoid.default log_sigmoid.default square.default clamp_min.default clamp_max.default
"""
OPERATORS = {
    **table(ELEMENTWISE, *_UNTAGGED.split()),
    **table(Operator(_prelu), "prelu.default"),
}
