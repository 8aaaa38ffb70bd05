"""From what a model.pt says about its module to the module, without taking more memory than the file holds.

The architecture is built where tensors take no memory (torch's meta device), and stops when it wants more tensors than
the file has; its shapes are compared with the file's tensors, and only then is there room made for them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from modelopt_cli.models.graph.capture import EXAMPLES
from modelopt_cli.models.graph.unit_selection import UnitSelection, rebuilt

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Architecture, Shapes

_LARGEST_AXIS = 1 << 23  # places of a dimension that units were taken out of: the analysis takes bytes for each


def restored(architecture: Architecture, shapes: Shapes, state: Mapping[str, Tensor], slimming: Any) -> nn.Module:
    """The module with the tensors of `state`, in evaluation mode. `slimming`: as a checkpoint holds it, or None.

    Raises ValueError or RuntimeError, before memory is taken, where the state is not the architecture's.
    """
    if not isinstance(state, Mapping) or not all(isinstance(item, Tensor) for item in state.values()):
        raise ValueError("its weights are no tensors by name")
    plan = None if slimming is None else UnitSelection.from_plain(slimming)
    if plan is not None and plan.unsaved.keys() & state.keys():
        raise ValueError("some of its tensors are there twice")
    with torch.random.fork_rng(devices=[]):
        if not architecture.builds_on_meta:
            return _filled(architecture.build(shapes, 0), shapes, state, plan)
        most = len(state) if plan is None else 4 * len(state) + 64  # what lost all its units is gone from the file
        with torch.device("meta"), _at_most(most):
            module: nn.Module = architecture.build(shapes, 0)
    if plan is not None:
        _check_axes(module)
        if plan.form == "graph":  # it is captured on a device that it can run on; memory that nobody writes takes none
            module.to_empty(device="cpu")
        return _filled(module, shapes, state, plan)
    _check_shapes(module, state)
    module.to_empty(device="cpu")
    return _filled(module, shapes, state, None)


def _filled(module: nn.Module, shapes: Shapes, state: Mapping[str, Tensor], plan: UnitSelection | None) -> nn.Module:
    if plan is not None:
        return rebuilt(module, plan, state, lambda: _samples(shapes))
    module.load_state_dict(dict(state))
    return module.eval()


def _samples(shapes: Shapes) -> Tensor:
    """What the module is captured with; its values play no part."""
    return torch.zeros(EXAMPLES, *shapes.inputs, dtype=torch.float32 if shapes.tokens is None else torch.int64)


def _check_shapes(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = dict(module.state_dict())
    absent = sorted(own.keys() ^ state.keys())
    if absent:
        raise ValueError(f"{absent[0]!r:.100} is only in {'the model' if absent[0] in own else 'the file'}")
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise ValueError(
                f"{name} has the shape {list(state[name].shape)} in the file, but {list(tensor.shape)} in the model"
            )
        if state[name].is_complex() and not tensor.is_complex():
            raise ValueError(f"{name} has complex numbers in the file, but real ones in the model")


def _check_axes(module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        if any(size > _LARGEST_AXIS for size in tensor.shape):
            raise ValueError(f"{name} would have the shape {list(tensor.shape)} before pruning")


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Building stops when more parameters are made than this, on this thread."""
    made, own = 0, threading.get_ident()

    def noted(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal made
        if threading.get_ident() != own:
            return
        made += 1
        if made > count:
            raise ValueError(f"the architecture wants more than the {count} tensors that the file holds")

    handle = register_module_parameter_registration_hook(noted)
    try:
        yield
    finally:
        handle.remove()
