"""Copies of modules, also of those that keep a tensor which a forward pass has computed; and which tensors are one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    Module = TypeVar("Module", bound=nn.Module)


def duplicate(module: Module) -> Module:
    """A deep copy. A tensor with a history (the weight that torch's spectral and weight norm set in a hook, a cache)
    is copied by its values: torch copies the leaves of a history alone.
    """
    memo: dict[int, Any] = {id(each): each.detach().clone() for each in tensors_in(module) if not each.is_leaf}
    return copy.deepcopy(module, memo)


def tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and whatever tensors the attributes of its modules hold; each once."""
    from torch import Tensor, nn

    seen: set[int] = set()

    def walk(value: Any) -> Iterator[Tensor]:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            for each in value.values():
                yield from walk(each)
        elif isinstance(value, list | tuple | set | frozenset):
            for each in value:
                yield from walk(each)
        elif not isinstance(value, nn.Module | type | FunctionType | ModuleType) and hasattr(value, "__dict__"):
            yield from walk(vars(value))

    for part in module.modules():
        for value in vars(part).values():
            yield from walk(value)


def memory_of(tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same weights in memory."""
    import torch

    if tensor.layout != torch.strided or tensor.is_nested or tensor.numel() == 0:
        return (id(tensor),)
    return (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
