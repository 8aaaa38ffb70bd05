"""What 2:4 pruning gives is what torch's semi-structured conversion takes (its part that needs no GPU)."""

from __future__ import annotations

import pytest
import torch
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass as compress,
)
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_to_dense_cutlass as expand,
)

from modelopt_cli.pruning.structures.nm import Nm


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_torch_compresses_the_result_to_half_and_back(dtype: torch.dtype) -> None:
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    kept = Nm(n=2, m=4).keep({"w": weight}, torch.abs, {}, lambda scores: {})["w"]
    pruned = weight.masked_fill(~kept, 0.0)
    values, metadata = compress(pruned)
    assert values.shape == (64, 64)
    assert torch.equal(expand(values, metadata), pruned)
    assert not torch.equal(expand(*compress(weight)), weight), "the dense weight does not fit, so the test can fail"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with sparse tensor cores")
def test_the_gpus_kernel_multiplies_with_it() -> None:
    weight = torch.randn(128, 128, device="cuda").half()
    kept = Nm(n=2, m=4).keep({"w": weight}, torch.abs, {}, lambda scores: {})["w"]
    pruned = weight.masked_fill(~kept, 0.0)
    inputs = torch.randn(128, 128, device="cuda").half()
    products = torch.sparse.to_sparse_semi_structured(pruned) @ inputs
    torch.testing.assert_close(products, pruned @ inputs, rtol=1e-2, atol=1e-2)
