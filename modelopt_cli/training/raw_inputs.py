"""A module with its preprocessing in it: raw inputs in, logits and probabilities (or values in the targets' unit) out.

For exported files, whose users have neither modelopt nor its preprocessing. A batch of raw inputs is one tensor:
    images   (N, C, H, W) uint8, 0 to 255
    numbers  (N, columns) float64, in the order of the file's columns; NaN is a missing cell; a category column holds
             the position of the cell's text in the list of its texts, and what is none (NaN, -1) counts as no category
    arrays   (N, ...) float32
    tokens   (N, length) int64
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from typing_extensions import override

from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import Task
from modelopt_cli.training.inference import input_transform, restore_targets

_DTYPES = {"images": torch.uint8, "numbers": torch.float64, "arrays": torch.float32, "tokens": torch.int64}
_MISSING = 0.1  # share of cells that are missing in random rows


class WithPreprocessing(nn.Module):
    """`module` behind what its data were preprocessed by, and before what makes its outputs readable.

    Computes what `modelopt predict` does. The network's own tensors are called `network.NAME`.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, module: nn.Module, preprocessing: Preprocessing, task: Task) -> None:
        super().__init__()
        self.network, self.task, self.kind = module, task, preprocessing.kind
        self.columns = _Columns(preprocessing) if preprocessing.kind == "numbers" else None
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        axis = 1 if len(preprocessing.shape) == 3 else len(preprocessing.shape)
        sizes = [1] * (len(preprocessing.shape) + 1)
        sizes[axis] = -1
        if preprocessing.kind == "images":
            mean, std = preprocessing.image_mean, preprocessing.image_std
        else:
            mean, std = (preprocessing.mean, preprocessing.std) if preprocessing.kind == "arrays" else (None, None)
        self.scaled = mean is not None and std is not None
        if mean is not None and std is not None:
            self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64).reshape(sizes))
            self.register_buffer("std", torch.as_tensor(std, dtype=torch.float64).reshape(sizes))
        if preprocessing.kind == "images" and self.scaled:
            self.register_buffer("scale", (1.0 / (255.0 * self.std)).float())
            self.register_buffer("shift", (-self.mean / self.std).float())
            del self.mean, self.std
        target_mean, target_std = preprocessing.target_mean, preprocessing.target_std
        self.restores = target_mean is not None and target_std is not None
        if self.restores:
            self.register_buffer("target_mean", torch.as_tensor(target_mean, dtype=torch.float64))
            self.register_buffer("target_std", torch.as_tensor(target_std, dtype=torch.float64))
        self.to(device)

    def forward(self, inputs: Tensor) -> Any:
        """Of classes (logits, probabilities), each (N, outputs) float32; else values (N, outputs) float64."""
        return self.readable(self.network(self.preprocessed(inputs)))

    def readable(self, outputs: Tensor) -> Any:
        """What `forward` gives, from the network's own outputs (N, outputs)."""
        outputs = outputs.float()
        if self.task == "regression":
            return outputs.double() * self.target_std + self.target_mean if self.restores else outputs.double()
        return outputs, torch.softmax(outputs, 1) if self.task == "classification" else torch.sigmoid(outputs)

    def preprocessed(self, inputs: Tensor) -> Tensor:
        """What the network takes."""
        if self.columns is not None:
            return self.columns(inputs)  # type: ignore[no-any-return]
        if self.kind == "images":
            pixels = inputs.float()
            return torch.addcmul(self.shift, pixels, self.scale) if self.scaled else pixels
        if self.kind == "arrays" and self.scaled:
            return ((inputs.double() - self.mean) / self.std).float()
        return inputs


class _Columns(nn.Module):
    """Rows of a table: missing numbers filled and scaled, then categories one-hot."""

    numbers: Tensor
    fill: Tensor | None
    mean: Tensor | None
    std: Tensor | None

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        names, categories = list(preprocessing.feature_names), preprocessing.categories
        numbers = [names.index(name) for name in preprocessing.number_columns] if categories else None
        self.categories = [(names.index(name), len(texts)) for name, texts in categories.items()]
        self.all_numbers, self.no_numbers = numbers is None, numbers == []
        self.register_buffer("numbers", torch.tensor(numbers or [], dtype=torch.int64))
        for name in ("fill", "mean", "std"):
            statistic = getattr(preprocessing, name)
            self.register_buffer(name, None if statistic is None else torch.as_tensor(statistic, dtype=torch.float64))
        for position, (_, count) in enumerate(self.categories):
            self.register_buffer(f"codes_{position}", torch.arange(count, dtype=torch.float64))

    @override
    def forward(self, rows: Tensor) -> Tensor:
        """(N, columns) float64 to (N, features) float32."""
        parts = []
        if not self.no_numbers:
            numbers = rows if self.all_numbers else rows.index_select(1, self.numbers)
            if self.fill is not None:
                numbers = torch.where(torch.isnan(numbers), self.fill, numbers)
            if self.mean is not None and self.std is not None:
                numbers = (numbers - self.mean) / self.std
            parts.append(numbers)
        for position, (column, _) in enumerate(self.categories):
            parts.append((rows[:, column : column + 1] == getattr(self, f"codes_{position}")).double())
        return (torch.cat(parts, 1) if len(parts) > 1 else parts[0]).float()


class AsPredicted(nn.Module):
    """The same outputs by way of `Preprocessing.apply`, as `modelopt predict` goes: what an export is held against."""

    def __init__(self, module: nn.Module, preprocessing: Preprocessing, task: Task) -> None:
        super().__init__()
        self.network, self._preprocessing, self._task = module, preprocessing, task

    @override
    def forward(self, inputs: Tensor) -> Any:
        """See WithPreprocessing."""
        prepared = torch.from_numpy(self._preprocessing.apply(raw_rows(inputs.numpy(), self._preprocessing)))
        with torch.no_grad():
            outputs = self.network(input_transform(self._preprocessing, prepared.device)(prepared)).float()
        if self._task == "regression":
            return torch.from_numpy(restore_targets(outputs.numpy(), self._preprocessing)).double()
        return outputs, torch.softmax(outputs, 1) if self._task == "classification" else torch.sigmoid(outputs)


def raw_rows(inputs: np.ndarray, preprocessing: Preprocessing) -> np.ndarray | pd.DataFrame:
    """Raw inputs as `Preprocessing.apply` takes them: where there are categories, a frame with texts for positions."""
    if not preprocessing.categories:
        return inputs
    frame: dict[str, Any] = {}
    for position, name in enumerate(preprocessing.feature_names):
        column, texts = inputs[:, position], preprocessing.categories.get(name)
        if texts is None:
            frame[name] = column
        else:
            known = [not np.isnan(code) and 0 <= code < len(texts) for code in column]
            cells = [texts[int(code)] if ok else None for code, ok in zip(column, known, strict=True)]
            frame[name] = pd.Series(cells, dtype=object)
    return pd.DataFrame(frame)


def raw_example(preprocessing: Preprocessing, samples: int, seed: int = 0) -> Tensor:
    """Random raw inputs like those of the train split, a tenth of a table's cells missing."""
    rng = np.random.default_rng(seed)
    size = (samples, *preprocessing.shape)
    if preprocessing.kind == "images":
        return torch.from_numpy(rng.integers(0, 256, size, dtype=np.uint8))
    if preprocessing.kind == "tokens":
        return torch.from_numpy(rng.integers(0, preprocessing.tokens or 1, size, dtype=np.int64))
    array = rng.standard_normal(size)
    if preprocessing.kind == "arrays":
        if preprocessing.mean is not None and preprocessing.std is not None:
            axis = [1] * array.ndim
            axis[1 if array.ndim == 4 else -1] = -1
            array = array * preprocessing.std.reshape(axis) + preprocessing.mean.reshape(axis)
        return torch.from_numpy(array.astype(np.float32))
    names = list(preprocessing.feature_names)
    numbers = list(range(size[1]))
    if preprocessing.categories:
        numbers = [names.index(name) for name in preprocessing.number_columns]
    centre = preprocessing.mean if preprocessing.mean is not None else preprocessing.fill
    spread = preprocessing.std if preprocessing.std is not None else 1.0
    if centre is not None:
        array[:, numbers] = array[:, numbers] * spread + centre
    for name, texts in preprocessing.categories.items():
        array[:, names.index(name)] = rng.integers(-1, len(texts), samples)
    if preprocessing.fill is not None or preprocessing.categories:
        array[rng.random(size) < _MISSING] = np.nan
    return torch.from_numpy(array)


def about_raw(preprocessing: Preprocessing, task: Task, outputs: int) -> dict[str, Any]:
    """What an exported file says of the inputs it takes and of its outputs: plain values."""
    inputs: dict[str, Any] = {
        "name": "inputs",
        "shape": list(preprocessing.shape),
        "dtype": str(_DTYPES[preprocessing.kind]).removeprefix("torch."),
        "kind": preprocessing.kind,
        "raw": True,
    }
    if preprocessing.kind == "images":
        inputs["layout"] = "channels, height, width; values 0 to 255"
    if preprocessing.feature_names:
        inputs["columns"] = list(preprocessing.feature_names)
        inputs["categories"] = {name: list(texts) for name, texts in preprocessing.categories.items()}
    names = ["predictions"] if task == "regression" else ["logits", "probabilities"]
    return {"inputs": inputs, "outputs": [{"name": name, "shape": [outputs]} for name in names]}
