"""Which groups a module can lose in place: attributes told apart, ties, and sizes in the code, which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.models.graph.bundles import in_place
from modelopt_cli.models.graph.surgery import operate
from modelopt_cli.models.graph.ties import tied_counts
from tests.support import zoo as ZOO
from tests.support.in_place_cases import Case, random


class Attention(nn.Module):
    """Heads and their width are attributes, of the same value as others."""

    def __init__(self, heads: int, width: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.width, self.heads = width, heads
        self.scale = width**-0.5
        self.project = nn.Linear(16, 3 * heads * width)
        self.out = nn.Linear(heads * width, 16)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, positions, _ = hidden.shape
        assert self.layer >= 0
        qkv = self.project(hidden).view(batch, positions, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale).transpose(1, 2)
        return hidden + self.out(mixed.flatten(2))


@pytest.mark.slow
def test_attributes_of_one_value_are_told_apart() -> None:
    module = nn.Sequential(*(Attention(4, 4, layer) for layer in range(5)), nn.Flatten(), nn.Linear(48, 2))
    case = Case(module, random(3, 3, 16))
    plan = case.plan()
    assert (dict(plan.refused), plan.ties) == ({}, ())
    heads = {group.prime: np.arange(4) < 3 for group in plan.groups if group.name == "4.project"}
    edits = operate(module, case.captured.graph, case.analysis, heads, links=plan.links)
    assert ("4", "heads", 3) in edits
    assert {name for _, name, _ in edits} == {"heads", "in_features", "out_features"}
    last: Any = module[4]
    assert (last.width, last.layer) == (4, 4)


class Computed(nn.Module):
    """Sizes come out of a tuple, and out of a number that a slice counts from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = (4, 6)
        self.gate = 10
        self.embed = nn.Linear(8, 24)
        self.mix = nn.Linear(6, 20)
        self.head = nn.Linear(40, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.embed(inputs)).view(-1, *self.shape)
        mixed = torch.relu(self.mix(hidden))  # (B, 4, 20)
        return self.head((mixed[..., : self.gate] * mixed[..., -self.gate :]).flatten(1))


def test_tuples_and_slices_that_count_from_the_end() -> None:
    case = Case(Computed(), random(3, 8))
    plan = case.plan()
    assert not plan.refused
    edits = operate(case.module, case.captured.graph, case.analysis, case.keep(plan, 0.5), links=plan.links)
    assert ("", "shape", [2, 3]) in edits
    assert case.module.shape == (2, 3)
    assert case.module.gate == 5


class Read(nn.Module):
    """The width of a head is computed from a shape; the values of a head are written to that shape again."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 4, 48
        self.project = nn.Linear(48, 144)
        self.out = nn.Linear(48, 48)

    def forward(self, hidden: Tensor) -> Tensor:
        batch, positions, width = hidden.shape
        parts = self.project(hidden).split(self.width, dim=2)
        heads = [part.view(batch, positions, self.heads, width // self.heads).transpose(1, 2) for part in parts]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(batch, positions, width)
        return hidden + self.out(mixed)


@pytest.mark.slow
def test_sizes_read_off_a_shape_are_tied_to_it() -> None:
    case = Case(nn.Sequential(nn.Linear(10, 48), Read(), Read(), nn.Linear(48, 5)), random(3, 7, 10))
    plan = case.plan()
    assert plan.ties == (frozenset({"0", "1.project", "2.project"}),)
    edits = operate(case.module, case.captured.graph, case.analysis, case.keep(plan, 0.5), links=plan.links)
    assert {("1", "heads", 2), ("1", "width", 24), ("2", "heads", 2), ("0", "out_features", 24)} <= set(edits)
    for name in ("1.project#2", "2.project#2"):
        assert "leaves it to torch to scale its attention" in plan.refused[name]


class Silent(nn.Module):
    """Runs with any width, but its code picks features by number."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 12)
        self.other = nn.Linear(6, 8)
        self.norm = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.inner(inputs))
        weight = hidden[:, :4].sum(1, keepdim=True) - hidden[:, 4:].sum(1, keepdim=True)
        return self.norm(torch.relu(self.other(inputs))) * weight


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Silent()
        self.last = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.body(inputs))


def test_a_size_in_the_code_that_goes_wrong_without_an_error_is_refused() -> None:
    case = Case(Outer(), random(3, 6))
    plan = case.plan()
    assert {group.name for group in plan.groups} >= {"body.other"}
    refused = {name: reason for name, reason in plan.refused.items() if name.startswith("body.inner")}
    assert refused
    reason = refused["body.inner"]
    assert "differ from the graph's" in reason
    assert "body (Silent) has the size 4 in no attribute" in reason
    assert "weight = hidden[:, :4].sum(1, keepdim=True)" in reason


def test_scales_of_zero_hide_nothing() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Silent()
            self.scale = nn.Parameter(torch.zeros(2))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.scale * self.body(inputs)

    plan = Case(Hidden(), random(3, 6)).plan()
    assert "body.inner" in plan.refused


@pytest.mark.slow
def test_attention_of_torch_loses_heads_with_its_width_or_not_at_all() -> None:
    case = Case(ZOO.make("transformer_encoder_layer"), random(3, 7, 10))
    assert case.plan().ties == (frozenset({"embed", "layer.self_attn"}),)
    heads = [group for group in case.grouping.groups if group.name == "layer.self_attn"]
    plan = in_place(case.module, case.captured, case.analysis, heads)
    assert not plan.groups
    assert "layer.self_attn" in plan.refused


def test_tied_counts_are_equal_shares() -> None:
    assert tied_counts([32, 4], 1 / 3) == [8, 1]
    assert tied_counts([8, 8], 0.5) == [4, 4]
    assert tied_counts([4, 9], 0.5) == [0, 0]
    assert tied_counts([4, 8], 1.0) == [3, 6]
