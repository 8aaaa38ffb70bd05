"""Modules pruned in place compute what the rewritten graph computes, and reload from plain values; or are refused."""

from __future__ import annotations

import io
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.graph.edits import load_shapes, merged
from modelopt_cli.models.graph.rewriting import rewritten, slices
from modelopt_cli.models.graph.surgery import copied, difference, operate, trial
from tests.support import zoo as ZOO
from tests.support.in_place_cases import Case, pruned_state, random

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


def saved(value: Any) -> Any:
    """Through a file that runs no code."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.slow
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


@pytest.mark.slow
def test_trials_leave_the_module_as_it_was() -> None:
    case = Case(ZOO.make("cifar_resnet_a"), random(3, 3, 32, 32))
    before = {name: value.clone() for name, value in case.module.state_dict().items()}
    block = cast(Any, case.module).blocks[2]
    padding = block.padding
    case.plan()
    assert block.padding == padding
    assert cast(Any, case.module).blocks[2] is block
    assert type(block).__name__ == "BasicBlock"
    assert type(block) is type(cast(Any, ZOO.make("cifar_resnet_a")).blocks[2])
    assert all(torch.equal(before[name], value) for name, value in case.module.state_dict().items())


@pytest.mark.slow
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
    module: Any = ZOO.make("tied_embeddings")
    module.unused = nn.Linear(3, 3)
    case = Case(module, torch.randint(0, 50, (3, 7)))
    plan = case.plan()
    operate(module, case.captured.graph, case.analysis, case.keep(plan, 0.5), links=plan.links)
    assert module.head.weight is module.embedding.weight
    assert (module.head.in_features, module.head.out_features) == (12, 50)
    assert (module.embedding.num_embeddings, module.embedding.embedding_dim) == (50, 12)
    assert module.unused.weight.shape == (3, 3)


@pytest.mark.slow
def test_breaking_a_tie_is_an_error_and_changes_nothing() -> None:
    case = Case(ZOO.make("cifar_resnet_a"), random(3, 3, 32, 32))
    plan = case.plan()
    group = case.grouping.named("blocks.2.conv2")
    keep = {group.prime: np.arange(group.size) < 5}
    before = {name: value.shape for name, value in case.module.state_dict().items()}
    with pytest.raises(ModeloptError, match=r"blocks\.2\.padding is one number for the sizes 5 and 8"):
        operate(case.module, case.captured.graph, case.analysis, keep, links=plan.links)
    assert {name: value.shape for name, value in case.module.state_dict().items()} == before
    outcome = trial(case.module, case.captured.graph, case.analysis, keep, [random(2, 3, 32, 32)], plan.links)
    assert not outcome.ok
    assert outcome.error == float("inf")


@pytest.mark.slow
def test_operate_finds_attributes_without_a_plan() -> None:
    case = Case(ZOO.make("modelopt_transformer"), torch.randint(0, 50, (3, 12)))
    group = case.grouping.named("layers.0.self_attn")
    edits = operate(case.module, case.captured.graph, case.analysis, {group.prime: np.arange(4) < 2})
    assert ("layers.0.self_attn", "heads", 2) in edits


def test_a_copy_shares_memory_but_no_tensors() -> None:
    module: Any = ZOO.make("tied_embeddings")
    other: Any = copied(module)
    assert other.head.weight is other.embedding.weight
    assert other.head.weight is not module.head.weight
    assert other.head.weight.data_ptr() == module.head.weight.data_ptr()
