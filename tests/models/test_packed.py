"""Masks as bits."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.errors import InputError
from modelopt_cli.models.files.packed import pack, pack_masks, unpack, unpack_masks


@given(shape=st.lists(st.integers(0, 9), max_size=3), seed=st.integers(0, 99))
def test_a_round_trip(shape: list[int], seed: int) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    packed = pack(mask)
    assert packed.dtype == torch.uint8
    assert packed.tolist() == numpy.packbits(mask.numpy().reshape(-1), bitorder="little").tolist()
    assert torch.equal(unpack(packed, shape), mask)


@pytest.mark.parametrize("shape", [(3,), (17,), (3, 4)])
def test_another_shape_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        unpack(torch.zeros(4, dtype=torch.uint8), shape)
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        unpack(torch.zeros(-(-torch.zeros(shape).numel() // 8)), shape)


def test_a_mask_that_zeros_tell_takes_no_bits() -> None:
    weights = {"a": torch.tensor([0.0, 1.0, 2.0]), "b": torch.tensor([0.0, 1.0, 2.0])}
    masks = {"a": torch.tensor([False, True, True]), "b": torch.tensor([True, True, True])}
    packed = pack_masks(masks, weights)
    assert packed["a"].numel() == 0
    assert packed["b"].numel() == 1
    unpacked = unpack_masks(packed, weights)
    assert all(torch.equal(unpacked[name], mask) for name, mask in masks.items())
