"""What a model costs before and after it was made smaller: sizes and latency side by side, as records and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Table
from modelopt_cli.results.tables import DEVIATION

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH_SIZES = (1, 64)
SECONDS = 0.7
"""How long latency is measured for each batch size."""

_METRICS = {
    "parameters": "model.parameters",
    "multiply-accumulates": "model.macs",
    "bytes of tensors": "model.size_bytes",
    "bytes of model.pt": "model.file_bytes",
    "ms for a batch of 1": "model.latency_ms",
    "ms for a batch of 64": "model.latency_ms_64",
}


def compare(
    before: nn.Module, after: nn.Module, inputs: Tensor, files: tuple[int, int]
) -> tuple[list[dict[str, Any]], list[str]]:
    """A record for each cost, sizes and times: what, before, after, and how many times less; what is noisy of it."""
    timed, noisy = times(before, after, inputs)
    return [*sizes(before, after, inputs, files), *timed], noisy


def sizes(before: nn.Module, after: nn.Module, inputs: Tensor, files: tuple[int, int]) -> list[dict[str, Any]]:
    """A record for each size: what, before, after, and how many times less. `files`: bytes of model.pt."""
    from modelopt_cli.models.measure import macs
    from modelopt_cli.models.summary import summarise

    summaries = [summarise(module) for module in (before, after)]
    return [
        _row("parameters", *(each["model.parameters"] for each in summaries)),
        _row("multiply-accumulates", *(float(macs(module, inputs[:1])[""]) for module in (before, after))),
        _row("bytes of tensors", *(each["model.size_bytes"] for each in summaries)),
        _row("bytes of model.pt", *map(float, files)),
    ]


def times(before: nn.Module, after: nn.Module, inputs: Tensor) -> tuple[list[dict[str, Any]], list[str]]:
    """The same for the latency at each batch size, medians of what is measured turn by turn; what is noisy of it."""
    from modelopt_cli.models.measure import latency, noise

    measured = latency({"before": before, "after": after}, inputs, BATCH_SIZES, seconds=SECONDS)
    pairs = list(zip(measured[::2], measured[1::2], strict=True))
    rows = [_row(f"ms for a batch of {one.batch_size}", one.median, other.median) for one, other in pairs]
    return rows, [text for one, other in pairs if (text := noise(other, one))]


def _row(what: str, before: float, after: float) -> dict[str, Any]:
    return {"what": what, "before": before, "after": after, "times less": before / after if after else None}


def with_ratios(costs: Table) -> Table:
    """The table of costs with each ratio that of the two figures before it: of means over seeds, the means'."""
    if "times less" not in costs.columns:
        return costs
    ratio = costs.columns.index("times less")
    figures = [at for at, name in enumerate(costs.columns[:ratio]) if name != "what" and not name.endswith(DEVIATION)]
    rows = []
    for row in costs.rows:
        before, after = (float(value) if isinstance(value := row[at], int | float) else 0.0 for at in figures)
        rows.append([*row[:ratio], before / after if after else None, *row[ratio + 1 :]])
    return Table(columns=costs.columns, rows=rows)


def metrics(costs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Flat metrics of what the model costs now; FLOPs are two for each multiply-accumulate."""
    figures = {_METRICS[row["what"]]: float(row["after"]) for row in costs}
    return figures | ({"model.flops": 2.0 * figures["model.macs"]} if "model.macs" in figures else {})
