"""A module whose linear layers torchao turns into int8, exported as a program of torch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from typing_extensions import override

from modelopt_cli.models.duplicates import duplicate
from modelopt_cli.models.files.exporting import exported_bytes
from modelopt_cli.quantization.layers import Layer, Quantizer
from modelopt_cli.quantization.torchao.program import ProgramModule, loaded

if TYPE_CHECKING:
    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task


class TorchaoQuantizer(Quantizer):
    """The module stays as it is; copies of it are quantized."""

    suffix: ClassVar[str] = ".pt2"

    def __init__(self, module: nn.Module, configuration: Any, example: Tensor, about: Mapping[str, Any]) -> None:
        """`configuration`: torchao's own. `about`: what the file tells of itself."""
        self._module, self._configuration, self._example, self._about = module, configuration, example, about
        self._left: dict[str, frozenset[str]] = {}  # of each file by its hash: the layers in float
        self._batch: int | None = None

    @cached_property
    def layers(self) -> list[Layer]:  # type: ignore[override]
        """Every module with weights of its own, in the module's order."""
        weights = [(name, part) for name, part in self._module.named_modules() if _weights(part)]
        changed = self._quantized(frozenset())
        return [
            Layer(
                name or type(part).__name__,
                type(part).__name__,
                sum(weight.numel() for weight in _weights(part)),
                "" if _is_integer(changed.get_submodule(name)) else _why(part),
            )
            for name, part in weights
        ]

    def _quantized(self, left: Collection[str]) -> nn.Module:
        """A copy with all linear layers but these in int8, their weights subclasses of tensors."""
        from torchao.quantization import quantize_

        from modelopt_cli.models.graph.capture import quiet

        copy = duplicate(self._module)
        with quiet():
            quantize_(copy, self._configuration, filter_fn=lambda part, name: _is_plain(part) and name not in left)
        return copy

    def _plain(self, left: Collection[str]) -> nn.Module:
        """The same with plain tensors of int8 and scales, which a program holds without torchao's classes."""
        from torchao.utils import unwrap_tensor_subclass

        from modelopt_cli.models.graph.capture import quiet

        with quiet():
            return unwrap_tensor_subclass(self._quantized(left))  # type: ignore[no-any-return]

    @override
    def content(self, left: Collection[str]) -> bytes:
        """A program, which torch.export.load reads."""
        content, dynamic = exported_bytes(self._plain(left), self._example, self.suffix, self._about)
        self._batch = None if dynamic else len(self._example)
        self._left[_digest(content)] = frozenset(left)
        return content

    @override
    def running(self, content: bytes) -> nn.Module:
        """See FileModule."""
        return ProgramModule(content)

    @override
    def deliverable(
        self,
        content: bytes,
        running: nn.Module,
        preprocessing: Preprocessing,
        task: Task,
        outputs: int,
        about: Mapping[str, Any],
    ) -> bytes:
        """The same copy behind its preprocessing, exported again."""
        from modelopt_cli.quantization.agreement import check_agreement
        from modelopt_cli.training.raw_inputs import WithPreprocessing, raw_example

        whole = WithPreprocessing(self._plain(self._left[_digest(content)]), preprocessing, task).eval()
        example = raw_example(preprocessing, len(self._example))
        made, _ = exported_bytes(whole, example, self.suffix, {**about, **self._about_runtime})
        check_agreement(made, self.suffix, running, preprocessing, task, self._batch)
        return made

    @property
    def _about_runtime(self) -> dict[str, Any]:
        return {key: value for key, value in self._about.items() if key == "requires"}

    @override
    def tensor_bytes(self, content: bytes) -> int:
        """Of parameters and constants."""
        program = loaded(content)
        tensors = [*program.state_dict.values(), *program.constants.values()]
        return sum(each.numel() * each.element_size() for each in tensors if isinstance(each, Tensor))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _weights(part: nn.Module) -> list[nn.Parameter]:
    """Its own matrices and kernels."""
    return [parameter for parameter in part.parameters(recurse=False) if parameter.dim() > 1]


def _is_plain(part: nn.Module) -> bool:
    """Whether it is a linear layer that is called as one: torch's attention takes the weights of its own itself."""
    return isinstance(part, nn.Linear) and not isinstance(part, nn.modules.linear.NonDynamicallyQuantizableLinear)


def _is_integer(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) and type(part.weight) is not nn.Parameter


def _why(part: nn.Module) -> str:
    if isinstance(part, nn.modules.linear.NonDynamicallyQuantizableLinear | nn.MultiheadAttention):
        return "torchao does not reach into torch's attention"
    return f"torchao quantizes linear layers alone, and no {type(part).__name__}"
