"""What a method makes of a model: its layers, the file with some of them in float, and a module that runs the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task


@dataclass(frozen=True)
class Layer:
    """A layer with weights. `name`: its path in the module, with #2, #3 where it is called again."""

    name: str
    operator: str  # as the method names it: Conv, Gemm, LSTM, Linear
    parameters: int  # values of its weight
    unsupported: str = ""  # why the method leaves it in float; "": it does not


class Quantizer(ABC):
    """A float model, ready to be written with any of its layers in 8 bits."""

    suffix: ClassVar[str]
    layers: Sequence[Layer]

    @abstractmethod
    def content(self, left: Collection[str]) -> bytes:
        """The file with the layers called so in float, all others in 8 bits where the method can."""

    @abstractmethod
    def running(self, content: bytes) -> nn.Module:
        """A module that runs these very bytes on what the float module takes, on the CPU."""

    @abstractmethod
    def deliverable(
        self,
        content: bytes,
        running: nn.Module,
        preprocessing: Preprocessing,
        task: Task,
        outputs: int,
        about: Mapping[str, Any],
    ) -> bytes:
        """The same as a file that takes raw inputs, as what `modelopt export` writes. `running`: of `content`.

        Raises ModeloptError where it would compute something else.
        """

    @abstractmethod
    def tensor_bytes(self, content: bytes) -> int:
        """The bytes of all tensors in the file."""
