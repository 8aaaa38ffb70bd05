"""Batches of a split: gathered on the device by index where the data fit, streamed to it where they do not.

Samples are gathered in chunks of many batches, because one large gather costs less than many small ones; a batch is a
view of its chunk. No Python runs per sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from modelopt_cli.core.errors import UsageError
from modelopt_cli.training.inference import as_tensor

if TYPE_CHECKING:
    from modelopt_cli.data.part import Part
    from modelopt_cli.training.inference import Transform
    from modelopt_cli.training.settings import TrainingSettings

_CHUNK_NUMBERS = 2**20  # input numbers in a chunk, 4 MiB as float32: about a CPU core's share of cache


class Batch(NamedTuple):
    """B samples on the device."""

    inputs: torch.Tensor  # (B, ...) float32 or int64
    targets: torch.Tensor
    weights: torch.Tensor | None  # (B,)
    indices: torch.Tensor  # (B,) int64, positions in the source, on the CPU


class Split:
    """One split as tensors: on the device when `resident`, else in main memory."""

    def __init__(self, part: Part, targets: Any, device: torch.device, resident: bool) -> None:
        where = device if resident else torch.device("cpu")
        self.device, self.resident = device, resident
        self.inputs = as_tensor(part.inputs).to(where)
        self.targets = as_tensor(targets).to(where)
        self.weights = None if part.weights is None else as_tensor(part.weights).to(where)
        self.indices = as_tensor(part.indices)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def places(self) -> torch.Tensor:
        """Position in the split of each position in the source, on the CPU; -1: not in it."""
        found = torch.full((int(self.indices.max()) + 1,), -1, dtype=torch.int64)
        found[self.indices] = torch.arange(len(self))
        return found

    def batches(self, order: torch.Tensor, sizes: Sequence[int], transform: Transform) -> Iterator[Batch]:
        """Batches of `sizes` samples, taken from `order` (int64 positions in the split) one after another."""
        chunks = _chunks(sizes, max(1, self.inputs[:1].numel()))
        places = torch.split(order[: sum(sizes)], [sum(chunk) for chunk in chunks])
        for sized, place, (inputs, targets, weights) in zip(chunks, places, self._gathered(places), strict=True):
            indices = torch.split(self.indices[place], sized)
            shares = [None] * len(sized) if weights is None else torch.split(weights, sized)
            split_inputs, split_targets = torch.split(transform(inputs), sized), torch.split(targets, sized)
            yield from map(Batch, split_inputs, split_targets, shares, indices)

    def _gathered(self, places: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, ...]]:
        if self.resident:
            return (self._take(place.to(self.device)) for place in places)
        loader = DataLoader(
            _Chunks(self, places),
            batch_size=None,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # its own, so that the model's random numbers do not depend on streaming
        )
        return (tuple(_sent(tensor, self.device) for tensor in chunk) for chunk in loader)

    def _take(self, place: torch.Tensor) -> tuple[Any, ...]:
        weights = None if self.weights is None else self.weights.index_select(0, place)
        return self.inputs.index_select(0, place), self.targets.index_select(0, place), weights


class _Chunks(Dataset[tuple[Any, ...]]):
    """Chunk i of a split in main memory."""

    def __init__(self, split: Split, places: Sequence[torch.Tensor]) -> None:
        self._split, self._places = split, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        return self._split._take(self._places[number])


def _sent(tensor: Any, device: torch.device) -> Any:
    return None if tensor is None else tensor.to(device, non_blocking=True)


def _chunks(sizes: Sequence[int], numbers: int) -> list[list[int]]:
    """Batch sizes grouped so that a chunk has about `_CHUNK_NUMBERS` numbers, at least one batch."""
    per = max(1, _CHUNK_NUMBERS // (numbers * max(sizes)))
    return [list(sizes[first : first + per]) for first in range(0, len(sizes), per)]


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
