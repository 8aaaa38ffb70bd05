"""Inputs on their way into a module: normalisation, batching, augmentation; and the choice of a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelopt_cli.core.device import check_device, choose
from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.prepared import Prepared
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import RawData
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.training import batches, inference
from modelopt_cli.training.trainer import Trainer
from tests.support.training_fakes import held, mlp, part, prepared, settings


def images(count: int = 48, dtype: Any = np.uint8) -> Prepared:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    targets = (pixels[:, 0].mean((1, 2)) > 127).astype(np.int64)
    raw = RawData(pixels, targets, "classification", ("dark", "bright"))
    preprocessing = Preprocessing.fit(raw, np.arange(32), standardize=True)
    whole = part(pixels if dtype == np.uint8 else preprocessing.normalize(pixels), targets)
    cut = [part(whole.inputs[a:b], targets[a:b], start=a) for a, b in ((0, 32), (32, count))]
    shapes = Shapes((3, 8, 8), 2, "classification")
    return Prepared(cut[0], cut[1], None, shapes, "classification", ("dark", "bright"), preprocessing, "")


def augmentation(name: str) -> Augmentation:
    chosen = FAMILIES["augmentations"].get(name)()
    assert isinstance(chosen, Augmentation)
    return chosen


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def test_images_are_normalised_on_the_device_as_preprocessing_does_it() -> None:
    data = images()
    transform = inference.input_transform(data.preprocessing, torch.device("cpu"))
    expected = data.preprocessing.normalize(data.train.inputs)
    assert np.allclose(transform(torch.from_numpy(data.train.inputs)).numpy(), expected, atol=2e-6)
    plain = inference.input_transform(data.preprocessing.to_plain(), torch.device("cpu"))
    assert torch.equal(plain(torch.from_numpy(expected)), torch.from_numpy(expected))


def test_bytes_and_floats_train_alike_and_predict_needs_the_plain_form_only() -> None:
    trained = []
    for dtype in (np.uint8, np.float32):
        data = images(dtype=dtype)
        trainer = Trainer(cnn(), settings(batch_size=8), data, seed=0, device="cpu")
        trained.append(trainer.advance(3)[-1][1])
        outputs = inference.predict(trainer.module, held(data.validation).inputs, data.preprocessing.to_plain())
        assert np.array_equal(
            outputs, inference.predict(trainer.module, held(data.validation).inputs, data.preprocessing)
        )
    assert trained[0] == pytest.approx(trained[1], rel=1e-3)


def test_predict_is_the_same_in_any_batch_and_leaves_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = mlp(dropout=0.5).train(), np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    whole = inference.predict(module, inputs)
    monkeypatch.setattr(inference, "_NUMBERS", 320)
    assert np.allclose(inference.predict(module, inputs), whole, atol=1e-6)
    assert module.training


def test_targets_are_scaled_and_restored() -> None:
    data = prepared("regression", outputs=2)
    scaled = inference.scale_targets(data.train.targets, data.preprocessing)
    assert np.allclose(scaled.mean(0), 0, atol=1e-5)
    assert np.allclose(scaled.std(0), 1, atol=1e-5)
    assert np.allclose(inference.restore_targets(scaled, data.preprocessing), data.train.targets, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES["augmentations"].names())
def test_augmented_training_resumes_exactly(name: str) -> None:
    augment = (augmentation(name),)

    def fresh() -> Trainer:
        return Trainer(cnn(), settings(batch_size=8), images(), seed=5, device="cpu", augment=augment)

    whole, first, second = fresh(), fresh(), fresh()
    reports = whole.advance(4)
    first.advance(2)
    second.load_state(first.state())
    assert second.advance(4) == reports[2:]
    plain = Trainer(cnn(), settings(batch_size=8), images(), seed=5, device="cpu")
    assert plain.advance(4) != reports


def test_what_an_image_becomes_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = (augmentation("crop"), augmentation("flip"))
    seen = []
    for size in (8, 16):
        trainer = Trainer(cnn(), settings(batch_size=size), images(), seed=5, device="cpu", augment=augment)
        drawn = list(trainer.batches.epoch(3, view=3))
        order = torch.cat([batch.indices for batch in drawn]).argsort()
        seen.append(torch.cat([batch.inputs for batch in drawn])[order])
    assert torch.equal(seen[0], seen[1])


def test_image_augmentation_of_a_table_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'flip', which needs images"):
        Trainer(mlp(), settings(), prepared(), seed=0, device="cpu", augment=(augmentation("flip"),))


def test_data_stay_on_the_device_when_their_share_of_it_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, device = [prepared().train], torch.device("cuda")
    size = parts[0].inputs.nbytes + parts[0].targets.nbytes
    for free, share, fits in ((2 * size, 0.5, True), (2 * size - 2, 0.5, False), (2 * size - 2, 0.9, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**12))
        assert batches.fits_on_device(parts, settings(device_memory_share=share), device) is fits
    assert batches.fits_on_device(parts, settings(), torch.device("cpu"))
    assert not batches.fits_on_device(parts, settings(data_on_device=False), torch.device("cpu"))


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_names_of_devices(name: str) -> None:
    with pytest.raises(UsageError, match="is no device; write auto, cpu, cuda or cuda:N"):
        choose(name)
    assert check_device("cuda:1") == "cuda:1"


def test_the_choice_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose("auto") == "cpu"
    with pytest.raises(UsageError, match=r"device is 'cuda:1', but .*; set device: auto or device: cpu"):
        choose("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [choose(name) for name in ("auto", "cuda", "cuda:0")] == ["cuda", "cuda", "cuda:0"]
    with pytest.raises(UsageError, match="this machine has cuda:0 only"):
        choose("cuda:1")
