"""What is read from a file to rebuild a pruned module: refused where it does not fit, with nothing changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.capture import capture
from modelopt_cli.models.graph.edits import Edit, apply_edits, load_shapes, merged
from modelopt_cli.models.graph.groups import grouping
from modelopt_cli.models.graph.surgery import operate
from modelopt_cli.models.graph.ties import losing
from tests.support.in_place_cases import pruned_state


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def shrunk() -> tuple[dict[str, Tensor], list[Edit]]:
    module = small()
    graph = capture(module, torch.ones(3, 4)).graph
    analysis = Analysis(graph)
    edits = operate(module, graph, analysis, losing(grouping(graph, analysis).groups, 0.5))
    return pruned_state(module), edits


def test_a_fresh_module_takes_the_pruned_weights() -> None:
    state, edits = shrunk()
    module: Any = small()
    weight = module[0].weight
    load_shapes(module, state, edits)
    assert module[0].weight is weight
    assert weight.shape == (3, 4)
    assert (module[0].out_features, module[2].in_features) == (3, 3)
    assert torch.equal(weight, state["0.weight"])
    assert sorted(edits) == [("0", "out_features", 3), ("2", "in_features", 3)]


def test_the_last_value_of_an_attribute_counts() -> None:
    assert merged([("0", "heads", 4), ("1", "heads", 4)], [("0", "heads", 2)]) == [("0", "heads", 2), ("1", "heads", 4)]


def test_edits_keep_the_kind_of_what_they_change() -> None:
    module: Any = nn.Module()
    module.pair, module.listed, module.size = (4, 6), [4, 6], torch.Size([4, 6])
    module.scale = 0.5
    apply_edits(module, [("", "pair", [2, 6]), ("", "listed", [2, 6]), ("", "size", [2, 6]), ("", "scale", 0.25)])
    assert (module.pair, module.listed, module.scale) == ((2, 6), [2, 6], 0.25)
    assert type(module.size) is torch.Size


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
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    state = pruned_state(module)
    state["1.weight"] = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight are one tensor"):
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
