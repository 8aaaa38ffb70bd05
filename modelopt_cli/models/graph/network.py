"""A module as something that can shrink: captured once, analysed once, then ever fewer units of the same groups."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import Analysis, attribute, duplicate
from modelopt_cli.models.graph.axes import Axis, Keep, Mask, Prime, counted, kept, owners
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.cost import Costs
from modelopt_cli.models.graph.groups import Group, grouping
from modelopt_cli.models.graph.rewriting import rewritten, set_tensor


class Network:
    """`held`: the units that are left of each group, in places of the module as it was captured."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """`example`: (B, *inputs), B at least 2. Raises UsageError where the module cannot be captured."""
        self.captured = capture(module, example)
        self.analysis = Analysis(self.captured.graph)
        self.grouping = grouping(self.captured.graph, self.analysis)
        self.costs = Costs(self.captured.graph, self.analysis)
        self.held: dict[Prime, Mask] = {}
        own = _state(module)
        self._constants = {name: self.tensor(name).detach() for name in self.analysis.tensors if name not in own}

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that could go."""
        return self.grouping.groups

    def of(self, module: nn.Module) -> Network:
        """The network of another module of the same code and sizes as the captured one, with all of its units."""
        other = copy(self)
        graph = self.captured.graph
        other.captured, other.held = replace(self.captured, graph=fx.GraphModule(graph, duplicate(graph))), {}
        for name, tensor in self._constants.items():
            set_tensor(other.captured.graph, name, tensor.clone())
        other.pull(module)
        return other

    def pull(self, module: nn.Module) -> None:
        """Take the module's tensors, as training has left them."""
        state = _state(module)
        for name in self.analysis.tensors:
            if name in state:
                set_tensor(self.captured.graph, name, state[name])

    def current(self) -> fx.GraphModule:
        """The graph of what is left."""
        return rewritten(self.captured.graph, self.analysis, self.held, self.held)

    def without(self, keep: Keep, *, fresh: bool = False) -> fx.GraphModule:
        """The graph of what `keep` would leave, without tensors of the rest. `fresh`: the tensors are still whole."""
        return rewritten(self.captured.graph, self.analysis, keep, None if fresh else self.held)

    def left(self, group: Group) -> int:
        """Units that are left of it."""
        return int(self.held[group.prime].sum()) if group.prime in self.held else group.size

    def counts(self, keep: Keep | None = None) -> dict[Prime, int]:
        """Units that are left, for `costs`."""
        return counted(self.held if keep is None else keep)

    def kept(self) -> dict[str, dict[int, Tensor]]:
        """Tensor -> dimension -> (int32) the places that are left of the module's as captured.

        Every group is known by one of its tensors alone; the others follow from it.
        """
        places: dict[str, dict[int, Tensor]] = {}
        for group in self.groups:
            place = group.producers[0]
            mask = kept(self.analysis.tensors[place.tensor][place.dim], self.held)
            if not mask.all():  # of this group, or of another that has a part in the dimension
                places.setdefault(place.tensor, {})[place.dim] = torch.from_numpy(np.flatnonzero(mask)).int()
        return places

    def hold(self, places: Mapping[str, Mapping[int, Tensor]]) -> None:
        """Set `held` from what `kept` gave. Raises ValueError for places that belong to no whole units."""
        for name, dims in places.items():
            for dim, given in dims.items():
                if not _are_places(given, self._axis(name, dim).size):
                    raise ValueError(f"what is kept of dimension {dim} of {name} are not some of its places")
        masks: dict[Prime, Mask] = {}
        for group in self.groups:
            place = group.producers[0]
            indices = places.get(place.tensor, {}).get(place.dim)
            if indices is not None:
                chosen = owners(self._axis(place.tensor, place.dim), group.prime)[indices.numpy()]
                mask = np.zeros(group.size, dtype=np.bool_)
                mask[chosen[chosen >= 0]] = True
                if not mask.all():
                    masks[group.prime] = mask
        for name, dims in places.items():
            for dim, given in dims.items():
                stays = np.flatnonzero(kept(self._axis(name, dim), masks))
                if not np.isin(stays, given.numpy()).all():  # another group may have lost more of it later
                    raise ValueError(f"what is kept of dimension {dim} of {name} is not made of whole units")
        self.held = masks

    def _axis(self, name: str, dim: int) -> Axis:
        dims = self.analysis.tensors.get(name, [])
        if not 0 <= dim < len(dims):
            raise ValueError(f"there is no dimension {dim} of a tensor {name}")
        return dims[dim]

    def tensor(self, name: str) -> Tensor:
        """A tensor as it is now."""
        tensor = attribute(self.captured.graph, name)
        assert isinstance(tensor, Tensor)
        return tensor


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, by every name that they have."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}


def _are_places(indices: Tensor, size: int) -> bool:
    """Whether they are some of the places of a dimension, in order."""
    if indices.dim() != 1 or not len(indices) or indices.is_floating_point():
        return False
    return int(indices[0]) >= 0 and int(indices[-1]) < size and bool((indices.diff() > 0).all())
