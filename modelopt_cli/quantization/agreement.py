"""Whether the file that takes raw inputs answers as the one that was judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.files.exported_files import Ran
from modelopt_cli.training.raw_inputs import AsPredicted, raw_example

if TYPE_CHECKING:
    from typing import Any

    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task

_SIZES = (2, 7)  # of the random batches on which they are compared
_AGREES = 1e-3  # the median over samples of their largest differences, as shares of the largest output


def check_agreement(
    content: bytes, suffix: str, running: nn.Module, preprocessing: Preprocessing, task: Task, batch: int | None
) -> None:
    """Raise ModeloptError where they differ on random inputs. `running`: what was judged, on preprocessed inputs.

    Rounding may turn the last digit of an input into a step of 8 bits, so it is the median sample that must agree.
    """
    ran, reference = Ran(content, suffix), AsPredicted(running, preprocessing, task)
    for size in _SIZES if batch is None else (batch,):
        raw = raw_example(preprocessing, size, seed=1)
        with torch.no_grad():
            made, expected = _first(ran(raw)).double(), _first(reference(raw)).double()
        largest = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
        error = float(((made - expected).abs().amax(1) / largest).median())
        if not error <= _AGREES:
            raise ModeloptError(
                f"the quantized file differs from what was judged by {error:.1%} on random inputs, so it is not "
                "written; please report this with the experiment file"
            )


def _first(outputs: Any) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs[0]
