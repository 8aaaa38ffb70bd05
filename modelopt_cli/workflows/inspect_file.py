"""Looking into a file of weights: every tensor's shape, dtype, zeros and how its values are spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.state_files import open_state, sizes
from modelopt_cli.pruning.selection import place
from modelopt_cli.results.report import Report, Table

if TYPE_CHECKING:
    from torch import Tensor

BINS = 16


def run(path: Path) -> Report:
    """A row for every tensor; `details.histograms` has counts in 16 equal bins from -|w|max to |w|max.

    Raises InputError (exit 2) or RefusedError (exit 5).
    """
    file = open_state(path)
    first: dict[tuple[object, ...], str] = {}
    rows: list[list[Any]] = []
    histograms: dict[str, list[int]] = {}
    for name, tensor in file.tensors.items():
        tied = first.setdefault(place(tensor), name)
        rows.append([name, "x".join(map(str, tensor.shape)) or "scalar", *_row(tensor), None if tied == name else tied])
        if tensor.is_floating_point() and tensor.numel():
            histograms[name] = _histogram(tensor)
    plain, packed = sizes(path)
    own = [row for row in rows if row[-1] is None]
    values, nonzero = sum(row[3] for row in own), sum(row[3] - row[4] for row in own)
    columns = ["tensor", "shape", "dtype", "values", "zeros", "sparsity", "mean", "deviation", "largest", "tied to"]
    return Report(
        workflow="inspect",
        name=path.name,
        metrics={
            "model.parameters": float(values),
            "model.nonzero": float(nonzero),
            "model.sparsity": 1.0 - nonzero / values if values else 0.0,
            "model.size_bytes": float(plain),
            "model.compressed_bytes": float(packed),
        },
        tables={"layers": Table(columns=columns, rows=rows)},
        details={"kind": file.kind, "note": file.note, "histograms": histograms},
    )


def _row(tensor: Tensor) -> list[Any]:
    """dtype, values, zeros, sparsity; mean, deviation and largest magnitude of what is finite."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    count = tensor.numel()
    if tensor.layout != torch.strided or not count:
        return [dtype, count, 0, 0.0, None, None, None]
    zeros = count - int(tensor.detach().count_nonzero())
    if not tensor.is_floating_point():
        return [dtype, count, zeros, zeros / count, None, None, None]
    values = _finite(tensor)
    if not values.numel():
        return [dtype, count, zeros, zeros / count, None, None, None]
    moments = [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
    return [dtype, count, zeros, zeros / count, *moments]


def _histogram(tensor: Tensor) -> list[int]:
    import torch

    values = _finite(tensor)
    if tensor.layout != torch.strided or not values.numel():
        return [0] * BINS
    bound = float(values.abs().max()) or 1.0
    places = ((values / bound + 1.0) * (BINS / 2)).long().clamp_(0, BINS - 1)
    return [int(count) for count in torch.bincount(places, minlength=BINS)]


def _finite(tensor: Tensor) -> Tensor:
    values = tensor.detach().reshape(-1).double()
    return values[values.isfinite()]
