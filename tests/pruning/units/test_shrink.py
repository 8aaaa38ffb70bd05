"""Units out of a module that a program holds: smaller, working, the module itself as it was; and what is refused."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.measure import macs
from modelopt_cli.pruning.units.shrink import Shrunk, shrink

SAMPLES = 200


class Cnn(nn.Module):
    """Its flattened size is written out, as an attribute or not at all."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.inner, self.head = nn.Linear(12 * 16, 20), nn.Linear(20, 5)
        self.hard = hard

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 5)."""
        maps = F.max_pool2d(F.relu(self.norm(self.conv1(images))), 2)
        maps = F.relu(self.conv2(maps))
        flat = maps.reshape(-1, 12 * 16) if self.hard else maps.flatten(1)
        return self.head(F.relu(self.inner(flat)))


def made(hard: bool = False) -> nn.Module:
    torch.manual_seed(0)
    module = Cnn(hard)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
        module.norm.running_mean.normal_(0.0, 0.2)  # type: ignore[union-attr]
    return module


def images(count: int = SAMPLES) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def run(module: nn.Module, given: Tensor) -> Tensor:
    with torch.no_grad():
        return module.eval()(given)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_smaller_module_comes_out_and_the_given_one_stays() -> None:
    module = made().train()
    before, graph = copy.deepcopy(module.state_dict()), {part: part.training for part in module.modules()}
    shrunk = shrink(module, images(), {"amount": 0.5, "importance": "l2"})
    assert isinstance(shrunk, Shrunk)
    assert parameters(shrunk.module) < 0.6 * parameters(module)
    assert type(shrunk.module) is Cnn
    assert shrunk.module.conv1.out_channels == shrunk.module.conv1.weight.shape[0] < 8
    assert shrunk.module.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert all(part.training == mode for part, mode in graph.items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not {id(each) for each in module.parameters()} & {id(each) for each in shrunk.module.parameters()}
    assert shrunk.warnings == ()
    table = {row[0]: row for row in shrunk.groups.rows}
    assert set(table) == {"conv1", "conv2", "inner"}
    assert sum(int(str(row[2])) for row in table.values()) == 20
    assert table["conv1"][2] == shrunk.module.conv1.out_channels


@pytest.mark.slow
def test_compensation_makes_up_for_it_in_both_forms() -> None:
    module, given = made(), images()
    dense = run(module, given)
    errors = {}
    for apply in ("module", "graph"):
        for compensation in ("none", "least_squares"):
            pruning = {
                "amount": 0.4,
                "importance": "obs",
                "structure": {"type": "neurons", "apply": apply},
                "compensation": compensation,
            }
            shrunk = shrink(module, given, pruning)
            assert isinstance(shrunk.module, Emitted) == (apply == "graph")
            errors[apply, compensation] = float((run(shrunk.module, given) - dense).square().mean())
    for apply in ("module", "graph"):
        assert errors[apply, "least_squares"] < 0.7 * errors[apply, "none"]
    assert errors["module", "least_squares"] == pytest.approx(errors["graph", "least_squares"], rel=1e-3)


@pytest.mark.slow
def test_what_comes_out_can_be_trained_and_shrunk_again() -> None:
    given = images()
    for apply in ("module", "graph"):
        structure = {"type": "neurons", "apply": apply}
        once = shrink(made(), given, {"amount": 0.3, "importance": "l1", "structure": structure}).module
        loss = once.train()(given[:32]).square().mean()
        loss.backward()
        assert all(parameter.grad is not None for parameter in once.parameters())
        twice = shrink(once.eval(), given, {"amount": 0.3, "importance": "l1", "structure": structure}).module
        assert parameters(twice) < parameters(once)
        assert run(twice, given[:3]).shape == (3, 5)
        assert not twice.training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "cost"),
    [
        ({"parameters": "50%"}, parameters),
        ({"flops": "50%"}, lambda module: macs(module, images(1))[""]),
        ({"size_bytes": "60%"}, lambda module: 4 * parameters(module)),
    ],
)
def test_a_budget_is_met(budget: dict[str, Any], cost: Any) -> None:
    module = made()
    shrunk = shrink(module, images(), {"budget": budget, "importance": "l2"})
    share = float(next(iter(budget.values()))[:-1]) / 100
    assert 0.9 * share * cost(module) <= cost(shrunk.module) <= share * cost(module)


@pytest.mark.slow
def test_a_share_that_cannot_be_reached_is_told() -> None:
    structure = {"type": "neurons", "limits": {"conv*": 0.25}}
    reached = shrink(made(), images(), {"amount": 0.5, "importance": "l2", "structure": structure})
    assert reached.warnings == ()
    assert sum(int(str(row[2])) for row in reached.groups.rows) == 20
    short = shrink(made(), images(), {"amount": 0.9, "importance": "l2", "structure": structure})
    assert [row[2] for row in short.groups.rows] == [6, 9, 1]
    assert "asks for 90.0% of the units, but 24 of 40 are gone (60.0%)" in short.warnings[0]


@pytest.mark.slow
def test_targets_count_for_importances_on_gradients() -> None:
    module, given = made(), images()
    classes = run(module, given).argmax(1)
    ours, others = (
        shrink(module, given, {"amount": 0.5, "importance": "taylor"}, targets=targets)
        for targets in (classes, (classes + 1) % 5)
    )
    assert not all(
        torch.equal(one, other) if one.shape == other.shape else False
        for one, other in zip(ours.module.parameters(), others.module.parameters(), strict=True)
    )
    numbers = shrink(
        module, given, {"amount": 0.3, "importance": "taylor"}, targets=run(module, given), task="regression"
    )
    assert parameters(numbers.module) < parameters(module)


@pytest.mark.slow
def test_a_hard_coded_size_takes_the_graph_and_says_so() -> None:
    module, given = made(hard=True), images()
    shrunk = shrink(module, given, {"amount": 0.5, "importance": "l2"})
    assert isinstance(shrunk.module, Emitted)
    assert "its exported graph takes its place" in shrunk.warnings[0]
    assert run(shrunk.module, given[:7]).shape == (7, 5)
    alone = shrink(
        module, given, {"amount": 0.5, "importance": "l2", "structure": {"type": "neurons", "apply": "module"}}
    )
    assert type(alone.module) is Cnn
    assert alone.module.conv2.out_channels == 12
    assert alone.module.conv1.out_channels < 8


def test_a_threshold_of_activity_as_in_the_first_article() -> None:
    module: Any = made()
    given = images()
    with torch.no_grad():
        module.inner.weight[:7].zero_()
        module.inner.bias[:7] = -1.0
    flat = F.relu(module.conv2(F.max_pool2d(F.relu(module.eval().norm(module.conv1(given))), 2))).flatten(1)
    alive = (F.relu(module.inner(flat)) > 0).any(0)
    shrunk = shrink(module, given, {"threshold": 1e-6, "importance": "activation_mean"})
    assert shrunk.module.inner.out_features == int(alive.sum()) <= 13  # type: ignore[union-attr]
    assert torch.allclose(run(shrunk.module, given), run(module, given), rtol=1e-5, atol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(64, 8), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.inner(images.flatten(1))
        if hidden.sum() > 0:
            hidden = hidden * 2
        return self.head(hidden)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        ({}, "say how much goes by exactly one of threshold, amount and budget"),
        ({"amount": 1.5}, "amount: .*less than 1"),
        ({"amount": 0.5, "importanc": "l2"}, "importanc: Extra inputs"),
        ({"amount": 0.5, "structure": "weights"}, "structure weights sets zeros; shrink takes units out: use neurons"),
        ({"amount": 0.5, "recovery": {"epochs": 1}}, "recovery needs training; shrink prunes once"),
        ({"amount": 0.5, "schedule": "one_shot"}, "schedule needs training"),
        ({"amount": 0.5, "importance": "snip"}, "importance snip scores weights, no units"),
        ({"amount": 0.5, "include": ["nowhere"]}, "'nowhere' matches no group of units"),
        ({"budget": {"parameters": 3}, "importance": "l2"}, "budget.parameters is 3, but .* are left when all"),
        ({"amount": 0.5, "importance": "bn_scale"}, "go through no normalization"),
    ],
)
def test_what_cannot_be_is_said(pruning: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shrink(made(), images(16), pruning)


def test_a_module_that_cannot_be_captured_is_explained() -> None:
    torch.manual_seed(0)
    with pytest.raises(UsageError) as raised:
        shrink(Branching(), images(16), {"amount": 0.5})
    assert "captured" in str(raised.value)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (images(1), None, "at least 2 samples"),
        (torch.randn(16, 3, 8, 8), None, r"fails on inputs of shape \(4, 3, 8, 8\): .*expected .* channels"),
        (images(16), torch.zeros(15, dtype=torch.int64), "there are 16 inputs, but 15 targets"),
    ],
)
def test_samples_that_do_not_fit(inputs: Tensor, targets: Tensor | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shrink(made(), inputs, {"amount": 0.5}, targets=targets)


@pytest.mark.parametrize(
    "pruning", [{"importance": "taylor"}, {"importance": "hessian"}, {"allocation": "sensitivity"}]
)
def test_what_looks_at_the_loss_takes_targets(pruning: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="looks at the loss, which takes targets"):
        shrink(made(), images(16), {"amount": 0.5, **pruning})


class Made(nn.Module):
    """Makes constants on the way, as a list index and torch.tensor do; also in a module within."""

    def __init__(self, how: str, outer: bool = True) -> None:
        super().__init__()
        self.how = how
        self.inner = Made(how, outer=False) if outer else None
        self.a, self.out = nn.Linear(6, 32), nn.Linear(32, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.inner is not None:
            inputs = self.inner(inputs)
        elif self.how == "list":
            inputs = inputs[:, [2, 0, 1, 3, 5, 4]]
        elif self.how == "vector":
            inputs = inputs * torch.tensor([1.0, 2, 1, 2, 1, 2])
        elif self.how == "number":
            inputs = torch.where(inputs.sum() > 0, inputs, inputs * torch.tensor([1.5]))
        return self.out(self.a(inputs).relu())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["list", "vector", "number"])
@pytest.mark.parametrize("more", [{}, {"importance": "obs", "compensation": "least_squares"}])
def test_constants_that_the_code_makes_stay_out_of_it(how: str, more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module, inputs = Made(how).eval(), torch.randn(32, 6)
    shrunk = shrink(module, inputs, {"amount": 0.5, "importance": "l2", **more})
    assert (type(shrunk.module), shrunk.warnings) == (Made, ())
    assert parameters(shrunk.module) < 0.6 * parameters(module)
    assert run(shrunk.module, inputs[:3]).shape == (3, 6)


class Chomped(nn.Module):
    """A temporal convolution that cuts its padding off by a number in an attribute."""

    def __init__(self, cut: int) -> None:
        super().__init__()
        self.cut = cut
        self.a = nn.Conv1d(4, 24, 3, padding=cut, dilation=cut // 2)
        self.b, self.head = nn.Conv1d(24, 24, 3, padding=cut, dilation=cut // 2), nn.Linear(24, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.a(inputs)[:, :, : -self.cut].relu()
        return self.head(self.b(hidden)[:, :, : -self.cut].relu()[:, :, -1])


@pytest.mark.parametrize("cut", [4, 24])
def test_a_number_that_has_nothing_to_do_with_units_stays(cut: int) -> None:
    torch.manual_seed(0)
    module, inputs = Chomped(cut).eval(), torch.randn(8, 4, 40)
    shrunk = shrink(module, inputs, {"amount": 0.5, "importance": "l2"})
    assert (type(shrunk.module), shrunk.warnings) == (Chomped, ())
    assert shrunk.module.cut == cut
    assert shrunk.module.a.out_channels + shrunk.module.b.out_channels == 24  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_weight_that_a_forward_pass_has_left_is_copied(norm: Any) -> None:
    """torch's hooks set it as an attribute, with its history, which deepcopy refuses."""
    torch.manual_seed(0)
    module, inputs = nn.Sequential(norm(nn.Linear(6, 16)), nn.ReLU(), nn.Linear(16, 3)).eval(), torch.randn(8, 6)
    module(inputs).sum().backward()
    shrunk = shrink(module, inputs, {"amount": 0.5, "importance": "l2"})
    assert shrunk.module[0].bias.shape == (8,)  # type: ignore[index]
    assert module[0].weight.shape == (16, 6)
    assert run(shrunk.module, inputs[:3]).shape == (3, 3)


@pytest.mark.parametrize("apply", ["module", "graph"])
def test_what_comes_out_can_be_saved_whole(apply: str) -> None:
    structure = {"type": "neurons", "apply": apply}
    smaller = shrink(made(), images(), {"amount": 0.5, "importance": "l2", "structure": structure}).module
    file = io.BytesIO()
    torch.save(smaller, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert type(again) is type(smaller)
    assert torch.equal(run(again, images(5)), run(smaller, images(5)))
    assert torch.equal(run(copy.deepcopy(again), images(5)), run(smaller, images(5)))


class Sized(nn.Module):
    """Asks for its batch size in one way or another; `hard`: a width is written out, so that a graph has to shrink."""

    def __init__(self, way: Callable[[Tensor], int], hard: bool) -> None:
        super().__init__()
        self.a, self.b, self.c, self.way = nn.Linear(6, 32), nn.Linear(32, 20), nn.Linear(20, 3), way
        self.hard = hard

    def forward(self, inputs: Tensor) -> Tensor:
        size = self.way(inputs)
        hidden = self.a(inputs).view(size, 4, 8) if self.hard else self.a(inputs).view(size, -1)
        return self.c(self.b(hidden.relu().flatten(1)).relu())


WAYS: dict[str, Callable[[Tensor], int]] = {
    "len": lambda inputs: len(inputs),
    "int": lambda inputs: int(inputs.shape[0]),
    "shape": lambda inputs: inputs.shape[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("importance", ["l2", "obs"])
def test_any_batch_size_is_taken(way: str, hard: bool, importance: str) -> None:
    torch.manual_seed(0)
    module, inputs = Sized(WAYS[way], hard).eval(), torch.randn(32, 6)
    shrunk = shrink(module, inputs, {"amount": 0.4, "importance": importance})
    assert isinstance(shrunk.module, Emitted) == (hard and way == "shape")
    assert parameters(shrunk.module) < parameters(module)
    for size in (1, 3, 17, 32):
        assert run(shrunk.module, torch.randn(size, 6)).shape == (size, 3)
    if hard and way != "shape":  # the layer whose width is written out keeps its units, and the line is named
        assert shrunk.module.a.out_features == 32  # type: ignore[union-attr]
        assert "it would take batches of 4 alone, since" in shrunk.warnings[0]
        assert f"{__file__}:" in shrunk.warnings[0]
        assert "makes a constant of the batch size" in shrunk.warnings[0]


def test_a_graph_of_one_batch_size_is_refused() -> None:
    module, inputs = Sized(WAYS["len"], hard=True).eval(), torch.randn(32, 6)
    for pruning in ({"include": ["a"]}, {"structure": {"type": "neurons", "apply": "graph"}}):
        with pytest.raises(UsageError, match=r"batches of 4 alone, since .*`\"len\": lambda inputs: len\(inputs\)"):
            shrink(module, inputs, {"amount": 0.4, "importance": "l2", **pruning})


class Ghost(nn.Module):
    """Batch normalization of chunks of at most 128 samples, and a width that is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(10, 48), nn.BatchNorm1d(48), nn.Linear(24, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        chunks = self.a(inputs).chunk(math.ceil(inputs.shape[0] / 128))
        hidden = torch.cat([self.norm(chunk) for chunk in chunks])
        return self.b(hidden[:, :24] * torch.sigmoid(hidden[:, 24:]))


def test_samples_are_taken_apart_and_joined() -> None:
    torch.manual_seed(0)
    smaller = shrink(Ghost().eval(), torch.randn(32, 10), {"amount": 0.5, "importance": "l2"}).module
    assert parameters(smaller) < parameters(Ghost())
    for size in (1, 3, 17, 200):
        assert run(smaller, torch.randn(size, 10)).shape == (size, 3)


class Keeping(nn.Module):
    """Keeps a tensor that it has computed from a parameter, in evaluation mode; `how` says when it lets go of it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.out = nn.Linear(6, 32), nn.Linear(32, 3)
        self.table, self.how = nn.Parameter(torch.randn(3, 3)), how
        self.kept: Any = {} if how == "container" else None

    def train(self, mode: bool = True) -> Keeping:
        super().train(mode)
        if mode and self.how == "training":
            self.kept = None
        return self

    def bias(self) -> Tensor:
        computed = self.table[2]
        if self.training:
            return computed
        if self.how == "container":
            return self.kept.setdefault("cpu", computed)
        if self.kept is None:
            if self.how == "never" and getattr(self, "called", False):
                raise RuntimeError("it is gone")
            self.kept, self.called = computed, True
        return self.kept

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.a(inputs).relu()) + self.bias()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["training", "container", "attribute"])
@pytest.mark.parametrize("apply", ["auto", "graph"])
@pytest.mark.parametrize("grad", [False, True])
def test_what_was_computed_from_a_parameter_is_no_constant(how: str, apply: str, grad: bool) -> None:
    torch.manual_seed(0)
    module, inputs = Keeping(how).eval(), torch.randn(8, 6)
    with torch.set_grad_enabled(grad):
        module(inputs)
    structure = {"type": "neurons", "apply": apply}
    smaller = shrink(module, inputs, {"amount": 0.5, "importance": "l2", "structure": structure}).module
    assert isinstance(smaller, Emitted) == (apply == "graph")
    smaller.train()(inputs).square().mean().backward()
    assert smaller.table.grad is not None
    before = run(smaller, inputs)
    with torch.no_grad():
        smaller.table.add_(10.0)  # type: ignore[operator]
    if apply == "graph":
        assert torch.allclose(run(smaller, inputs), before + 10.0, atol=1e-4)
    assert torch.equal(run(module, inputs), run(module, inputs))


def test_what_is_kept_for_good_is_refused() -> None:
    module, inputs = Keeping("never").eval(), torch.randn(8, 6)
    run(module, inputs)
    structure = {"type": "neurons", "apply": "graph"}
    with pytest.raises(UsageError, match="table would have no part in it, since the module keeps in kept what"):
        shrink(module, inputs, {"amount": 0.5, "importance": "l2", "structure": structure})
    assert type(shrink(module, inputs, {"amount": 0.5, "importance": "l2"}).module) is Keeping


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.b(self.norm(self.a(inputs)).relu())


def test_units_that_a_norm_holds_are_told_first() -> None:
    inputs = torch.randn(8, 6)
    with pytest.raises(UsageError) as raised:
        shrink(Normed(), inputs, {"amount": 0.5, "importance": "l2"})
    assert str(raised.value).startswith(
        "no units of the model may go: structure: {type: neurons, shift_statistics: true} lets 16 units of 1 groups go"
        ", which would change statistics in norm"
    )
    both = nn.Sequential(Normed(), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(UsageError, match=r"is gone; let 16 more units go by structure: {type: neurons, shift_stat"):
        shrink(both, inputs, {"budget": {"parameters": 20}, "importance": "l2"})
    allowed = {"type": "neurons", "shift_statistics": True}
    shrunk = shrink(Normed(), inputs, {"amount": 0.5, "importance": "l2", "structure": allowed})
    assert shrunk.module.get_parameter("a.weight").shape[0] == 8


class Standardised(nn.Conv2d):
    """Divides by the number of weights of a kernel, of which it takes one to ask."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H - 2, W - 2)."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        scale = torch.rsqrt(torch.clamp(variance * self.weight[0].numel(), min=1e-4))
        return nn.functional.conv2d(images, (self.weight - mean) * scale, self.bias)


@pytest.mark.parametrize("form", ["module", "graph"])
def test_what_is_computed_for_nothing_holds_no_units(form: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Standardised(1, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 36, 3)).eval()
    inputs = torch.randn(16, 1, 8, 8)
    structure = {"type": "neurons", "apply": form}
    smaller = shrink(module, inputs, {"amount": 0.5, "importance": "l2", "structure": structure}).module
    own, left = dict(module.named_parameters()), dict(smaller.named_parameters())
    assert left["0.weight"].shape == (6, 1, 3, 3)
    stays = torch.stack([(own["0.weight"] == each).flatten(1).all(1) for each in left["0.weight"]]).any(0)
    with torch.no_grad():
        silent = module[3](module[2](module[1](module[0](inputs)) * stays.view(1, -1, 1, 1)))
        assert torch.allclose(smaller.eval()(inputs), silent, atol=1e-5)


class GroupedAndAdded(nn.Module):
    """A grouped convolution of which one group alone may be left, so that it is grouped no more."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) -> (B, 3)."""
        maps = torch.relu(self.first(images))
        logits: torch.Tensor = self.head((maps + self.grouped(maps)).mean((2, 3)))
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("compensation", ["none", "bias", "least_squares", "obs"])
def test_a_grouped_convolution_with_one_group_left(compensation: str) -> None:
    module = GroupedAndAdded()
    pruning = {"amount": 0.5, "importance": "l2", "compensation": compensation}
    shrunk = shrink(module, torch.randn(16, 1, 8, 8), pruning)
    assert shrunk.module(torch.randn(3, 1, 8, 8)).shape == (3, 3)
    heads = [part for part in shrunk.module.modules() if isinstance(part, nn.Linear)]
    assert all(head.in_features < 4 for head in heads)
    assert any(row[2] < row[1] for row in shrunk.groups.rows), "units have gone"  # type: ignore[operator]
