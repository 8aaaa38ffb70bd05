"""A module as something that can shrink: captured once, analysed once, then ever fewer units of the same groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.pruning.graph.analysis import Analysis, attribute
from modelopt_cli.pruning.graph.axes import Mask, Prime, kept
from modelopt_cli.pruning.graph.capture import capture
from modelopt_cli.pruning.graph.cost import Costs
from modelopt_cli.pruning.graph.groups import Group, grouping
from modelopt_cli.pruning.graph.rewriting import Keep, rewritten, set_tensor


class Network:
    """`held`: the units that are left of each group, in places of the module as it was captured."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """`example`: (B, *inputs), B at least 2. Raises UsageError where the module cannot be captured."""
        self.captured = capture(module, example)
        self.analysis = Analysis(self.captured.graph)
        self.grouping = grouping(self.captured.graph, self.analysis)
        self.costs = Costs(self.captured.graph, self.analysis)
        self.held: dict[Prime, Mask] = {}

    @property
    def groups(self) -> tuple[Group, ...]:
        """All that could go."""
        return self.grouping.groups

    def pull(self, module: nn.Module) -> None:
        """Take the module's tensors, as training has left them."""
        state = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
        for name in self.analysis.tensors:
            if name in state:
                set_tensor(self.captured.graph, name, state[name])

    def current(self) -> fx.GraphModule:
        """The graph of what is left."""
        return rewritten(self.captured.graph, self.analysis, self.held, self.held)

    def without(self, keep: Keep) -> fx.GraphModule:
        """The graph of what `keep` would leave; it keeps nothing that is gone."""
        return rewritten(self.captured.graph, self.analysis, keep, self.held)

    def left(self, group: Group) -> int:
        """Units that are left of it."""
        return int(self.held[group.prime].sum()) if group.prime in self.held else group.size

    def counts(self, keep: Keep | None = None) -> dict[Prime, int]:
        """Units that are left, for `costs`."""
        return {prime: int(mask.sum()) for prime, mask in (self.held if keep is None else keep).items()}

    def kept(self) -> dict[str, dict[int, Tensor]]:
        """Tensor -> dimension -> the places that are left of the module's as captured; for what has shrunk."""
        found: dict[str, dict[int, Tensor]] = {}
        for name, dims in self.analysis.tensors.items():
            for dim, axis in enumerate(dims):
                mask = kept(axis, self.held)
                if not mask.all():
                    found.setdefault(name, {})[dim] = torch.from_numpy(np.flatnonzero(mask))
        return found

    def hold(self, places: Mapping[str, Mapping[int, Tensor]]) -> None:
        """Set `held` from what `kept` gave. Raises ValueError for places that belong to no whole units."""
        from modelopt_cli.pruning.graph.axes import owners

        found: dict[Prime, Mask] = {}
        for group in self.groups:
            for place in group.places:
                indices = places.get(place.tensor, {}).get(place.dim)
                if indices is None:
                    continue
                owner = owners(self.analysis.tensors[place.tensor][place.dim], group.prime)
                chosen = owner[indices.numpy()]
                mask = np.zeros(group.size, dtype=np.bool_)
                mask[chosen[chosen >= 0]] = True
                if not mask.all():
                    found[group.prime] = mask
                break
        for name, dims in places.items():
            for dim, indices in dims.items():
                if not np.array_equal(np.flatnonzero(kept(self.analysis.tensors[name][dim], found)), indices.numpy()):
                    raise ValueError(f"what is kept of dimension {dim} of {name} is not made of whole units")
        self.held = found

    def tensor(self, name: str) -> Tensor:
        """A tensor as it is now."""
        found = attribute(self.captured.graph, name)
        assert isinstance(found, Tensor)
        return found
