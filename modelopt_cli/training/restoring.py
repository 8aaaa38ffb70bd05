"""Going on from a state under settings that may differ from those it was made with: the new settings count.

A torch optimizer's state holds its options beside what it remembers of each parameter, and loading it brings both back.
Here what is remembered is taken, and the options stay those of the new settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError

if TYPE_CHECKING:
    import torch

    from modelopt_cli.training.optimizers import Optimizer

_REMEMBERED = ("momentum", "centered", "amsgrad")
"""Options that, switched on, need memories that a state made without them lacks."""


def remembers_alike(saved: Mapping[str, Any], now: Optimizer) -> bool:
    """Whether an optimizer made with the options `saved` remembers what one made with `now` needs."""
    options = now.model_dump(mode="json")
    if saved["type"] != options["type"]:
        return False
    return all(bool(saved[name]) == bool(options[name]) for name in _REMEMBERED if name in options)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take over what the saved optimizer remembers, with the options that this one has. Raises ValueError."""
    optimizer.load_state_dict(_with_options(saved, optimizer.state_dict()))


def _with_options(saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    if "parts" in own:  # several optimizers that look like one
        return {"parts": [_with_options(old, new) for old, new in zip(saved["parts"], own["parts"], strict=True)]}
    groups = [
        {**new, "params": old["params"]} for old, new in zip(saved["param_groups"], own["param_groups"], strict=True)
    ]
    return {"state": saved["state"], "param_groups": groups}


def load_module(module: torch.nn.Module, weights: Mapping[str, Any]) -> None:
    """Take over weights. Raises TrialError where they are not those of such a module."""
    own = module.state_dict()
    for name in [*own, *weights]:
        if name not in own or name not in weights:
            _refuse(f"'{name}' is in the {'state' if name in weights else 'model'} alone")
        shapes = [tuple(getattr(each[name], "shape", ())) for each in (weights, own)]
        if shapes[0] != shapes[1]:
            _refuse(f"'{name}' has the shape {shapes[0]} in the state and {shapes[1]} in the model")
    module.load_state_dict(weights)


def _refuse(what: str) -> None:
    raise TrialError(
        "error",
        f"the state that it goes on from does not fit its model: {what}; a value that changes the model's shape must "
        "not change while it is trained (see scheduler.perturb)",
    )
