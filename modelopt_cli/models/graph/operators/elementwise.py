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
    plain = overload(f"{packet.rstrip('_')}.{which}")
    return plain is not None and torch.Tag.pointwise in plain.tags


_UNTAGGED = """
    __and__.Scalar __and__.Tensor __or__.Scalar __or__.Tensor _conj.default _neg_view.default _to_copy.default
    angle.default complex.default conj.default imag.default polar.default real.default resolve_conj.default
    resolve_neg.default alias.default alpha_dropout.default
    bernoulli.default celu.default celu_.default clamp_max.default clamp_min.default clone.default contiguous.default
    copy_.default detach.default detach_.default dropout.default dropout_.default elu.default elu_.default
    empty_like.default exponential_.default feature_dropout.default feature_dropout_.default fill.Scalar fill.Tensor
    fill_.Scalar fill_.Tensor floor_divide.default full_like.default gelu.default gelu_.default hardsigmoid.default
    hardsigmoid_.default hardswish.default hardswish_.default hardtanh.default hardtanh_.default leaky_relu.default
    leaky_relu_.default lift_fresh_copy.default log_sigmoid.default masked_fill.Scalar masked_fill.Tensor
    masked_fill_.Scalar masked_fill_.Tensor mish.default mish_.default nan_to_num.default ones_like.default
    rand_like.default randn_like.default relu6.default relu6_.default rrelu.default selu.default selu_.default
    silu.default silu_.default softplus.default square.default threshold.default threshold_.default to.device to.dtype
    to.dtype_layout to.other type_as.default where.Scalar where.ScalarOther where.ScalarSelf where.self zero_.default
    zeros_like.default
"""
OPERATORS = {
    **table(ELEMENTWISE, *_UNTAGGED.split()),
    **table(Operator(_prelu), "prelu.default"),
}
