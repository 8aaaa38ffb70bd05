"""How a search measured latency, and its front measured again when nothing else runs.

While a search runs, each trial measures its model by itself, one at a time (workflows/shared/latencies.py), but other
trials go on computing. So at the end the models of the front are measured once more, in turns with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.readable import plural
from modelopt_cli.experiment.evaluation import Runtime
from modelopt_cli.experiment.expected_metrics import RATIO, is_latency
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared import costs
from modelopt_cli.workflows.shared.latencies import Latencies, joint_runtime, measured

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.architectures import Shapes

AGAIN = ("_again", "_low", "_high")
"""What the columns of the front end with, after the metric: the median at the end, its 25% and 75% quantiles."""


def asked_for(wanted: Sequence[str]) -> list[str]:
    """The latencies among the metrics that a search looks at; ratios go by what they are ratios of."""
    return list(dict.fromkeys(name.removesuffix(RATIO) for name in wanted if is_latency(name)))


def remeasured(models: Mapping[int, Path], experiment: Experiment) -> Latencies:
    """Trials' kept models, number -> model.pt, in turns, as `evaluation.latency` has it; by the names of `named`.

    Of a compression the quantized file is measured where there is one, in the runtime by which float and int8 compare.
    """
    from modelopt_cli.models.measure import example

    entrants = {number: _entrant(path, experiment) for number, path in models.items()}
    loaded = {named(number): model for number, (model, _) in entrants.items()}
    shapes = next(shapes for _, shapes in entrants.values())
    settings = costs.timing(experiment)
    seconds = settings.seconds * max(1.0, len(models) / 2)  # as many turns for each as two have
    settings = settings.model_copy(update={"seconds": seconds})
    inputs = example(shapes, max(settings.batch_sizes))
    auto: Runtime = joint_runtime() if experiment.require_tuning().workflow == "compress" else "eager"
    return measured(loaded, inputs, settings, auto=auto)


def named(number: int) -> str:
    """What a trial's model is called among the latencies."""
    return f"trial {number}"


def _entrant(path: Path, experiment: Experiment) -> tuple[nn.Module | bytes, Shapes]:
    """(what is timed, the shapes of its inputs)"""
    from modelopt_cli.core.device import choose
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.compression.quantized_file import KEY, QuantizedFile

    checkpoint = checkpoints.load(path, experiment.consent.also(True))  # modelopt wrote it itself
    plain = checkpoint.extra.get(KEY)
    if plain is not None:
        file = QuantizedFile.from_plain(plain)
        return (file.network if file.suffix == ".onnx" else file.module), checkpoint.shapes
    on_device = experiment.require_tuning().workflow in ("train", "prune")  # the others time on the CPU
    return checkpoint.model.to(choose(experiment.device) if on_device else "cpu"), checkpoint.shapes


def with_latencies(front: Table, latencies: Latencies, metrics: Sequence[str]) -> Table:
    """The front's table with columns for what was measured at the end, of those of `metrics` that were."""
    sizes = {latencies.settings.metric(size): number for number, size in enumerate(latencies.settings.batch_sizes)}
    shown = [name for name in metrics if name in sizes]
    at = front.columns.index("trial")
    rows: list[list[Cell]] = []
    for row in front.rows:
        figures: list[Cell] = []
        of_trial = latencies.of(named(int(str(row[at]))))
        for name in shown:
            one = of_trial[sizes[name]] if of_trial else None
            figures += [None] * len(AGAIN) if one is None else [one.median, *one.spread]
        rows.append([*row, *figures])
    return Table(columns=[*front.columns, *(name + ending for name in shown for ending in AGAIN)], rows=rows)


def how(experiment: Experiment, at_the_end: Latencies | None, of_best: str = "") -> str:
    """In words, for the report of a search that looks at latency. `of_best`: how its best model was timed."""
    settings = costs.timing(experiment)
    each = (
        f"each trial was timed by itself, on {plural(settings.threads, 'thread')}, while no other one was timed, "
        "though others may have computed"
    )
    if at_the_end is not None and at_the_end.measured:
        count = plural(len({name for name, _ in at_the_end.measured}), "model")
        return f"{each}; in the end the {count} of the front again, when no trial ran: {at_the_end.how}"
    return f"{each}; the best model again in the end: {of_best}" if of_best else each
