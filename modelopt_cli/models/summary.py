"""How large a model is, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def summarise(model: Any) -> dict[str, float]:
    """`model.parameters`, `model.nonzero`, `model.size_bytes` of an nn.Module; nothing for what has no tensors.

    Tied parameters count once. The size is that of the state: parameters and buffers, as they lie in memory.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        return {}
    parameters = list(model.parameters())
    state = {tensor.data_ptr(): tensor for tensor in [*parameters, *model.buffers()]}
    return {
        "model.parameters": float(sum(tensor.numel() for tensor in parameters)),
        "model.nonzero": float(sum(int(tensor.detach().count_nonzero()) for tensor in parameters)),
        "model.size_bytes": float(sum(tensor.numel() * tensor.element_size() for tensor in state.values())),
    }


def count_parameters(module: nn.Module) -> int:
    """All parameters of the module, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
