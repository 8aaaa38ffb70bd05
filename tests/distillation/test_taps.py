"""Taps: paths and globs, what is no feature, hooks that go; projectors that stay behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.taps import Taps, resolve
from tests.support.teaching_fakes import criterion, student, teacher, trainer


class Block(nn.Module):
    """Gives a tuple; has a part that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Any:
        return self.first(inputs), "more"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4))
        self.block, self.head = Block(), nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block(self.layers(inputs))[0])
        return logits


def test_paths_globs_and_their_order() -> None:
    net = Net()
    assert resolve(net, ["head", "layers.0"], "student") == ["head", "layers.0"], "as they were named"
    assert resolve(net, ["layers.*"], "student") == ["layers.0", "layers.1", "layers.2"], "as they were defined"
    assert resolve(net, ["layers.2", "layers.*"], "student") == ["layers.2", "layers.0", "layers.1"], "each once"
    assert resolve(net, ["*.first", "h*"], "student") == ["block.first", "head"]
    assert resolve(net, ["layers"], "student") == ["layers"]


@pytest.mark.parametrize(
    ("pattern", "near"), [("layer.2", "layers.2"), ("blok.first", "block.first"), ("heads", "head"), ("zzz", "layers")]
)
def test_an_unknown_path_lists_the_nearest(pattern: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"the teacher has no module '{pattern}'; the nearest are: .*{near}"):
        resolve(Net(), ["head", pattern], "teacher")


def test_a_module_without_parts_has_no_taps() -> None:
    with pytest.raises(UsageError, match="it has no modules inside"):
        resolve(nn.Linear(2, 2), ["layer"], "student")


def test_features_are_those_of_the_last_forward_pass() -> None:
    net, inputs = Net(), torch.randn(6, 5)
    taps = Taps(net, ["block", "layers.1", "layers.1"], "student")
    taps.open()
    net(torch.randn(2, 5))
    outputs = net(inputs)
    caught = taps.take()
    assert set(caught) == {"block", "layers.1"}
    assert torch.equal(caught["layers.1"], net.layers[1](net.layers[0](inputs)))
    assert torch.equal(net.head(caught["block"]), outputs), "of a tuple, the first"
    assert caught["block"].grad_fn is not None


def test_hooks_are_gone_after_close_and_not_doubled_by_opening_twice() -> None:
    net = Net()
    taps = Taps(net, ["head", "block.first"], "student")
    taps.open()
    taps.open()
    assert [len(module._forward_hooks) for module in (net.head, net.block.first)] == [1, 1]
    net(torch.randn(2, 5))
    taps.close()
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(UsageError):
        taps.take()


def test_a_module_that_is_not_called_is_told() -> None:
    net = Net()
    taps = Taps(net, ["head", "block.idle"], "student")
    taps.open()
    net(torch.randn(2, 5))
    with pytest.raises(UsageError, match=r"the student's module 'block\.idle' is not called in a forward pass"):
        taps.take()


def test_features_are_taken_once() -> None:
    net = Net()
    taps = Taps(net, ["head"], "student")
    taps.open()
    net(torch.randn(2, 5))
    taps.take()
    with pytest.raises(UsageError, match="is not called"):
        taps.take()


class Odd(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (torch.zeros(3), r"\(3,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), r"\(3, 2\)"),
        ({"a": 1}, "dict"),
        ((), "tuple"),
        ((None, 1), "NoneType"),
    ],
)
def test_what_is_no_feature_is_told(output: Any, shown: str) -> None:
    net = nn.Sequential(Odd(output))
    taps = Taps(net, ["0"], "teacher")
    taps.open()
    with pytest.raises(UsageError, match=f"the teacher's module '0' gives {shown}, which are no features"):
        net(torch.zeros(3, 2))


@pytest.mark.parametrize("name", ["fitnets", "crd", "vid", "review_kd"])
def test_projectors_are_trained_and_stay_behind(name: str) -> None:
    taps: dict[str, Any] = {"taps": ["0", "2"]} if name != "crd" else {"taps": ["0"], "negatives": 8}
    losses = [{"type": "labels"}, {"type": "soft_targets", "weight": 0}, {"type": name, **taps, "weight": 0.5}]
    module, taught = student(), teacher()
    chosen = criterion(taught, losses=losses)
    run = trainer(chosen, module)
    before = [parameter.detach().clone() for parameter in chosen.parameters()]
    assert before, "there is something to train"
    run.advance(2)
    assert all(not torch.equal(old, new) for old, new in zip(before, chosen.parameters(), strict=True))
    assert list(module.state_dict()) == list(student().state_dict())
    assert module[0]._forward_hooks
    chosen.close()
    assert not any(one._forward_hooks for one in module.modules())


def test_as_many_taps_of_the_teacher_as_of_the_student() -> None:
    losses = [{"type": "fitnets", "taps": ["0", "2"], "teacher_taps": ["0"]}]
    with pytest.raises(UsageError, match=r"taps 2 modules of the student \(0, 2\), but 1 of the teacher \(0\)"):
        trainer(criterion(losses=losses))


def test_a_teacher_that_was_used_once_more_has_the_taps_of_the_second_time() -> None:
    taught = teacher()
    for tap in ("0", "2", "0"):
        chosen = criterion(taught, losses=[{"type": "fitnets", "taps": [tap]}], cache={"where": "none"})
        trainer(chosen).advance(1)
        chosen.close()
    assert not any(one._forward_hooks for one in taught.modules()), "nothing stays on the teacher"
