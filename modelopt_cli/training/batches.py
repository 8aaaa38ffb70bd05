"""Batches of a split: gathered on the device by index where the data fit, streamed to it where they do not.

Samples are gathered in chunks of many batches, because one large gather costs less than many small ones; a batch is a
view of its chunk. No Python runs per sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.training.inference import as_tensor

if TYPE_CHECKING:
    from modelopt_cli.data.augmentations import Augmentation
    from modelopt_cli.data.part import Part
    from modelopt_cli.training.inference import Array, Transform
    from modelopt_cli.training.settings import TrainingSettings

_CHUNK_NUMBERS = 2**20  # input numbers in a chunk, 4 MiB as float32: about a CPU core's share of cache


class Batch(NamedTuple):
    """B samples on the device."""

    inputs: torch.Tensor  # (B, ...) float32 or int64
    targets: torch.Tensor
    weights: torch.Tensor | None  # (B,)
    indices: torch.Tensor  # (B,) int64, positions in the source, on the CPU


Columns = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Inputs, targets and weights of the same samples."""


class Split:
    """One split as tensors: on the device when `resident`, else in main memory."""

    def __init__(self, part: Part, targets: Array, device: torch.device, resident: bool) -> None:
        where = device if resident else torch.device("cpu")
        self.device, self.resident = device, resident
        self.inputs = as_tensor(part.inputs).to(where)
        self.targets = as_tensor(targets).to(where)
        self.weights = None if part.weights is None else as_tensor(part.weights).to(where)
        self.indices = as_tensor(part.indices)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def positions(self) -> torch.Tensor:
        """Position in the split of each position in the source, on the CPU; -1: not in it."""
        positions = torch.full((int(self.indices.max()) + 1,), -1, dtype=torch.int64)
        positions[self.indices] = torch.arange(len(self))
        return positions

    def batches(self, order: torch.Tensor, sizes: Sequence[int], transform: Transform) -> Iterator[Batch]:
        """Batches of `sizes` samples, taken from `order` (int64 positions in the split) one after another."""
        chunks = _chunks(sizes, max(1, self.inputs[:1].numel()))
        positions = torch.split(order[: sum(sizes)], [sum(chunk) for chunk in chunks])
        for sized, chosen, (inputs, targets, weights) in zip(chunks, positions, self._gathered(positions), strict=True):
            indices = torch.split(self.indices[chosen], sized)
            shares = [None] * len(sized) if weights is None else torch.split(weights, sized)
            split_inputs, split_targets = torch.split(transform(inputs), sized), torch.split(targets, sized)
            yield from map(Batch, split_inputs, split_targets, shares, indices)

    def _gathered(self, positions: Sequence[torch.Tensor]) -> Iterator[Columns]:
        if self.resident:
            return (self.at(chosen.to(self.device)) for chosen in positions)
        loader = DataLoader(
            _Chunks(self, positions),
            batch_size=None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own, so that the model's random numbers do not depend on streaming
        )
        return (_sent(chunk, self.device) for chunk in loader)

    def at(self, positions: torch.Tensor) -> Columns:
        """The samples at `positions` (int64, where the split lies)."""
        weights = None if self.weights is None else self.weights.index_select(0, positions)
        return self.inputs.index_select(0, positions), self.targets.index_select(0, positions), weights


class _Chunks(Dataset[Columns]):
    """Chunk i of a split in main memory."""

    def __init__(self, split: Split, positions: Sequence[torch.Tensor]) -> None:
        self._split, self._positions = split, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, number: int) -> Columns:
        return self._split.at(self._positions[number])


def _sent(columns: Columns, device: torch.device) -> Columns:
    inputs, targets, weights = columns
    sent = None if weights is None else weights.to(device, non_blocking=True)
    return inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True), sent


def _chunks(sizes: Sequence[int], numbers: int) -> list[list[int]]:
    """Batch sizes grouped so that a chunk has about `_CHUNK_NUMBERS` numbers, at least one batch."""
    per = max(1, _CHUNK_NUMBERS // (numbers * max(sizes)))
    return [list(sizes[first : first + per]) for first in range(0, len(sizes), per)]


@dataclass(frozen=True)
class EpochBatches:
    """The train split as the epochs of a training see it: in which order, in steps of which size, how augmented.

    All random numbers derive from `seed`, the epoch and the sample, so that an epoch is the same after a resume.
    """

    split: Split
    transform: Transform  # what inputs on the device still need
    sizes: Sequence[int]  # samples of each step
    seed: int
    shuffle: bool
    augment: tuple[Augmentation, ...]
    outputs: int  # classes, where soft targets must be made of them

    def __post_init__(self) -> None:
        """Raises UsageError for an augmentation that does not go with the inputs."""
        _check_augmentations(self.augment, self.split.inputs)

    @property
    def mixes(self) -> bool:
        """Whether an augmentation mixes samples, so that what a sample becomes depends on its batch."""
        return any(augmentation.needs_soft_targets for augmentation in self.augment)

    def epoch(self, number: int, view: int) -> Iterator[Batch]:
        """The batches of epoch `number`, augmented as the `view` of each sample (both from 1)."""
        count = len(self.split)
        order = torch.arange(count)
        if self.shuffle:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(self.seed, "shuffle", number)))
        batches = self.split.batches(order, self.sizes, self.transform)
        return (self.augmented(batch, view) for batch in batches) if self.augment else batches

    def augmented(self, batch: Batch, view: int) -> Batch:
        """Random numbers depend on (seed, view, sample, which augmentation) alone, not on the batch."""
        from modelopt_cli.data.augmentations._random import uniform

        inputs, targets = batch.inputs, batch.targets
        indices = batch.indices.to(inputs.device, non_blocking=True)
        if targets.ndim == 1 and self.mixes:
            targets = torch.nn.functional.one_hot(targets, self.outputs).to(inputs.dtype)
        for stream, augmentation in enumerate(self.augment):
            inputs, targets = augmentation.apply(inputs, targets, uniform(self.seed, view, indices, stream))
        return batch._replace(inputs=inputs, targets=targets)


def _check_augmentations(augment: Sequence[Augmentation], inputs: torch.Tensor) -> None:
    """Raise UsageError for an augmentation of images where `inputs` (N, ...) are none, or of tokens."""
    for augmentation in augment:
        if (augmentation.needs_images and inputs.ndim != 4) or inputs.dtype == torch.int64:
            needs = "images (N, C, H, W)" if augmentation.needs_images else "numbers"
            kind = str(inputs.dtype).removeprefix("torch.")
            raise UsageError(
                f"data.augment has '{augmentation.name()}', which needs {needs}, but the inputs are {kind} of shape "
                f"{tuple(inputs.shape)}; leave it out"
            )


def batch_sizes(samples: int, settings: TrainingSettings, *, single_allowed: bool) -> list[int]:
    """How many samples each step of an epoch takes. A last batch of one joins the one before where not allowed.

    Raises UsageError when batch_size is above the number of samples.
    """
    size = settings.batch_size
    if size > samples:
        raise UsageError(
            f"training.batch_size is {size}, but the train split has {samples} samples; set it to {samples} or less"
        )
    rest = samples % size
    sizes = [size] * (samples // size)
    if rest == 1 and not single_allowed and not settings.drop_last:
        sizes[-1] += 1
    elif rest and not settings.drop_last:
        sizes.append(rest)
    return sizes


def fits_on_device(parts: Sequence[Part], settings: TrainingSettings, device: torch.device) -> bool:
    """Whether the data stay on the device: as the settings say, else when their share of its free memory is small."""
    if settings.data_on_device != "auto":
        return settings.data_on_device
    if device.type != "cuda":
        return True
    wanted = sum(part.inputs.nbytes + part.targets.nbytes for part in parts)
    free, _ = torch.cuda.mem_get_info(device)
    return wanted <= settings.device_memory_share * free
