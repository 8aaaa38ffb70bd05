"""Pruning modules in place: they compute what the rewritten graph computes, reload from plain values, or are refused."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.pruning.graph.analysis import Analysis
from modelopt_cli.pruning.graph.bundles import InPlace, in_place
from modelopt_cli.pruning.graph.capture import Captured, capture
from modelopt_cli.pruning.graph.edits import Edit, apply_edits, load_shapes, merged, pruned_state
from modelopt_cli.pruning.graph.groups import Grouping, grouping
from modelopt_cli.pruning.graph.rewriting import rewritten, slices
from modelopt_cli.pruning.graph.surgery import copied, difference, operate, trial
from modelopt_cli.pruning.graph.ties import connected, losing, tied_counts


def _load_zoo() -> Any:
    path = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "_zoo.py"
    spec = importlib.util.spec_from_file_location("_zoo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_zoo"] = module
    spec.loader.exec_module(module)
    return module


ZOO = _load_zoo()
HARD_CODED = {  # network -> groups whose sizes are written out in its code, or fixed by torch's own attention
    "vit": 4,
    "einsum_attention": 3,
    "slices": 2,
    "transformer_encoder_layer": 1,
}
TIED = {  # network -> groups that only go together
    "cifar_resnet_a": 4,
    "transformer_encoder_layer": 2,
    "bert": 4,
    "llama_gqa": 3,
    "t5_encoder": 4,
    "swin": 8,
}


class Case:
    """A module, its graph, and what can be done to it in place."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module.eval()
        self.captured: Captured = capture(module, example)
        self.analysis = Analysis(self.captured.graph)
        self.grouping: Grouping = grouping(self.captured.graph, self.analysis)

    def plan(self) -> InPlace:
        return in_place(self.module, self.captured, self.analysis, self.grouping.groups)

    def keep(self, plan: InPlace, share: float, seed: int = 0) -> dict[Any, Any]:
        generator = np.random.default_rng(seed)
        found: dict[Any, Any] = {}
        for bundle in connected(plan.groups, plan.ties):
            found.update(losing(bundle, share, generator))
        return found


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def saved(value: Any) -> Any:
    """Through a file that runs no code."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("name", [name for name, entry in ZOO.ZOO.items() if not entry.slow])
def test_every_network_is_pruned_in_place_and_reloads(name: str) -> None:
    entry = ZOO.ZOO[name]
    if entry.needs is not None:
        pytest.importorskip(entry.needs)
    torch.manual_seed(0)
    case, inputs = Case(ZOO.make(name), entry.inputs(3)), entry.inputs(5)
    plan = case.plan()
    tied = sum(map(len, plan.ties))
    print(f"\n{name}: groups {len(case.grouping.groups)}, alone {len(plan.groups) - tied}, tied {tied}, {plan.refused}")
    assert len(plan.refused) == HARD_CODED.get(name, 0)
    assert tied == TIED.get(name, 0)

    keep = case.keep(plan, 0.5)
    expected = rewritten(case.captured.graph, case.analysis, keep)
    parameters = dict(case.module.named_parameters(remove_duplicate=False))
    count = sum(parameter.numel() for parameter in case.module.parameters())
    edits = operate(case.module, case.captured.graph, case.analysis, keep, links=plan.links)
    assert difference(case.module, expected, inputs) < 1e-4
    assert sum(parameter.numel() for parameter in case.module.parameters()) < count
    after = dict(case.module.named_parameters(remove_duplicate=False))
    assert all(after[path] is parameter for path, parameter in parameters.items())

    state = saved(pruned_state(case.module, slices(case.analysis, keep)))
    other = ZOO.make(name, seed=1)
    load_shapes(other, state, saved(edits))
    assert difference(other, case.module, inputs) < 1e-6


@pytest.mark.parametrize("fast", [True, False])
def test_what_is_pruned_in_place_can_be_trained(fast: bool) -> None:
    case = Case(ZOO.make("modelopt_cnn"), random(3, 1, 28, 28))
    case.module(random(4, 1, 28, 28)).sum().backward()
    plan = case.plan()
    operate(case.module, case.captured.graph, case.analysis, case.keep(plan, 0.3), links=plan.links)
    assert all(parameter.grad is None for parameter in case.module.parameters())
    optimizer = torch.optim.Adam(case.module.parameters(), foreach=fast)
    before = [parameter.detach().clone() for parameter in case.module.parameters()]
    case.module.train()(random(4, 1, 28, 28)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, case.module.parameters(), strict=True))


def test_trials_leave_the_module_as_it_was() -> None:
    case = Case(ZOO.make("cifar_resnet_a"), random(3, 3, 32, 32))
    before = {name: value.clone() for name, value in case.module.state_dict().items()}
    padding = case.module.blocks[2].padding
    case.plan()
    assert case.module.blocks[2].padding == padding
    assert type(case.module.blocks[2]).__name__ == "BasicBlock"
    assert type(case.module.blocks[2]) is type(ZOO.make("cifar_resnet_a").blocks[2])
    assert all(torch.equal(before[name], value) for name, value in case.module.state_dict().items())


@pytest.mark.parametrize("name", ["cifar_resnet_a", "modelopt_transformer", "lstm1"])
def test_rounds_add_up(name: str) -> None:
    torch.manual_seed(0)
    entry = ZOO.ZOO[name]
    case, inputs = Case(ZOO.make(name), entry.inputs(3)), entry.inputs(4)
    plan = case.plan()
    first, later = case.keep(plan, 0.25), case.keep(plan, 0.25, seed=1)
    both = {prime: first[prime] & later[prime] for prime in first}
    tied = frozenset[str]().union(*plan.ties)  # these lose equal shares, whichever units they are: only once
    both.update({group.prime: first[group.prime] for group in plan.groups if group.name in tied})
    expected = rewritten(case.captured.graph, case.analysis, both)
    graph = case.captured.graph
    one = operate(case.module, graph, case.analysis, first, links=plan.links)
    two = operate(case.module, graph, case.analysis, both, held=first, links=plan.links)
    assert difference(case.module, expected, inputs) < 1e-4
    other = ZOO.make(name)
    load_shapes(other, pruned_state(case.module), merged(one, two))
    assert difference(other, case.module, inputs) < 1e-6


def test_tied_weights_stay_tied_and_what_the_graph_does_not_use_stays() -> None:
    module = ZOO.make("tied_embeddings")
    module.unused = nn.Linear(3, 3)
    case = Case(module, torch.randint(0, 50, (3, 7)))
    plan = case.plan()
    operate(module, case.captured.graph, case.analysis, case.keep(plan, 0.5), links=plan.links)
    assert module.head.weight is module.embedding.weight
    assert (module.head.in_features, module.head.out_features) == (12, 50)
    assert (module.embedding.num_embeddings, module.embedding.embedding_dim) == (50, 12)
    assert module.unused.weight.shape == (3, 3)


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
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0), scale=self.scale).transpose(1, 2)
        return hidden + self.out(mixed.flatten(2))


def test_attributes_of_one_value_are_told_apart() -> None:
    module = nn.Sequential(*(Attention(4, 4, layer) for layer in range(5)), nn.Flatten(), nn.Linear(48, 2))
    case = Case(module, random(3, 3, 16))
    plan = case.plan()
    assert (dict(plan.refused), plan.ties) == ({}, ())
    heads = {group.prime: np.arange(4) < 3 for group in plan.groups if group.name == "4.project"}
    edits = operate(module, case.captured.graph, case.analysis, heads, links=plan.links)
    assert ("4", "heads", 3) in edits
    assert {name for _, name, _ in edits} == {"heads", "in_features", "out_features"}
    assert (module[4].width, module[4].layer) == (4, 4)


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
    told = refused["body.inner"]
    assert "differ from the graph's" in told
    assert "body (Silent) has the size 4 in no attribute" in told
    assert "weight = hidden[:, :4].sum(1, keepdim=True)" in told


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


def test_breaking_a_tie_is_an_error_and_changes_nothing() -> None:
    case = Case(ZOO.make("cifar_resnet_a"), random(3, 3, 32, 32))
    plan = case.plan()
    group = case.grouping.named("blocks.2.conv2")
    keep = {group.prime: np.arange(group.size) < 5}
    before = {name: value.shape for name, value in case.module.state_dict().items()}
    with pytest.raises(ModeloptError, match=r"blocks\.2\.padding is one number for the sizes 5 and 8"):
        operate(case.module, case.captured.graph, case.analysis, keep, links=plan.links)
    assert {name: value.shape for name, value in case.module.state_dict().items()} == before
    found = trial(case.module, case.captured.graph, case.analysis, keep, [random(2, 3, 32, 32)], plan.links)
    assert not found.ok
    assert found.error == float("inf")


def test_operate_finds_attributes_without_a_plan() -> None:
    case = Case(ZOO.make("modelopt_transformer"), torch.randint(0, 50, (3, 12)))
    group = case.grouping.named("layers.0.self_attn")
    edits = operate(case.module, case.captured.graph, case.analysis, {group.prime: np.arange(4) < 2})
    assert ("layers.0.self_attn", "heads", 2) in edits


def test_a_copy_shares_memory_but_no_tensors() -> None:
    module = ZOO.make("tied_embeddings")
    other = copied(module)
    assert other.head.weight is other.embedding.weight
    assert other.head.weight is not module.head.weight
    assert other.head.weight.data_ptr() == module.head.weight.data_ptr()


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def shrunk() -> tuple[dict[str, Tensor], list[Edit]]:
    case = Case(small(), random(3, 4))
    keep = losing(case.grouping.groups, 0.5)
    edits = operate(case.module, case.captured.graph, case.analysis, keep)
    return pruned_state(case.module), edits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3.weight": torch.zeros(2)}, "have '3.weight', which the model has not"),
        ({"0.weight": torch.zeros(9, 4)}, r"0.weight has the shape \[6, 4\], of which \[9, 4\] cannot be"),
        ({"0.weight": torch.zeros(24)}, r"of which \[24\] cannot be"),
        ({"0.weight": torch.zeros(0, 4)}, r"of which \[0, 4\] cannot be"),
        ({"0.weight": torch.zeros(3, 4, dtype=torch.long)}, "has the type torch.float32, but"),
        ({"0.weight": "weights"}, "must be a tensor, but the pruned weights have a str"),
    ],
)
def test_state_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    state, edits = shrunk()
    module = small()
    with pytest.raises(ValueError, match=message):
        load_shapes(module, state | change, edits)
    assert module[0].weight.shape == (6, 4)
    assert module[0].out_features == 6


def test_state_that_lacks_a_tensor_is_refused() -> None:
    state, edits = shrunk()
    del state["0.bias"]
    with pytest.raises(ValueError, match=r"lack 0\.bias"):
        load_shapes(small(), state, edits)


def test_tied_tensors_of_two_shapes_are_refused() -> None:
    module = ZOO.make("tied_embeddings")
    state = pruned_state(module)
    state["head.weight"] = torch.zeros(50, 12)
    with pytest.raises(ValueError, match=r"embedding\.weight and head\.weight are one tensor"):
        load_shapes(module, state)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("5", "out_features", 3), "module '5', which the model has not"),
        (("0", "widths", 3), "'widths' of 0, which is no number"),
        (("0", "forward", 3), "'forward' of 0, which is no number"),
        (("0", "training", 1), "'training' of 0, which is no number"),
        (("0", "weight", 3), "'weight' of 0, which is no number"),
        (("0", "out_features", 7), "0.out_features is 6, which cannot become 7"),
        (("0", "out_features", -1), "cannot become -1"),
        (("0", "out_features", True), "cannot become True"),
        (("0", "out_features", 2.0), "cannot become 2.0"),
        (("0", "out_features", [3]), r"cannot become \[3\]"),
        (("0", "out_features", "3"), "cannot become '3'"),
        (("0", "out_features"), r"an edit is \(path, name, value\)"),
        (3, r"an edit is \(path, name, value\), but one is 3"),
        (("0", 3, 3), r"an edit is \(path, name, value\)"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edit: Any, message: str) -> None:
    module = small()
    with pytest.raises(ValueError, match=message):
        apply_edits(module, [("0", "in_features", 2), edit])
    assert module[0].in_features == 4
