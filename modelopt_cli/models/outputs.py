"""What a module gives, as one tensor: modules of other people return a dictionary, a tuple or an object with logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

_NAMES = ("logits", "output", "outputs", "out", "prediction", "predictions", "scores")


def one_tensor(module: nn.Module) -> nn.Module:
    """The same module, whose calls give one tensor where what its code returns leaves no doubt which."""
    if not any(hook is _forward_hook for hook in module._forward_hooks.values()):
        module.register_forward_hook(_forward_hook)
    return module


def _forward_hook(module: nn.Module, given: Any, outputs: Any) -> Tensor | None:
    import torch

    return None if isinstance(outputs, torch.Tensor) else chosen(outputs, type(module).__name__)


def chosen(outputs: Any, name: str) -> Tensor:
    """The one tensor that is meant by what a module called `name` returned.

    That is what is called `logits`, by key or attribute; else the only tensor there; else the only one under one of the
    usual names. Raises UsageError where there is doubt.
    """
    import torch

    parts = _parts(outputs)
    tensors = {key: part for key, part in parts.items() if isinstance(part, torch.Tensor)}
    for wanted in ({"logits"}, set(tensors), set(_NAMES)):
        candidates = [tensor for key, tensor in tensors.items() if key in wanted]
        if len(candidates) == 1:
            return candidates[0]
    what = ", ".join(map(str, tensors)) or "no tensor"
    raise UsageError(
        f"the model {name} returns {type(outputs).__name__} with {what}, but one tensor of shape (N, outputs) is "
        "needed; return that alone, or under the name logits"
    )


def _parts(outputs: Any) -> Mapping[Any, Any]:
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, tuple) and hasattr(outputs, "_asdict"):
        named: Mapping[Any, Any] = outputs._asdict()
        return named
    if isinstance(outputs, tuple | list):
        return dict(enumerate(outputs))
    if hasattr(outputs, "logits"):
        return {"logits": outputs.logits}
    return vars(outputs) if hasattr(outputs, "__dict__") else {}
