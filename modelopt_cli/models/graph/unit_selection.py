"""How a module differs from the one that its code builds: the units that are left, and what became of its sizes.

This is what a checkpoint holds beside the architecture and the tensors: plain values and tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.edits import Edit, load_shapes, merged
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.network import Network

Form = Literal["module", "graph"]
Kept = Mapping[str, Mapping[int, Tensor]]
"""Tensor -> dimension -> the places of the dense tensor that are left."""


@dataclass(frozen=True)
class UnitSelection:
    """`form`: the module itself was shrunk, or its graph stands in its place."""

    kept: Kept
    edits: tuple[Edit, ...] = ()
    form: Form = "module"
    unsaved: Mapping[str, Tensor] = field(default_factory=dict)  # tensors that a state dict leaves out, as they are now

    def to_plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "kept": {name: {dim: places.int() for dim, places in dims.items()} for name, dims in self.kept.items()},
            "edits": [[path, name, value] for path, name, value in self.edits],
            "form": self.form,
            "unsaved": {name: tensor.detach().cpu() for name, tensor in self.unsaved.items()},
        }

    @classmethod
    def from_plain(cls, plain: Any) -> UnitSelection:
        """From a checkpoint. Raises ValueError for what `to_plain` does not give."""
        try:
            kept = {
                str(name): {int(dim): places.long() for dim, places in dims.items()}
                for name, dims in plain["kept"].items()
            }
            edits = tuple((str(path), str(name), value) for path, name, value in plain["edits"])
            unsaved = dict(plain["unsaved"])
            form = plain["form"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"what is kept of it cannot be read ({error})") from None
        if form not in ("module", "graph"):
            raise ValueError(f"it has the form {form!r}; there are module and graph")
        return cls(kept, edits, form, unsaved)

    def then(self, later: UnitSelection) -> UnitSelection:
        """This one, and then a later one of what it left: as one of the dense module."""
        kept: dict[str, dict[int, Tensor]] = {name: dict(dims) for name, dims in self.kept.items()}
        for name, dims in later.kept.items():
            for dim, places in dims.items():
                before = kept.get(name, {}).get(dim)
                kept.setdefault(name, {})[dim] = places if before is None else before.long()[places.long()]
        form: Form = "graph" if "graph" in (self.form, later.form) else "module"
        return UnitSelection(kept, tuple(merged(self.edits, later.edits)), form, {**self.unsaved, **later.unsaved})

    def since(self, earlier: UnitSelection) -> UnitSelection:
        """This one, of the dense module, as one of what an earlier one left: `earlier.then(it)` is this one."""
        kept: dict[str, dict[int, Tensor]] = {}
        for name, dims in self.kept.items():
            for dim, places in dims.items():
                before = earlier.kept.get(name, {}).get(dim)
                left = places if before is None else torch.searchsorted(before.long(), places.long())
                if before is None or len(left) < len(before):
                    kept.setdefault(name, {})[dim] = left
        return UnitSelection(kept, self.edits, self.form, self.unsaved)


def rebuilt(
    dense: nn.Module, selection: UnitSelection, state: Mapping[str, Tensor], example: Callable[[], Tensor]
) -> nn.Module:
    """The dense module, built anew, as the selection has it, with the tensors of `state`; in evaluation mode.

    Its values play no part, so with the form `module` it may have none (on the meta device). `example`: makes
    (B, *inputs), for a graph that has to be captured. Raises ValueError where they do not fit.
    """
    if selection.form == "module":
        load_shapes(dense, {**state, **selection.unsaved}, selection.edits)
        return dense.eval()
    return emitted(Network(dense, example()), selection, state)


def emitted(network: Network, selection: UnitSelection, state: Mapping[str, Tensor]) -> Emitted:
    """The graph of a whole network, as the selection has it. See `rebuilt`; the network's tensors are changed."""
    network.hold(selection.kept)
    module = Emitted(network.without(network.held, fresh=True))
    own = module.state_dict()
    for name, tensor in state.items():
        if name not in own or own[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {list(tensor.shape)}, which is not what is kept of the model's")
    with torch.no_grad():
        module.load_state_dict(dict(state))
    return module.eval()
