"""From weights in a file to the module that they are of: its own, for a model.pt of modelopt, else the experiment's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.state_files import StateFile


def build(file: StateFile, experiment: Experiment | None) -> tuple[nn.Module, Shapes]:
    """The module, on the CPU, with the file's weights. What a bare state dict is of, `experiment` says.

    Raises UsageError without an experiment that says it, InputError where the weights do not fit the model.
    """
    import torch

    from modelopt_cli.models import checkpoints
    from modelopt_cli.workflows.stages import prepared_data

    if not file.bare:
        found = checkpoints.load(file.path)
        return found.model, found.shapes
    if experiment is None:
        raise UsageError(
            f"{file.path} does not say which model its weights are of, so it cannot be run; name an experiment file "
            "whose model: and data: sections say it, with --experiment FILE"
        )
    architecture = experiment.require_model()
    if architecture.framework != "torch":
        raise UsageError(
            f"{experiment.origin}: the model section names a scikit-learn estimator, but {file.path} holds the weights "
            "of a torch module; name that module in the model section"
        )
    shapes = prepared_data(experiment).shapes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        module = architecture.build(shapes, experiment.seed)
    load_weights(module, file.tensors, file.path)
    return module, shapes


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], origin: Path) -> None:
    """Load by name, into the module's dtypes; a `module.` before all names (DataParallel's) is left out.

    A weight may be absent where one that it is tied to is there; so may counters of batches. Raises InputError, with
    `origin` and some names, for weights that are not the module's.
    """
    from modelopt_cli.models.measure import place

    wrapped = all(name.startswith("module.") for name in tensors)
    state = {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in tensors.items()}
    own: dict[str, Tensor] = {name: item for name, item in module.state_dict().items() if hasattr(item, "shape")}
    there = {place(own[name]) for name in own if name in state} | {
        place(item) for name, item in own.items() if name.endswith("num_batches_tracked")
    }
    problems = {
        "missing": [name for name in own if place(own[name]) not in there],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} ({shape_text(state[name])}, the model's {shape_text(item)})"
            for name, item in own.items()
            if name in state and state[name].shape != item.shape
        ],
    }
    told = [f"{what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in problems.items() if names]
    if told:
        raise InputError(
            f"the weights in {origin} are not those of the experiment's model ({'; '.join(told)}); write the model: "
            "and data: sections that they were trained with"
        )
    module.load_state_dict(state, strict=False)


def shape_text(tensor: Tensor) -> str:
    """`300x784`; `scalar` for no dimensions."""
    return "x".join(map(str, tensor.shape)) or "scalar"
