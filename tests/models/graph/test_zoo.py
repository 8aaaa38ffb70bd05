"""Every network that neuron pruning must take: what is silent goes without a trace, at least half of it, at known cost.

The oracle: units silenced on both sides, against units removed, on another batch size than the one captured.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.axes import Mask
from modelopt_cli.models.graph.groups import Group, coverage
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import error, first_tensor, rewritten, silenced
from modelopt_cli.models.measure import macs
from tests.support import zoo as ZOO

NAMES = [name for name, entry in ZOO.ZOO.items() if not entry.slow]
EXACT = ["lenet", "densenet", "shufflenet", "unet", "vit", "lstm2_bi", "llama_gqa", "swin"]
CAPTURED, RUN = 3, 5  # batch sizes


class Subject:
    """A network of the zoo."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.entry, self.dtype = ZOO.ZOO[name], dtype
        if self.entry.needs is not None:
            pytest.importorskip(self.entry.needs)
        self.name, self.module = name, ZOO.make(name).to(dtype)
        torch.manual_seed(0)
        self.network = Network(self.module, self.inputs(CAPTURED))
        self.graph, self.analysis = self.network.captured.graph, self.network.analysis
        self.batch = self.inputs(RUN)
        self.removed: dict[str, Tensor] = {}  # group -> outputs for the batch without a third of its units

    def inputs(self, batch: int) -> Tensor:
        inputs: Tensor = self.entry.inputs(batch)
        return inputs.to(self.dtype) if inputs.is_floating_point() else inputs

    @property
    def exact(self) -> list[Group]:
        """Groups over which nothing is computed."""
        return [group for group in self.network.groups if not group.shifts]

    def half(self) -> dict[Any, Mask]:
        """Of every group, half of its units, rounded down."""
        generator = np.random.default_rng(0)
        return {group.prime: generator.permutation(group.size) < group.size // 2 for group in self.network.groups}

    def without(self, group: Group) -> Tensor:
        """Outputs for the batch when a third of the group is removed."""
        if group.name not in self.removed:
            self.removed[group.name] = run(rewritten(self.graph, self.analysis, third(group)), self.batch)
        return self.removed[group.name]

    def difference(self, group: Group, silent: int) -> float:
        """How far the outputs are from those when one or another third of the group is silenced."""
        expected = run(silenced(self.graph, self.analysis, third(group, silent)), self.batch)
        return float((self.without(group) - expected).abs().max() / expected.abs().max())


@cache
def subject_of(name: str) -> Subject:
    return Subject(name)


@pytest.fixture(params=NAMES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


def third(group: Group, which: int = 0) -> dict[Any, Mask]:
    """Without a third of the units; another third for another `which`."""
    return {group.prime: np.arange(group.size) % min(3, group.size) != which}


@torch.no_grad()
def run(graph: nn.Module, inputs: Tensor) -> Tensor:
    return first_tensor(graph(inputs))


@pytest.mark.slow
def test_every_group_goes_without_a_trace(subject: Subject) -> None:
    whole = run(subject.module, subject.batch)
    assert subject.network.groups
    for group in subject.network.groups:
        assert subject.without(group).shape == whole.shape
        assert group.shifts or subject.difference(group, silent=0) <= 1e-5, group.name
    together = {prime: mask for group in subject.exact for prime, mask in third(group).items()}
    assert error(subject.graph, subject.analysis, together, subject.batch) <= 1e-5


@pytest.mark.slow
def test_other_units_leave_a_trace(subject: Subject) -> None:
    """The negative control: one set silenced and another removed must differ, or the oracle proves nothing."""
    for group in subject.exact:
        assert subject.difference(group, silent=1) >= 1e-3, group.name


@pytest.mark.slow
def test_half_of_all_units_leaves_at_most_half_of_the_parameters(subject: Subject) -> None:
    network, entry = subject.network, subject.entry
    before = {name: parameter.numel() for name, parameter in ZOO.counted(subject.name, subject.module)}
    graph = rewritten(subject.graph, subject.analysis, subject.half())
    assert torch.isfinite(run(graph, subject.inputs(RUN))).all()
    after = dict(graph.named_parameters(remove_duplicate=False))
    left = sum(after[name].numel() for name in before) / sum(before.values())
    share, reasons = coverage(subject.graph, subject.analysis, network.grouping, network.groups, entry.output)
    print(f"\n{subject.name}: {left:.1%} of the parameters left, {1 - share:.2%} frozen")
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"  {count} of {sum(before.values())}: {reason}")
    assert subject.network.captured.dynamic
    assert (subject.analysis.clashes, dict(subject.analysis.unknown)) == ([], {})
    if entry.stays:
        assert 0.5 < share < 0.9
        assert any("interleaved" in reason for reason in reasons)
    else:
        assert left <= 0.5
        assert share >= 0.99


@pytest.mark.slow
def test_costs_are_those_measured(subject: Subject) -> None:
    costs, keep, one = subject.network.costs, subject.half(), subject.inputs(1)
    counts = {prime: int(mask.sum()) for prime, mask in keep.items()}
    after = rewritten(subject.graph, subject.analysis, keep)
    for module, left in ((fx.GraphModule(subject.graph, subject.graph.graph), {}), (after, counts)):
        module.requires_grad_(False)  # FlopCounterMode fails on parametrizations with gradients
        assert costs.macs(left) == macs(module, one)[""] == sum(costs.macs_of(left).values())
        assert costs.parameters(left) == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_in_double_precision(name: str) -> None:
    subject = Subject(name, torch.float64)
    for group in subject.exact:
        assert subject.difference(group, silent=0) <= 1e-10, group.name


@pytest.mark.slow
def test_the_graph_is_the_module(subject: Subject) -> None:
    inputs = subject.inputs(2)
    assert torch.allclose(run(subject.graph, inputs), run(subject.module, inputs), rtol=1e-4, atol=1e-5)
