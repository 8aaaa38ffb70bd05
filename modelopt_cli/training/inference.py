"""From preprocessed samples to a module's outputs: what training, evaluation and `modelopt predict` share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modelopt_cli.core.errors import ModeloptError, TrialError, UsageError
from modelopt_cli.core.imports import describe_user_error
from modelopt_cli.core.work import counted
from modelopt_cli.models.modes import evaluating

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from modelopt_cli.data.preprocessing import Preprocessing

Array = np.ndarray[Any, Any]
Transform = Callable[[torch.Tensor], torch.Tensor]

_NUMBERS = 2**20  # input numbers in one forward pass


def predict(
    module: torch.nn.Module, inputs: Array, preprocessing: Preprocessing | Mapping[str, Any] | None = None
) -> Array:
    """Outputs (N, K) of preprocessed `inputs` (N, ...): float32 logits, or float64 values in the targets' own units.

    Computes on the module's device, in batches and in evaluation mode. `preprocessing` may be its plain form.
    Raises TrialError for a failing module (`memory`: too little of it).
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    outputs = forward(module, as_tensor(inputs), input_transform(preprocessing, device))
    return restore_targets(outputs.cpu().numpy(), preprocessing)


def forward(module: torch.nn.Module, inputs: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Outputs (N, K) float32, on the module's device, of inputs (N, ...) on any device."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    size = batch_rows(inputs, device)
    with evaluating(module), torch.inference_mode(), failures():
        if len(inputs) <= size:
            return module(transform(inputs.to(device))).float()  # type: ignore[no-any-return]
        split = counted(torch.split(inputs, size), "batches judged")
        return torch.cat([module(transform(part.to(device, non_blocking=True))).float() for part in split])


def as_tensor(array: Array) -> torch.Tensor:
    """`array` as a tensor on the same memory, which nobody writes to (a read-only file mapping will do)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


def batch_rows(inputs: torch.Tensor, device: torch.device) -> int:
    """Samples in a forward pass without gradients: about a million numbers on the CPU, more on a GPU."""
    numbers = max(1, inputs[:1].numel())
    most = _NUMBERS * (8 if device.type == "cuda" else 1)
    return max(64, min(most // numbers, 8192))


def input_transform(preprocessing: Preprocessing | Mapping[str, Any] | None, device: torch.device) -> Transform:
    """What inputs on the device still need: uint8 images become `(x / 255 - mean) / std`, per channel, float32."""
    mean, std = _field(preprocessing, "image_mean"), _field(preprocessing, "image_std")
    if mean is None or std is None:
        return _as_float
    scale = torch.as_tensor(1.0 / (255.0 * np.asarray(std)), dtype=torch.float32, device=device)[:, None, None]
    shift = torch.as_tensor(-np.asarray(mean) / np.asarray(std), dtype=torch.float32, device=device)[:, None, None]

    def normalize(images: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(shift, images.float(), scale) if images.dtype == torch.uint8 else images

    return normalize


def _as_float(inputs: torch.Tensor) -> torch.Tensor:
    return inputs if inputs.dtype in (torch.float32, torch.int64) else inputs.float()


def scale_targets(targets: Array, preprocessing: Preprocessing | Mapping[str, Any] | None) -> Array:
    """Regression targets (N, outputs) float32, in units of the train split's standard deviation; others as they are."""
    mean, std = _field(preprocessing, "target_mean"), _field(preprocessing, "target_std")
    if mean is None or std is None:
        return targets.astype(np.float32) if targets.dtype == np.float64 else targets
    return ((targets - np.asarray(mean)) / np.asarray(std)).astype(np.float32)  # type: ignore[no-any-return]


def restore_targets(outputs: Array, preprocessing: Preprocessing | Mapping[str, Any] | None) -> Array:
    """The inverse of `scale_targets`, for predictions (N, outputs): float64, for float32 has 7 digits of 1.7e9."""
    mean, std = _field(preprocessing, "target_mean"), _field(preprocessing, "target_std")
    if mean is None or std is None:
        return outputs
    return outputs.astype(np.float64) * np.asarray(std) + np.asarray(mean)  # type: ignore[no-any-return]


def _field(preprocessing: Preprocessing | Mapping[str, Any] | None, name: str) -> Any:
    if isinstance(preprocessing, Mapping):
        return preprocessing.get(name)
    return getattr(preprocessing, name, None)


def precision(device: torch.device, autocast: bool) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 on request."""
    return torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext()


@contextmanager
def failures() -> Iterator[None]:
    """Turn what a module or torch raises into TrialError, or UsageError where the settings are at fault."""
    try:
        yield
    except ModeloptError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrialError("memory", f"{_first_line(error)}; lower training.batch_size or the model's size") from error
    except Exception as error:
        text = _first_line(error)
        if "DefaultCPUAllocator" in text or "out of memory" in text:
            raise TrialError("memory", f"{text}; lower training.batch_size or the model's size") from error
        if "Expected more than 1 value per channel" in text:
            raise UsageError(
                "a batch has one sample, but batch normalisation needs at least two; set training.batch_size above 1"
            ) from error
        raise TrialError("error", describe_user_error(error).partition("\n")[0]) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().partition("\n")[0]
