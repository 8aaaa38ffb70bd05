"""From weights in a file to the module that they are of: its own, for a model.pt of modelopt, else the experiment's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.consent import NOTHING
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.models.files.masked_pairs import MaskedPairs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.core.consent import Consent
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.files.state_files import StateFile

_WRAPPERS = ("module.", "model.")


def build(file: StateFile, experiment: Experiment | None, *, trust_code: bool = False) -> tuple[nn.Module, Shapes]:
    """The module, on the CPU, with the file's weights. What a bare state dict is of, `experiment` says.

    `trust_code` runs what code a model.pt names; what the experiment names itself needs no more. Raises RefusedError
    for other code, UsageError without an experiment that says it, InputError where the weights do not fit the model.
    """
    import torch

    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.shared.data_cache import prepared_data

    if not file.bare:
        checkpoint = checkpoints.load(file.path, consent_of(experiment, trust_code))
        return checkpoint.model, checkpoint.shapes
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


def with_own_model(file: StateFile, experiment: Experiment, *, trust_code: bool = False) -> Experiment:
    """The experiment with the model that a model.pt of modelopt says itself; of a bare file the section says it.

    So what is written of it later has the layers of the file, whatever model the experiment was written for. Raises
    RefusedError for code that may not run, InputError for what cannot be read, UsageError for scikit-learn models and
    where nothing says what a bare file is of.
    """
    from modelopt_cli.models.files import checkpoints

    if file.bare:
        experiment.require("model")
        return experiment
    saved = checkpoints.load(file.path, consent_of(experiment, trust_code))
    if saved.architecture.framework != "torch":
        raise UsageError(
            f"{file.path} holds a {saved.architecture.framework} model, which has no units to take out and cannot "
            "be trained on; name the model.pt of a torch model"
        )
    section = {"type": "checkpoint", "path": str(file.path.resolve()), "trust_code": True}  # it was loaded above
    return experiment.with_values({"model": section})


def consent_of(experiment: Experiment | None, trust_code: bool) -> Consent:
    """What code a model.pt may name: what the experiment names, or all."""
    return (NOTHING if experiment is None else experiment.consent).also(trust_code)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], origin: Path) -> None:
    """Load by name, into the module's dtypes; what wrappers put before the names is left out (see `own_names`).

    A weight that is kept as values and mask (torch.nn.utils.prune) is loaded as their product. One may be absent where
    one that it is tied to is there; so may counters of batches. Raises InputError, with `origin` and some names, for
    weights that are not the module's.
    """
    from modelopt_cli.models.duplicates import memory_of

    own: dict[str, Tensor] = {name: item for name, item in module.state_dict().items() if hasattr(item, "shape")}
    names = own_names(tensors, own)
    pairs = MaskedPairs(tensors)
    hooked = any(names[mask] in own for mask in pairs.masks)  # the module multiplies itself
    state = {names[name]: tensor for name, tensor in (tensors if hooked else pairs).items()}
    there = {memory_of(own[name]) for name in own if name in state} | {
        memory_of(item) for name, item in own.items() if name.endswith("num_batches_tracked")
    }
    problems = {
        "missing": [name for name in own if memory_of(own[name]) not in there],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} ({shape_text(state[name])}, the model's {shape_text(item)})"
            for name, item in own.items()
            if name in state and state[name].shape != item.shape
        ],
    }
    misfits = [
        f"{what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in problems.items() if names
    ]
    if misfits:
        raise InputError(
            f"the weights in {origin} are not those of the experiment's model ({'; '.join(misfits)}); write the model: "
            "and data: sections that they were trained with"
        )
    module.load_state_dict(state, strict=False)


def own_names(tensors: Mapping[str, Tensor], own: Collection[str]) -> dict[str, str]:
    """What the module calls each tensor of a file: `own` are its names.

    Wrappers put something before all names, or several things: `module.` (DataParallel), `model.` (Lightning and many a
    training script); torch.compile puts `_orig_mod.` anywhere. What makes most names the module's is left out. Values
    that have a mask are called as the weight that both make, where the module has no such pair itself.
    """
    pairs = MaskedPairs(tensors).mask_of
    prefixes = [""]
    plain = {name: name.replace("_orig_mod.", "") for name in tensors}
    while plain and (
        more := [one for one in _WRAPPERS if all(n.startswith(prefixes[-1] + one) for n in plain.values())]
    ):
        prefixes.append(prefixes[-1] + more[0])

    def called(name: str, start: str, given: str) -> str:
        short = given.removeprefix(start)
        return short.removesuffix("_orig") if name in pairs and short not in own else short

    choices = [dict(zip(tensors, tensors, strict=True))] + [
        {name: called(name, start, given) for name, given in plain.items()} for start in prefixes
    ]
    return max(choices, key=lambda names: sum(name in own for name in names.values()))


def shape_text(tensor: Tensor) -> str:
    """`300x784`; `scalar` for no dimensions, `nested` for tensors of many shapes in one."""
    return "nested" if tensor.is_nested else "x".join(map(str, tensor.shape)) or "scalar"
