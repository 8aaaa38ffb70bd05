"""Weights that a file keeps in two tensors, as torch.nn.utils.prune does: `X_orig`, and `X_mask` of ones and zeros.

The module multiplies them in every forward pass, so the weight is their product, and what is pruned goes from the mask:
the file still loads into the module that has the hooks, and `prune.remove` makes the zeros lasting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_VALUE, _MASK = "_orig", "_mask"


class MaskedPairs(Mapping[str, "Tensor"]):
    """The tensors, but that a masked one is its product with its mask, and the mask is no tensor of its own.

    `mask_of`: name of the values -> name of the mask. `unfit`: values whose mask has another shape -> why.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.mask_of: dict[str, str] = {}
        self.unfit: dict[str, str] = {}
        for name in tensors:
            mask = name.removesuffix(_VALUE) + _MASK
            if name.endswith(_VALUE) and mask in tensors:
                self._pair(name, mask)
        self.masks = {mask: name for name, mask in self.mask_of.items()}
        self._products: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.mask_of:
            return self._tensors[name]
        if name not in self._products:  # kept: whatever tells tensors apart by their memory relies on it
            self._products[name] = self._product(name)
        return self._products[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._tensors if name not in self.masks)

    def __len__(self) -> int:
        return len(self._tensors) - len(self.masks)

    @property
    def note(self) -> str:
        """What there is to tell of them; empty where there are none."""
        count = len(self.mask_of)
        return f"{count} weights lie there as values and mask (_orig, _mask) and are their product" if count else ""

    def current(self) -> MaskedPairs:
        """The products as they are now, after a change of the tensors."""
        return MaskedPairs(self._tensors)

    def masked(self, name: str, keep: Tensor) -> Tensor:
        """The mask of these values where `keep` is True, else 0; in its own dtype."""
        import torch

        mask = self._tensors[self.mask_of[name]].detach()
        return torch.where(keep.reshape(mask.shape), mask, torch.zeros((), dtype=mask.dtype))

    def _pair(self, name: str, mask: str) -> None:
        import torch

        values, ones = self._tensors[name], self._tensors[mask]
        plain = all(one.layout == torch.strided and not (one.is_nested or one.is_quantized) for one in (values, ones))
        if plain and values.is_floating_point() and values.shape == ones.shape and not ones.is_complex():
            self.mask_of[name] = mask
        elif plain and values.shape != ones.shape:
            shape = "x".join(map(str, ones.shape)) or "scalar"
            self.unfit[name] = f"its mask has another shape ({shape})"
            self.unfit[mask] = f"a mask of another shape than {name}"

    def _product(self, name: str) -> Tensor:
        values, mask = (self._tensors[each].detach() for each in (name, self.mask_of[name]))
        return values * mask.to(values.dtype)
