"""What is done to a file of weights, tensor by tensor, while it is written.

A tensor is read when its turn comes, and where the cut is known beforehand (a threshold, n:m groups) even that goes
piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.work import counted, tell
from modelopt_cli.models.files.masked_pairs import MaskedPairs
from modelopt_cli.models.files.state_files import StateFile
from modelopt_cli.models.in_order import in_order
from modelopt_cli.models.measure import zeros

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.pruning.allocations import Allocation
    from modelopt_cli.pruning.common.cuts import Cut
    from modelopt_cli.pruning.importances import WeightImportance
    from modelopt_cli.pruning.structures import MaskStructure

_PIECE = 1 << 17  # weights: what a core works on in its cache


@dataclass(frozen=True)
class FilePruning:
    """What to do. `allocation` is None for a structure that says itself how much goes; `target` is the allocation's."""

    importance: WeightImportance
    structure: MaskStructure
    allocation: Allocation | None
    target: float = 0.0
    keep_at_least: float = 0.0  # share of each tensor's weights that stays
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    everything: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        parts = {"importance": self.importance, "structure": self.structure, "allocation": self.allocation}
        plain = {name: None if part is None else part.model_dump(mode="json") for name, part in parts.items()}
        return {**plain, "target": self.target, "keep_at_least": self.keep_at_least}

    def cut(self, scores: Mapping[str, Tensor]) -> Mapping[str, Cut]:
        """Where the scores are cut."""
        if self.allocation is None:
            return {}
        return self.allocation.allocate(scores, self.target, keep_at_least=self.keep_at_least)

    def pieces(self, weight: Tensor) -> list[Tensor]:
        """The weight in parts that can be pruned on their own, in row-major order."""
        import torch

        known = self.allocation is None or (self.allocation.piecewise and self.keep_at_least <= 0.0)
        if not known or not weight.is_contiguous() or weight.numel() <= _PIECE:
            return [weight]
        if self.structure.problem((weight.numel(),)) is None:
            return list(torch.split(weight.view(-1), _PIECE))
        rows = list(torch.split(weight, max(1, _PIECE * len(weight) // weight.numel())))
        return rows if all(self.structure.problem(tuple(part.shape)) is None for part in rows) else [weight]


@dataclass
class ZeroCount:
    """How many weights a tensor has, and how many of them are zero, before and after."""

    weights: int
    before: int
    after: int


@dataclass
class FilePruner:
    """Pruning under way. `names`: what is pruned; `masks`: packed ones, for a model.pt of modelopt only."""

    file: StateFile
    pruning: FilePruning
    names: Sequence[str]
    tensors: MaskedPairs  # the file's, a masked weight as its product
    masks: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from modelopt_cli.pruning.common.statistics import Statistics

        self.counts = {
            name: ZeroCount(tensor.numel(), zero, zero)
            for name in counted(self.file.tensors, "tensors looked at")
            for tensor in [self._weight(name)]
            for zero in [zeros(tensor)]
        }
        self._changed = 0  # tensors
        self.parts: dict[str, dict[str, Tensor]] = {}
        for name in self.names:
            parts = self.pruning.pieces(self.tensors[name])
            self.parts[name] = {name if len(parts) == 1 else f"{name}[{i}]": part for i, part in enumerate(parts)}
        self.weights = {key: part for parts in self.parts.values() for key, part in parts.items()}
        importance = self.pruning.importance
        contributions = importance.contributions(self.weights, Statistics())
        self.masks |= self.file.extra.get("masks", {})
        self.kept = self.pruning.structure.keep(contributions, importance.merit, {}, self.pruning.cut)

    def change(self, name: str, tensor: Tensor) -> Iterator[Tensor]:
        """The tensor's new values, in pieces. Of a masked weight it is the mask that changes."""
        tell("tensors pruned", self._changed, len(self.file.tensors))
        self._changed += 1
        if name in self.tensors.masks:
            yield from self._masked(name, tensor)
            return
        if name not in self.parts or name in self.tensors.mask_of:
            yield tensor
            return
        masks, left = [], 0
        for mask, values, nonzero in in_order(self._pruned, list(self.parts[name])):
            left += nonzero
            if not self.file.bare:
                masks.append(mask.reshape(-1))
            yield values
        self.counts[name].after = tensor.numel() - left
        if masks:
            self._note(name, masks)

    def finish(self) -> None:
        """Where tensors share memory, what was pruned in one is gone in the others."""
        if self.file.in_place:
            self.tensors = self.tensors.current()
            for name in self.file.tensors:
                self.counts[name].after = zeros(self._weight(name))

    def _weight(self, name: str) -> Tensor:
        return self.file.tensors[name] if name in self.tensors.masks else self.tensors[name]

    def _masked(self, name: str, mask: Tensor) -> Iterator[Tensor]:
        """The mask without what goes from its weight."""
        import torch

        weight = self.tensors.masks[name]
        if weight not in self.parts:
            yield mask
            return
        kept = torch.cat([self.kept[key].reshape(-1) for key in self.parts[weight]])
        changed = self.tensors.masked(weight, kept)
        self.counts[name].after = zeros(changed)
        self.counts[weight].after = zeros(masked(self.tensors[weight], kept.view(changed.shape)))
        yield changed

    def _pruned(self, key: str) -> tuple[Tensor, Tensor, int]:
        """(mask, pruned values, how many of them are not zero) of a part."""
        mask = self.kept[key]
        values = masked(self.weights[key], mask)
        return mask, values, values.numel() - zeros(values)

    def _note(self, name: str, masks: list[Tensor]) -> None:
        """Keep the mask; what an earlier pruning removed stays removed."""
        import torch

        from modelopt_cli.models.files.packed import pack_masks, unpack_masks

        weight = {name: self.file.tensors[name]}  # pruned by now: a model.pt is changed in place
        mask = torch.cat(masks).view(weight[name].shape)
        earlier = unpack_masks({key: bits for key, bits in self.masks.items() if key == name}, weight)
        self.masks |= pack_masks({name: mask & earlier[name] if earlier else mask}, weight)


def masked(weight: Tensor, mask: Tensor) -> Tensor:
    """The weight where the mask is True, else (positive) zero: its bits times 1 or 0, which is fast."""
    import torch

    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    return (weight.contiguous().view(integer) * mask).view(weight.dtype)
