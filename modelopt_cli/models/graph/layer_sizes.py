"""Attributes of torch's layers that are the sizes of their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.edits import editable

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    **{f"Conv{dims}d": ("groups",) for dims in (1, 2, 3)},
    **{f"ConvTranspose{dims}d": ("groups",) for dims in (1, 2, 3)},
    "GroupNorm": ("num_groups", "num_channels"),
    "LayerNorm": ("normalized_shape",),
    "RMSNorm": ("normalized_shape",),
    "Unflatten": ("unflattened_size",),
    "ChannelShuffle": ("groups",),
    "MultiheadAttention": ("embed_dim", "num_heads", "head_dim"),
    **dict.fromkeys(("Linear", "Embedding", "PReLU", "LSTM", "GRU", "RNN", "Bilinear", "LSTMCell", "GRUCell"), ()),
}
"""Attributes of torch's layers in which constants may come from, beyond those that follow their weights."""


def fits(module: nn.Module) -> dict[tuple[str, str], Any]:
    """(path, name) -> the value that the weights call for, of all attributes that follow weights."""
    return {(path, name): value for path, part in module.named_modules() for name, value in layer_sizes(part)}


def layer_sizes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, value that the weights call for) of a layer's attributes; nothing for what is no layer."""
    for kinds, function in _FITS:
        if isinstance(part, kinds) if not isinstance(kinds, str) else type(part).__name__ == kinds:
            with torch.no_grad():
                for name, value in function(part).items():
                    if editable(part, name) is not None:
                        yield name, value
            return


def _shape(part: nn.Module, *names: str) -> tuple[int, ...]:
    """Of the first of these tensors that there is; () without any."""
    for name in names:
        tensor = getattr(part, name, None)
        if isinstance(tensor, Tensor):
            return tuple(tensor.shape)
    return ()


def _sizes(names: Sequence[str], *tensors: str) -> Callable[[Any], dict[str, Any]]:
    """Attributes that are the first dimensions of a tensor."""
    return lambda part: dict(zip(names, _shape(part, *tensors), strict=False))


def _convolution(part: Any) -> dict[str, Any]:
    out, within = part.weight.shape[:2]
    return {"out_channels": out, "in_channels": within * part.groups}


def _transposed(part: Any) -> dict[str, Any]:
    channels, within = part.weight.shape[:2]
    return {"in_channels": channels, "out_channels": within * part.groups}


def _layer_norm(part: Any) -> dict[str, Any]:
    shape = _shape(part, "weight")
    return {"normalized_shape": shape} if shape else {}


def _recurrent(part: Any) -> dict[str, Any]:
    weight = "weight_ih_l0" if isinstance(part, nn.RNNBase) else "weight_ih"
    recurrent = "weight_hh_l0" if isinstance(part, nn.RNNBase) else "weight_hh"
    return {"input_size": getattr(part, weight).shape[1], "hidden_size": getattr(part, recurrent).shape[1]}


def _attention(part: Any) -> dict[str, Any]:
    width = _shape(part, "in_proj_weight", "q_proj_weight")[1]
    key, value = (_shape(part, name, "in_proj_weight")[1] for name in ("k_proj_weight", "v_proj_weight"))
    return {"embed_dim": width, "kdim": key, "vdim": value}


_FITS: tuple[tuple[Any, Callable[[Any], dict[str, Any]]], ...] = (
    ((nn.Linear,), _sizes(("out_features", "in_features"), "weight")),
    ((nn.modules.conv._ConvTransposeNd,), _transposed),
    ((nn.modules.conv._ConvNd,), _convolution),
    ((nn.modules.batchnorm._NormBase,), _sizes(("num_features",), "weight", "running_mean")),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.GroupNorm,), _sizes(("num_channels",), "weight")),
    ((nn.Embedding, nn.EmbeddingBag), _sizes(("num_embeddings", "embedding_dim"), "weight")),
    ((nn.PReLU,), _sizes(("num_parameters",), "weight")),
    ((nn.Bilinear,), _sizes(("out_features", "in1_features", "in2_features"), "weight")),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    ((nn.MultiheadAttention,), _attention),
    ("Conv1D", _sizes(("nx", "nf"), "weight")),  # of transformers
)


def is_layer(part: nn.Module) -> bool:
    """Whether it is a layer of torch's, or one whose attributes follow its weights."""
    torchs = type(part).__module__.startswith("torch.nn.") and not isinstance(part, _CONTAINERS)
    return torchs or any(True for _ in layer_sizes(part))
