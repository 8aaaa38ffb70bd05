"""One training in several processes (ranks): what each of them computes, and what they tell one another.

Every rank draws the same batches. It runs the module on its own share of each; the outputs of all are put together, so
that any loss sees the whole batch, and torch's DistributedDataParallel adds up the gradients. Batch normalisation takes
its statistics from the whole batch, and dropout layers draw their masks for the whole batch. So the result is that of
one process, up to the order in which floats are added.

Two things stay each rank's own: random numbers that a module draws by itself (functional dropout), and statistics of
its own making.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Ranks:
    """This process among those of one training. Made after `torch.distributed.init_process_group`."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self._total = 0  # samples of the batch under way, of all ranks
        self._start, self._stop = 0, 0  # this rank's share of it
        # Statistics have a group of their own: in a backward pass they cross the gradients that DDP sends.
        self._statistics = dist.new_group()

    @property
    def spread(self) -> bool:
        """Whether the batch under way is shared out. One with fewer samples than ranks is computed whole by each."""
        return self._total >= self.count

    def wrap(self, module: nn.Module) -> nn.Module:
        """What to call for a forward pass in training; gradients are those of the whole batch, averaged over ranks.

        Batch normalisation and dropout layers of `module` are changed in this process, its state is as it was.
        """
        for layer in module.modules():
            if isinstance(layer, _NORMS):
                layer.forward = _Normalised(self, layer).forward  # type: ignore[method-assign, assignment]
            elif isinstance(layer, _DROPOUTS):
                layer.forward = _Dropped(self, layer).forward  # type: ignore[method-assign, assignment]
        device = next(module.parameters()).device
        ids = None if device.type == "cpu" else [device]
        wrapped: nn.Module = DistributedDataParallel(
            module, device_ids=ids, broadcast_buffers=False, find_unused_parameters=True
        )
        return wrapped

    def share(self, inputs: Tensor) -> Tensor:
        """This rank's samples of a batch (B, ...): B / count, the first ranks one more where that leaves a rest."""
        self._total = len(inputs)
        if not self.spread:
            self._start, self._stop = 0, self._total
            return inputs
        self._start, self._stop = self._bounds(self.rank)
        return inputs[self._start : self._stop]

    def whole(self, outputs: Tensor) -> Tensor:
        """The outputs (B, ...) of all ranks for the batch; gradients flow into this rank's share alone.

        So each rank has a part of the loss's gradient; together they are all of it.
        """
        if not self.spread:
            return outputs
        bounds = [self._bounds(rank) for rank in range(self.count)]
        most = max(stop - start for start, stop in bounds)
        own = outputs.detach()
        padded = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
        gathered = [torch.empty_like(padded) for _ in bounds]
        dist.all_gather(gathered, padded.contiguous())
        parts = [part[: stop - start] for part, (start, stop) in zip(gathered, bounds, strict=True)]
        parts[self.rank] = outputs
        return torch.cat(parts)

    def scaled(self, loss: Tensor) -> Tensor:
        """What to descend: DDP averages over ranks, where parts of one gradient are to be added up."""
        return loss * self.count if self.spread else loss

    def of_the_first(self, compute: Callable[[], T]) -> T:
        """What rank 0 computes, for all; the others wait."""
        answer: list[T | None] = [compute() if self.rank == 0 else None]
        dist.broadcast_object_list(answer, src=0)
        computed = answer[0]
        assert computed is not None
        return computed

    def added(self, values: Tensor) -> Tensor:
        """The sum over ranks; its gradient is the sum over ranks, too."""
        summed: Tensor = all_reduce(values, group=self._statistics)  # type: ignore[no-untyped-call]
        return summed

    def of_share(self, whole: Tensor) -> Tensor:
        """This rank's part of something (B, ...) that was made for the whole batch."""
        return whole[self._start : self._stop]

    def shares(self, values: Tensor) -> bool:
        """Whether the first dimension is this rank's share of the batch."""
        return values.ndim > 0 and len(values) == self._stop - self._start

    @property
    def total(self) -> int:
        """Samples of the batch under way, of all ranks."""
        return self._total

    def _bounds(self, rank: int) -> tuple[int, int]:
        each, rest = divmod(self._total, self.count)
        start = rank * each + min(rank, rest)
        return start, start + each + (rank < rest)


class _Normalised:
    """The forward pass of a batch normalisation, by the whole batch's mean and variance while it is trained.

    Ioffe and Szegedy 2015, with the statistics of all ranks as in torch.nn.SyncBatchNorm, which knows GPUs only.
    """

    def __init__(self, ranks: Ranks, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        self._ranks, self._layer, self._own = ranks, layer, layer.forward

    def forward(self, inputs: Tensor) -> Tensor:
        layer, ranks = self._layer, self._ranks
        if not (layer.training and ranks.spread and ranks.shares(inputs)):
            return self._own(inputs)
        dims = [0, *range(2, inputs.ndim)]
        shape = [1, -1, *[1] * (inputs.ndim - 2)]
        values = inputs.float()
        count = ranks.total * values[:1].numel() // values.shape[1]  # of a channel, over all ranks
        mean = ranks.added(values.sum(dims)) / count
        centred = values - mean.view(shape)
        variance = ranks.added(centred.square().sum(dims)) / count
        self._note(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * torch.rsqrt(variance + layer.eps).view(shape)
        if layer.affine:
            normal = normal * layer.weight.view(shape) + layer.bias.view(shape)
        return normal.to(inputs.dtype)

    def _note(self, mean: Tensor, variance: Tensor) -> None:
        """Renew the running statistics, where the layer has some. (Unbiased variance, as torch keeps it.)"""
        layer = self._layer
        if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
            return
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.add_(1)
        momentum = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
        layer.running_var.lerp_(variance.to(layer.running_var.dtype), momentum)


class _Dropped:
    """The forward pass of a dropout layer, with this rank's part of the mask that one process would draw."""

    def __init__(self, ranks: Ranks, layer: nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d) -> None:
        self._ranks, self._layer, self._own = ranks, layer, layer.forward

    def forward(self, inputs: Tensor) -> Tensor:
        ranks = self._ranks
        if not (self._layer.training and ranks.spread and ranks.shares(inputs)):
            return self._own(inputs)
        ones = inputs.new_ones(ranks.total, *inputs.shape[1:])
        return inputs * ranks.of_share(self._own(ones))
