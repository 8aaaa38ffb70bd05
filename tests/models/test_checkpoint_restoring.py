"""Models from files: nothing is allocated for what a file only claims, and what it holds comes back as it was."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import Named
from modelopt_cli.models.architectures import Architecture, Shapes
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.unit_selection import UnitSelection
from modelopt_cli.models.measure import example

TABLE = Shapes((4,), 3, "classification")
IMAGES = Shapes((3, 8, 8), 3, "classification")
OWN: dict[str, tuple[dict[str, Any], Shapes]] = {
    "mlp": ({"type": "mlp", "hidden": [8, 9], "batch_norm": True, "initialization": "xavier_uniform"}, TABLE),
    "cnn": ({"type": "cnn", "channels": [4, 8], "hidden": [7], "convolutions": 2}, IMAGES),
    "cnn strides": (
        {"type": "cnn", "channels": [4], "pool": "stride", "head": "flatten"},
        Shapes((3, 9, 9), 2, "regression"),
    ),
    "resnet": ({"type": "cifar_resnet", "depth": 8, "width": 4}, IMAGES),
    "resnet B": ({"type": "cifar_resnet", "depth": 8, "width": 4, "shortcut": "B"}, IMAGES),
    "tokens": (
        {"type": "transformer", "width": 16, "heads": 4, "depth": 1, "pooling": "cls"},
        Shapes((12,), 3, "classification", tokens=50),
    ),
    "patches": ({"type": "transformer", "width": 16, "heads": 4, "depth": 1}, IMAGES),
}


def saved(path: Path, section: dict[str, Any], shapes: Shapes, model: Any = None, **extra: Any) -> Any:
    """A model.pt of such a model, which is given back."""
    architecture: Any = Named("models").parse(section)
    module = architecture.build(shapes, 0).eval() if model is None else model
    names = tuple("abc"[: shapes.outputs])
    checkpoints.save(path, checkpoints.Checkpoint(module, architecture, shapes, {}, names, shapes.task, extra=extra))
    return module


@pytest.mark.parametrize(("section", "shapes"), OWN.values(), ids=OWN.keys())
def test_every_model_comes_back(tmp_path: Path, section: dict[str, Any], shapes: Shapes) -> None:
    module = saved(tmp_path / "m.pt", section, shapes)
    before = torch.random.get_rng_state()
    checkpoint = checkpoints.load(tmp_path / "m.pt")
    assert torch.equal(torch.random.get_rng_state(), before)
    samples = example(shapes, 5)
    assert torch.equal(checkpoint.model(samples), module(samples))
    assert not any(tensor.is_meta for tensor in checkpoint.model.state_dict().values())
    assert checkpoint.architecture.builds_on_meta
    checkpoint.model.train()(samples).sum().backward()
    assert all(parameter.grad is not None for parameter in checkpoint.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "resnet", "tokens"])
def test_what_lost_units_comes_back(tmp_path: Path, name: str) -> None:
    section, shapes = OWN[name]
    architecture: Any = Named("models").parse(section)
    dense, samples = architecture.build(shapes, 0).eval(), example(shapes, 4)
    network = Network(dense, samples)
    network.held = {group.prime: np.arange(group.size) > 0 for group in network.groups}
    module = Emitted(network.without(network.held, fresh=True)).eval()
    saved(tmp_path / "m.pt", section, shapes, module, slimming=UnitSelection(network.kept(), (), "graph").to_plain())
    again = checkpoints.load(tmp_path / "m.pt").model
    more = example(shapes, 7)
    assert torch.allclose(again(more), module(more), atol=1e-6)
    assert not any(tensor.is_meta for tensor in again.state_dict().values())
    again.train()(samples).sum().backward()


def test_a_file_of_another_dtype_is_read_in_the_models_own(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    saved(path, *OWN["mlp"])
    content = torch.load(path, weights_only=True)
    halved = {key: value.half() if value.is_floating_point() else value for key, value in content["state"].items()}
    torch.save({**content, "state": halved}, path)
    assert checkpoints.load(path).model.layers[0].weight.dtype == torch.float32


SLIM = {"kept": {"layers.0.weight": {0: torch.arange(4)}}, "edits": [], "form": "graph", "unsaved": {}}
IN_IMAGES, IN_SEQUENCES = {"inputs": [3, 8, 8]}, {"inputs": [3, 8]}
COMPLEX = {
    "layers.0.weight": torch.ones(4, 4, dtype=torch.complex64),
    "layers.0.bias": torch.ones(4),
    "layers.2.weight": torch.ones(3, 4),
    "layers.2.bias": torch.ones(3),
}
CLAIMS: dict[str, dict[str, Any]] = {
    "two wide layers": {"architecture": {"type": "mlp", "hidden": [30_000, 30_000]}},
    "many layers": {"architecture": {"type": "mlp", "hidden": [4] * 20_000}},
    "past an integer": {"architecture": {"type": "mlp", "hidden": [2**63]}},
    "many convolutions": {"architecture": {"type": "cnn", "convolutions": 10**7}, "shapes": IN_IMAGES},
    "a large kernel": {"architecture": {"type": "cnn", "kernel": 10**9 + 1}, "shapes": IN_IMAGES},
    "halved to nothing": {"architecture": {"type": "cnn", "channels": [1] * 20}, "shapes": IN_IMAGES},
    "a deep transformer": {"architecture": {"type": "transformer", "depth": 10**7}, "shapes": IN_SEQUENCES},
    "a wide transformer": {"architecture": {"type": "transformer", "width": 2**20, "heads": 2}, "shapes": IN_SEQUENCES},
    "many positions": {
        "architecture": {"type": "transformer", "width": 4096, "heads": 2},
        "shapes": {"inputs": [2**24, 1]},
    },
    "many tokens": {
        "architecture": {"type": "transformer", "width": 4096, "heads": 2},
        "shapes": {"inputs": [8], "tokens": 2**31 - 1},
    },
    "a deep resnet": {"architecture": {"type": "cifar_resnet", "depth": 6 * 10**7 + 2}, "shapes": IN_IMAGES},
    "many outputs": {"shapes": {"outputs": 10**9}},
    "outputs past an integer": {"shapes": {"outputs": 2**70}},
    "negative outputs": {"shapes": {"outputs": -1}},
    "a fraction": {"shapes": {"outputs": 1.5}},
    "a truth value": {"shapes": {"outputs": True}},
    "a text": {"shapes": {"inputs": "abcd"}},
    "nothing": {"shapes": {"inputs": None}},
    "no input": {"shapes": {"inputs": [0]}},
    "many inputs": {"shapes": {"inputs": [2**40]}},
    "another task": {"shapes": {"task": "any"}},
    "another key": {"shapes": {"more": 1}},
    "labels of more outputs": {"label_names": ["a", "b", "c", "d", "e"]},
    "labels of fewer outputs": {"label_names": ["a"]},
    "labels that are no texts": {"label_names": [1, 2, 3]},
    "two tasks": {"task": "regression"},
    "complex weights": {"state": COMPLEX},
    "no tensors": {"state": {"layers.0.weight": "w"}},
    "a tensor": {"state": torch.ones(3)},
    "another framework": {"framework": "sklearn"},
    "no extra": {"extra": None},
    "lost units": {"architecture": {"type": "mlp", "hidden": [30_000, 30_000]}, "extra": {"slimming": SLIM}},
    "lost units in place": {
        "architecture": {"type": "mlp", "hidden": [30_000, 30_000]},
        "extra": {"slimming": {**SLIM, "form": "module"}},
    },
    "lost layers": {"architecture": {"type": "mlp", "hidden": [4] * 20_000}, "extra": {"slimming": SLIM}},
    "lost most of an axis": {"architecture": {"type": "mlp", "hidden": [2**40]}, "extra": {"slimming": SLIM}},
    "tensors twice": {
        "extra": {"slimming": {**SLIM, "form": "module", "unsaved": {"layers.0.weight": torch.ones(3, 2)}}}
    },
}


@pytest.mark.parametrize("changes", CLAIMS.values(), ids=CLAIMS.keys())
def test_claims_are_held_against_what_is_there(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "m.pt"
    saved(path, {"type": "mlp", "hidden": [4]}, TABLE)
    content = torch.load(path, weights_only=True)
    if isinstance(changes.get("shapes"), dict):
        changes = {**changes, "shapes": {**content["shapes"], **changes["shapes"]}}
    torch.save({**content, **changes}, path)
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=str(path)):
        checkpoints.load(path)
    assert time.process_time() - start < 2.0 + 4.0 * ("slimming" in str(changes))  # which may import torch.export first
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_models_of_the_users_own_code_are_built_as_they_are() -> None:
    assert not Architecture.builds_on_meta
    model: Any = Named("models").parse({"type": "python", "target": "a:b"})
    assert not model.builds_on_meta
