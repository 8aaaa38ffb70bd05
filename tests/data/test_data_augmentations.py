"""Augmentations: random numbers by counter, and each one against a plain loop over the samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.augment import augment
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.augmentations._beta import beta_quantile

# Private: the generator is compared with its definition, step by step.
from modelopt_cli.data.augmentations._random import _GOLDEN, _mix, _mix_tensor, _signed, start, uniform

NAMES = FAMILIES["augmentations"].names()


def make(name: str, **options: object) -> Augmentation:
    augmentation = FAMILIES["augmentations"].get(name).model_validate(options)
    assert isinstance(augmentation, Augmentation)
    return augmentation


def batch(samples: int = 12, size: tuple[int, int] = (7, 9)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(samples, 3, *size, generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(samples) % 4, 4).float()
    return images, targets, uniform(3, 2, torch.arange(samples), 0)


class TestUniform:
    def test_the_generator_is_splitmix64(self) -> None:
        # The first numbers from seed 0 of the authors' reference implementation.
        expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
        assert [_mix(_GOLDEN * count) for count in (1, 2, 3)] == expected
        counted = torch.arange(1, 4) * _signed(_GOLDEN)
        assert [int(value) & (2**64 - 1) for value in _mix_tensor(counted)] == expected

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 9))
    def test_agrees_with_python_integers(self, seed: int, epoch: int, index: int, stream: int, width: int) -> None:
        drawn = uniform(seed, epoch, torch.tensor([index]), stream, width)[0]
        for lane in range(width):
            bits = _mix(start(seed, epoch, stream) + _GOLDEN * (index * width + lane + 1))
            assert float(drawn[lane]) == (bits >> 40) / 2**24

    def test_is_uniform(self) -> None:
        numbers = uniform(0, 0, torch.arange(50_000), 0).numpy().astype(np.float64)
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert abs(numbers.mean() - 0.5) < 4 * math.sqrt(1 / 12 / numbers.size)
        assert abs(numbers.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / numbers.size)
        for lane in range(8):
            assert stats.kstest(numbers[:, lane], "uniform").pvalue > 1e-4

    def test_has_no_correlation_between_lanes_samples_epochs_seeds_and_streams(self) -> None:
        indices = torch.arange(20_000)
        base = uniform(5, 7, indices, 1)
        others = [uniform(5, 8, indices, 1), uniform(6, 7, indices, 1), uniform(5, 7, indices, 2), base.roll(1, 0)]
        others += [uniform(7, 5, indices, 1), base.roll(1, 1)]
        for other in others:
            correlation = np.corrcoef(base.numpy().ravel(), other.numpy().ravel())[0, 1]
            assert abs(correlation) < 4 / math.sqrt(base.numel())

    def test_does_not_depend_on_the_batch(self) -> None:
        whole = uniform(1, 2, torch.arange(100), 3)
        order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
        assert torch.equal(uniform(1, 2, order, 3), whole[order])
        assert torch.equal(uniform(1, 2, order[:1], 3)[0], whole[order[0]])

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_is_the_same_on_the_gpu(self) -> None:
        indices = torch.arange(100_000) * 7919
        assert torch.equal(uniform(9, 4, indices.cuda(), 2).cpu(), uniform(9, 4, indices, 2))


class TestContract:
    @pytest.mark.parametrize("name", NAMES)
    def test_shape_dtype_and_finiteness(self, name: str) -> None:
        images, targets, random = batch()
        changed, shares = make(name).apply(images, targets, random)
        assert changed.shape == images.shape
        assert changed.dtype == images.dtype
        assert torch.isfinite(changed).all()
        assert torch.allclose(shares.sum(1), torch.ones(len(images)))

    @pytest.mark.parametrize("name", NAMES)
    def test_is_pure(self, name: str) -> None:
        images, targets, random = batch()
        kept = images.clone(), targets.clone(), random.clone()
        first, second = make(name).apply(images, targets, random), make(name).apply(images, targets, random)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(kept, (images, targets, random), strict=True))

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "mixup"])
    def test_a_sample_does_not_depend_on_its_batch(self, name: str) -> None:
        images, targets, random = batch()
        whole, _ = make(name).apply(images, targets, random)
        for i in range(len(images)):
            alone, _ = make(name).apply(images[i : i + 1], targets[i : i + 1], random[i : i + 1])
            assert torch.equal(alone[0], whole[i])

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_is_the_same_on_the_gpu(self, name: str) -> None:
        parts = batch(64, (16, 16))
        there = make(name).apply(*(part.cuda() for part in parts))
        for here, changed in zip(make(name).apply(*parts), there, strict=True):
            torch.testing.assert_close(changed.cpu(), here, rtol=1e-6, atol=1e-6)


class TestAgainstLoops:
    def test_flip(self) -> None:
        images, targets, random = batch(40)
        changed, _ = make("flip", probability=0.3).apply(images, targets, random)
        flipped = 0
        for i in range(40):
            expected = images[i, :, :, torch.arange(8, -1, -1)] if random[i, 0] < 0.3 else images[i]
            flipped += int(random[i, 0] < 0.3)
            assert torch.equal(changed[i], expected)
        assert 0 < flipped < 40

    @pytest.mark.parametrize("fill", ["zero", "reflect"])
    def test_crop(self, fill: str) -> None:
        images, targets, random = batch(40)
        changed, _ = make("crop", padding=3, fill=fill).apply(images, targets, random)
        mode = "constant" if fill == "zero" else "reflect"
        padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode=mode)
        for i in range(40):
            y, x = (6 - math.floor(float(random[i, axis]) * 7) for axis in (0, 1))
            assert torch.equal(changed[i], padded[i, :, y : y + 7, x : x + 9])

    @pytest.mark.parametrize("fill", ["zero", "edge"])
    def test_jitter(self, fill: str) -> None:
        images, targets, random = batch(20)
        changed, _ = make("jitter", pixels=2, fill=fill).apply(images, targets, random)
        for i in range(20):
            down, right = (math.floor(float(random[i, axis]) * 5) - 2 for axis in (0, 1))
            for y in range(7):
                for x in range(9):
                    inside = 0 <= y - down < 7 and 0 <= x - right < 9
                    from_y, from_x = min(max(y - down, 0), 6), min(max(x - right, 0), 8)
                    expected = images[i, :, from_y, from_x] if inside or fill == "edge" else torch.zeros(3)
                    assert torch.equal(changed[i, :, y, x], expected)

    def test_moves_are_equally_likely(self) -> None:
        from modelopt_cli.data.augmentations._shift import offsets

        counts = torch.bincount(offsets(uniform(0, 0, torch.arange(10_000), 0)[:, 0], 2) + 2, minlength=5)
        assert len(counts) == 5
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4
        nearly_one = torch.full((50,), 1 - 2**-24)
        assert all(int(offsets(nearly_one, most)[0]) == most for most in range(1, 40))

    @pytest.mark.parametrize("size", [1, 4, 5, 20])
    def test_cutout(self, size: int) -> None:
        images, targets, random = batch(30)
        changed, _ = make("cutout", size=size, probability=0.7).apply(images, targets, random)
        for i in range(30):
            y, x = math.floor(float(random[i, 0]) * 7) - size // 2, math.floor(float(random[i, 1]) * 9) - size // 2
            expected = images[i].clone()
            if random[i, 2] < 0.7:
                expected[:, max(y, 0) : max(y + size, 0), max(x, 0) : max(x + size, 0)] = 0
            assert torch.equal(changed[i], expected)

    @pytest.mark.parametrize("samples", [1, 6, 7])
    def test_mixup(self, samples: int) -> None:
        images, targets, random = batch(samples)
        changed, shares = make("mixup", alpha=0.4).apply(images, targets, random)
        for i in range(samples):
            share, partner = float(stats.beta(0.4, 0.4).ppf(random[i, 0])), samples - 1 - i
            torch.testing.assert_close(changed[i], share * images[i] + (1 - share) * images[partner], atol=1e-3, rtol=0)
            torch.testing.assert_close(
                shares[i], share * targets[i] + (1 - share) * targets[partner], atol=1e-3, rtol=0
            )

    @pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 3.0, 10.0])
    def test_the_share_is_beta_distributed(self, alpha: float) -> None:
        levels = torch.cat(
            [torch.linspace(0, 1, 5001)[:-1], 2.0 ** -torch.arange(2, 24), 1 - 2.0 ** -torch.arange(2, 24)]
        )
        expected = stats.beta(alpha, alpha).ppf(levels.double().numpy())
        assert np.abs(beta_quantile(levels, alpha).numpy() - expected).max() < 1e-3


class TestAugment:
    def test_each_augmentation_has_numbers_of_its_own(self) -> None:
        images, targets = torch.randn(50, 1, 6, 6), torch.arange(50) % 3
        flips = [make("flip"), make("flip")]
        changed, same = augment(flips, images, targets, seed=1, epoch=1, indices=torch.arange(50), classes=3)
        numbers = [uniform(1, 1, torch.arange(50), stream)[:, 0] < 0.5 for stream in (0, 1)]
        twice = (numbers[0] ^ numbers[1])[:, None, None, None]
        assert torch.equal(changed, images.flip(-1).where(twice, images))
        assert torch.equal(same, targets)

    def test_classes_become_shares_where_they_are_mixed(self) -> None:
        images, targets = torch.randn(6, 5), torch.arange(6)
        _, shares = augment([make("mixup")], images, targets, seed=1, epoch=1, indices=torch.arange(6), classes=8)
        assert shares.shape == (6, 8)
        assert torch.allclose(shares.sum(1), torch.ones(6))
        with pytest.raises(UsageError, match="soft targets"):
            make("mixup").apply(images, targets, torch.rand(6, 8))

    def test_needs_images(self) -> None:
        with pytest.raises(UsageError, match=r"'crop' needs images .* shape \(5,\)"):
            augment(
                [make("crop")], torch.randn(6, 5), torch.arange(6), seed=1, epoch=1, indices=torch.arange(6), classes=6
            )
