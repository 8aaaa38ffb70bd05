"""Every operator's rule and rewriter: axes as torch has them, units that go without a trace, nothing guessed."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Mask, Prime, length
from modelopt_cli.models.graph.call import Dims
from modelopt_cli.models.graph.capture import Captured, capture
from modelopt_cli.models.graph.cost import Costs
from modelopt_cli.models.graph.groups import Grouping, coverage, grouping
from modelopt_cli.models.graph.operators import operator_of, operators
from modelopt_cli.models.graph.operators.elementwise import ELEMENTWISE
from modelopt_cli.models.graph.rewriting import error, rewritten
from modelopt_cli.models.measure import macs
from tests.support.operator_cases import CASES, OperatorCase, Tiny, conv, linear


class Subject:
    """A small network, captured."""

    def __init__(self, case: OperatorCase, dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(0)
        self.case, self.dtype = case, dtype
        self.module = Tiny(case.function, case.parts()).eval().to(dtype)
        for buffer in self.module.buffers():
            buffer.add_(torch.rand_like(buffer)) if buffer.is_floating_point() else None
        self.captured: Captured = capture(self.module, self.inputs(3))
        self.graph = self.captured.graph
        self.analysis = Analysis(self.graph)
        self.grouping: Grouping = grouping(self.graph, self.analysis)

    def inputs(self, batch: int) -> Tensor:
        return torch.randn(batch, *self.case.shape, dtype=self.dtype)

    def keep(self, *left_out: str) -> dict[Prime, Mask]:
        """Without every third unit of these groups."""
        return {
            self.grouping.named(name).prime: np.arange(self.grouping.named(name).size) % 3 != 1 for name in left_out
        }


class Shapes(fx.Interpreter):
    """Compares every value's sizes with those of its axes."""

    def __init__(self, graph: fx.GraphModule, analysis: Analysis, keep: dict[Prime, Mask], batch: int) -> None:
        super().__init__(graph)
        self.analysis = analysis
        self.counts = {prime: int(mask.sum()) for prime, mask in keep.items()}
        self.batch, self.compared = batch, 0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        dims = self.analysis.values.get(n.name)
        if dims is not None and n.op != "output":
            values, each = ([result], [dims]) if isinstance(result, Tensor) else (result, dims)
            for value, axes in zip(values, each, strict=True):
                if isinstance(value, Tensor) and axes is not None:
                    self._compare(n, value, axes)
        return result

    def _compare(self, n: fx.Node, value: Tensor, axes: Any) -> None:
        expected = [length(axis, self.counts) for axis in axes]
        assert list(value.shape) == expected, n.format_node()
        self.compared += 1


@pytest.fixture(scope="module", params=CASES)
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(CASES[request.param])


@pytest.mark.slow
def test_groups_are_those_expected(subject: Subject) -> None:
    case, grouped = subject.case, subject.grouping
    assert {group.name: group.size for group in grouped.groups} == dict(case.units)
    assert {group.name for group in grouped.groups if group.shifts} == case.shifts
    assert (subject.analysis.clashes, dict(subject.analysis.unknown)) == ([], {})
    assert subject.captured.dynamic
    reasons = {reason for each in grouped.frozen for reason in each.reasons}
    assert not case.stays or any(case.stays in reason for reason in reasons)


@pytest.mark.slow
def test_units_go_without_a_trace(subject: Subject) -> None:
    inputs = subject.inputs(5)
    exact = [name for name in subject.case.units if name not in subject.case.shifts]
    for names in [*([name] for name in exact), exact]:
        assert error(subject.graph, subject.analysis, subject.keep(*names), inputs) <= 1e-10, names


@pytest.mark.slow
def test_sizes_of_all_values_are_those_of_their_axes(subject: Subject) -> None:
    for names in ([], [*subject.case.units]):
        keep = subject.keep(*names)
        graph = rewritten(subject.graph, subject.analysis, keep)
        checked = Shapes(graph, subject.analysis, keep, 3)
        checked.run(subject.inputs(3))
        assert checked.compared > 3
        rewritten(subject.graph, subject.analysis, keep)(subject.inputs(4))


@pytest.mark.slow
def test_costs_are_those_measured(subject: Subject) -> None:
    costs, keep = Costs(subject.graph, subject.analysis), subject.keep(*subject.case.units)
    for masks in ({}, keep):
        graph = rewritten(subject.graph, subject.analysis, masks).requires_grad_(False)
        counts = {prime: int(mask.sum()) for prime, mask in masks.items()}
        assert costs.macs(counts) == macs(graph, subject.inputs(1))[""]
        assert costs.parameters(counts) == sum(each.numel() for each in set(graph.parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["products-linear", "maps-depthwise", "attention-grouped", "recurrent-gru"])
def test_single_precision(name: str) -> None:
    subject = Subject(CASES[name], torch.float32)
    assert error(subject.graph, subject.analysis, subject.keep(*CASES[name].units), subject.inputs(5)) <= 1e-5


# Attention


@pytest.mark.parametrize("name", ["attention-attention", "attention-grouped"])
def test_the_scale_of_attention_is_pinned(name: str) -> None:
    subject = Subject(CASES[name])
    width = next(group for group in subject.grouping.groups if group.size == 3 and group.name.startswith("a"))
    graph = rewritten(subject.graph, subject.analysis, {width.prime: np.arange(3) < 2})
    scales = [node.kwargs.get("scale") for node in graph.graph.nodes if "attention" in str(node.target)]
    assert scales == [pytest.approx(3**-0.5)]


# What every operator must keep to


def test_every_operator_exists() -> None:
    assert len(operators()) > 250
    for target, operator in operators().items():
        assert isinstance(target, torch._ops.OpOverload)
        assert target.namespace == "aten"
        assert operator_of(target) is operator


def test_no_name_is_a_typing_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that this torch has not are left out of the tables: only overloads that it never had may be."""
    import importlib
    import pkgutil

    from modelopt_cli.models.graph import call
    from modelopt_cli.models.graph import operators as package

    missing: list[str] = []
    overload = call.overload

    def recorded(name: str) -> Any:
        operator = overload(name)
        if operator is None:
            missing.append(name)
        return operator

    monkeypatch.setattr(call, "overload", recorded)
    for each in pkgutil.iter_modules(package.__path__):
        spec = importlib.util.find_spec(f"{package.__name__}.{each.name}")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    dimensions = {
        f"{name}{dims}d" for name, dims in product(("upsample_bilinear", "upsample_bicubic", "lp_pool"), "123")
    }
    dimensions |= {"upsample_linear2d", "upsample_linear3d", "upsample_trilinear1d", "upsample_trilinear2d"}
    dimensions |= {"adaptive_max_pool1d", "max_pool1d_with_indices"}
    assert {name.partition(".")[0] for name in missing} <= dimensions


def test_elementwise_operators_are_known_by_their_tag() -> None:
    aten = torch.ops.aten
    for target in (aten.add.Tensor, aten.sigmoid_.default, aten.pow.Tensor_Scalar, aten.maximum.default):
        assert operator_of(target) is ELEMENTWISE
    for unknown in (aten.linalg_inv.default, aten.linalg_det.default, aten.nonzero.default, len, "add"):
        assert operator_of(unknown) is None


def test_an_unknown_operator_freezes_only_what_it_touches() -> None:
    case = OperatorCase(
        lambda m, x: m.b(torch.cdist(m.a(x), m.a(x))) + m.d(m.c(x)),
        linear(6, 4, c=lambda: nn.Linear(5, 6), d=lambda: nn.Linear(6, 3)),
        (4, 5),
        {"c": 6},
    )
    subject = Subject(case)
    assert {group.name: group.size for group in subject.grouping.groups} == case.units
    assert dict(subject.analysis.unknown) == {"cdist.default": 1}
    assert error(subject.graph, subject.analysis, subject.keep("c"), subject.inputs(4)) <= 1e-10


class Flipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.b(torch.rot90(self.a(inputs), 1, (1, 2)).mT)


def test_what_is_unknown_is_reported_with_its_place() -> None:
    torch.manual_seed(0)
    module = Flipped()
    graph = capture(module, torch.randn(3, 4, 5)).graph
    analysis = Analysis(graph)
    grouped = grouping(graph, analysis)
    assert grouped.groups == ()
    assert dict(analysis.unknown) == {"rot90.default": 1}
    assert analysis.clashes == ["rot90 (rot90.default) in the model: it is not known"]
    share, reasons = coverage(graph, analysis, grouped, grouped.groups)
    assert share == 0.0
    assert any("operator rot90.default: it is not known" in reason for reason in reasons)
    assert sum(reasons.values()) == sum(each.numel() for each in module.parameters())


def test_a_clash_rolls_back_and_freezes() -> None:
    """Adding maps of two layouts: 6 channels of 4 positions against 4 x 6 that were cut at 9."""
    case = OperatorCase(
        lambda m, x: m.b(torch.cat([h := m.a(x).flatten(1)[:, :9], h], 1).view(-1, 6, 3)), linear(4, 3), (4, 5)
    )
    subject = Subject(case)
    assert not subject.grouping.groups
    (clash,) = subject.analysis.clashes
    assert "slice.Tensor" in clash
    assert clash.endswith("in the model: a cut at 9 within steps of 4")
    reasons = {reason for each in subject.grouping.frozen for reason in each.reasons}
    assert "operator slice.Tensor: a cut at 9 within steps of 4" in reasons
    rewritten(subject.graph, subject.analysis, {})(subject.inputs(4))


def test_several_results_are_checked_too() -> None:
    case = OperatorCase(lambda m, x: m.b(nn.functional.adaptive_max_pool1d(m.a(x), 3)), conv(6, dims=1), (2, 9))
    subject = Subject(case)
    node = next(node for node in subject.graph.graph.nodes if "adaptive_max_pool1d" in str(node.target))
    values = cast("list[Dims]", subject.analysis.values[node.name])
    assert [[axis.size for axis in dims] for dims in values] == [[3, 6, 3], [3, 6, 3]]
    assert [group.name for group in subject.grouping.groups] == ["a"]
