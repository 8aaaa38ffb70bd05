"""What a training may descend in place of the loss on its targets: the base of the criteria of distillation.

Everything else about a training stays as it is: its optimizer, its schedule, its order of samples.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from modelopt_cli.training.hooks import StepHook

if TYPE_CHECKING:
    import torch

    from modelopt_cli.training.batches import Batch, EpochBatches
    from modelopt_cli.training.losses import Loss
    from modelopt_cli.training.settings import TrainingSettings


class StepInfo(NamedTuple):
    """Which step of a training it is."""

    epoch: int  # from 1
    step: int  # of the whole training, from 0
    steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class CriterionContext:
    """The training that a criterion takes part in."""

    module: torch.nn.Module
    settings: TrainingSettings
    batches: EpochBatches
    label_loss: Loss

    @property
    def autocast(self) -> bool:
        """Whether forward passes run in bfloat16."""
        return self.settings.precision == "bfloat16"


class Criterion(StepHook):
    """Gives the loss of each step. Takes part in the training's state, so that it resumes exactly."""

    views: int | None = None
    """How many different augmentations a sample has: epoch after epoch they come again. None: each epoch its own."""

    def view(self, epoch: int) -> int:
        """Which of a sample's augmentations an epoch shows; both count from 1."""
        return epoch if self.views is None else (epoch - 1) % self.views + 1

    @abstractmethod
    def begin(self, context: CriterionContext) -> None:
        """The training has been set up. Raises UsageError where the criterion does not go with it."""

    @abstractmethod
    def loss(
        self, batch: Batch, outputs: torch.Tensor, label_loss: Callable[[], torch.Tensor], step_info: StepInfo
    ) -> torch.Tensor:
        """The loss of a batch, (): `outputs` (B, K) are the module's, `label_loss` gives the loss on the targets."""

    def parameters(self) -> Sequence[torch.nn.Parameter]:
        """What the training's optimizer trains beside the module's parameters."""
        return ()

    def state(self) -> Any:
        """Plain values and tensors on the CPU that `load_state` needs to go on exactly."""
        return None

    def load_state(self, state: Any) -> None:
        """Go on from what `state` gave."""

    def close(self) -> None:
        """The training has ended: let go of the module."""
