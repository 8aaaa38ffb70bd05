"""What a model costs before and after it was made smaller: sizes and latency side by side, as records and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.evaluation import LATENCY, LatencySettings
from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.results.report import Table
from modelopt_cli.results.tables import DEVIATION
from modelopt_cli.workflows.shared.latencies import Latencies, measured

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment

SECONDS = 0.7
"""How long latency is measured for each batch size where the file does not say it."""

_METRICS = {
    "parameters": "model.parameters",
    "multiply-accumulates": "model.macs",
    "bytes of tensors": "model.size_bytes",
    "bytes of model.pt": "model.file_bytes",
}
_TIME = "ms for a batch of "
_PAIRS = (("before", "after"), ("teacher", "student"))
"""What the columns of the two models are called in tables of costs."""


def timing(experiment: Experiment) -> LatencySettings:
    """How the experiment measures latency: as its file says, else in the way that is usual."""
    return experiment.evaluation.latency or LatencySettings(seconds=SECONDS)


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


def times(
    before: nn.Module,
    after: nn.Module,
    inputs: Tensor,
    settings: LatencySettings,
    names: tuple[str, str] = ("before", "after"),
) -> tuple[list[dict[str, Any]], Latencies]:
    """The same for the latency at each batch size, medians of what is measured turn by turn; and all of that.

    `names`: what the two models are called. A model that cannot be run in the way asked for leaves no records.
    """
    latencies = measured(dict(zip(names, (before, after), strict=True)), inputs, settings)
    pairs = zip(latencies.of(names[0]), latencies.of(names[1]), strict=False)
    return [_row(f"{_TIME}{one.batch_size}", one.median, other.median) for one, other in pairs], latencies


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


def metrics(costs: Sequence[Mapping[str, Any]], *, ratios: bool = True) -> dict[str, float]:
    """Flat metrics of what the model costs now; FLOPs are two for each multiply-accumulate.

    `ratios`: also of each as a share of what it was, `model.macs_ratio` and so on; false where nothing was before.
    """
    figures: dict[str, float] = {}
    for row in costs:
        name = _metric(row["what"], figures)
        figures[name] = float(row["after"])
        if ratios and row["before"]:
            figures[name + RATIO] = float(row["after"]) / float(row["before"])
    if "model.macs" in figures:
        figures["model.flops"] = 2.0 * figures["model.macs"]
    if "model.macs" + RATIO in figures:
        figures["model.flops" + RATIO] = figures["model.macs" + RATIO]
    return figures


def ratios(costs: Table) -> dict[str, float]:
    """The ratios of `metrics` from a table of costs, such as one of means over seeds; none where it has one model."""
    pair = next((pair for pair in _PAIRS if set(pair) <= set(costs.columns)), None)
    if pair is None:
        return {}
    rows = [{"what": row["what"], "before": row[pair[0]], "after": row[pair[1]]} for row in costs.records()]
    return {name: value for name, value in metrics(rows).items() if name.endswith(RATIO)}


def _metric(what: str, figures: Mapping[str, float]) -> str:
    """The metric of a record; the first batch size's is the one without a number."""
    if not what.startswith(_TIME):
        return _METRICS[what]
    return LATENCY if LATENCY not in figures else f"{LATENCY}_{what.removeprefix(_TIME)}"
