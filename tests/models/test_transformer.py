"""The encoder layers of `transformer` against torch's own."""

from __future__ import annotations

import torch
from torch import nn

from modelopt_cli.models.architectures._transformer import _Layer


def test_a_layer_is_that_of_torch() -> None:
    torch.manual_seed(0)
    own = _Layer(32, heads=4, feedforward=64, dropout=0.1)  # private: alone, it draws its weights as torch's does
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
    mine, other = own.state_dict(), theirs.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in other)
    inputs = torch.randn(3, 7, 32)
    assert torch.allclose(own.eval()(inputs), theirs.eval()(inputs), atol=1e-5)
