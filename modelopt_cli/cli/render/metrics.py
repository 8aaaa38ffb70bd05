"""A model's metrics: those that the objective and the gates name come first, of many others only the names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.console import NAME
from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.readable import measure
from modelopt_cli.experiment.expected_metrics import CHANGES
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_SPLITS = ("train", "validation", "test", "data")
_COUNTED = ("seconds", "epochs", "samples")  # metrics of a training, though they begin as those of its split
_FIRST = ("accuracy", "rmse", "loss", "f1", "r2", "mae")
_SHOWN = 3  # metrics in a table, beside those that are named
_ALL = 7  # up to so many, none is left out


def split_of(name: str) -> tuple[str, str]:
    """`validation.f1` -> (`validation`, `f1`); (``, name) for what is about no split."""
    split, _, rest = name.partition(".")
    return (split, rest) if split in _SPLITS and rest and rest not in _COUNTED else ("", name)


def leading(report: Report) -> list[str]:
    """Metrics, without their split, that the objective and the gates name; then those that people look at first."""
    return list(dict.fromkeys([*_asked_for(report), *_FIRST]))


def _asked_for(report: Report) -> list[str]:
    names: list[str] = []
    for goal in report.details.get("objective", []):
        with contextlib.suppress(ValueError):
            names.append(Goal.parse(goal).metric)
    for gate in report.gates:
        with contextlib.suppress(ValueError):
            names.append(Condition.parse(gate.condition).metric)
    rest = [split_of(name)[1] for name in names]
    for ending in CHANGES:
        rest = [name.removesuffix(ending) for name in rest]
    return list(dict.fromkeys(rest))


def first_of(names: Iterable[str], report: Report) -> tuple[list[str], list[str]]:
    """(the metrics to show, the others): those asked for and a few that people look at first."""
    known = list(dict.fromkeys(names))
    ranked = [name for name in leading(report) if name in known]
    ranked += [name for name in known if name not in ranked]
    if len(ranked) <= _ALL:
        return ranked, []
    asked = [name for name in _asked_for(report) if name in known]
    most = max(_SHOWN, len(asked) + 2)
    return ranked[:most], ranked[most:]


def main_metric(report: Report, names: Iterable[str]) -> str | None:
    """The one metric that a model is known by, without its split: the objective's, else accuracy or an error."""
    known = {split_of(name)[1] for name in names if split_of(name)[0]}
    return next((name for name in leading(report) if name in known), None)


def show(console: Console, report: Report, *, whole: bool = False) -> None:
    """Those that several splits have side by side, what else was measured below; `whole` leaves none out."""
    deviations = _deviations(report)
    splits: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, value in report.metrics.items():
        split, rest = split_of(name)
        if name.endswith(DEVIATION) and name.removesuffix(DEVIATION) in report.metrics:
            continue
        if split:
            splits.setdefault(rest, {})[split] = value
        else:
            others[name] = value
    shown, left_out = first_of(splits, report)
    if whole:
        shown, left_out = shown + left_out, []
    if shown:
        table = parts.titled("metrics" + _over(report))
        table.add_column("metric", no_wrap=True)
        columns = []
        for split in (each for each in _SPLITS if any(each in splits[name] for name in shown)):
            values = [splits[name].get(split) for name in shown]
            columns.append(parts.figures(table, split, _with(values, [deviations.get(f"{split}.{n}") for n in shown])))
        for name, *texts in zip(shown, *columns, strict=True):
            table.add_row(Text(name), *texts)
        console.print(table)
    if left_out:
        where = "report.json" if report.artefacts else "--json"
        parts.line(console, "", Text(f"{len(left_out)} more in {where}: {', '.join(left_out)}", style="dim"))
    if others:
        _beside(console, others)


def of_values(console: Console, values: Mapping[str, float]) -> None:
    """All metrics of what is no report, such as one trial."""
    show(console, Report(kind="training", workflow="train", name="", metrics=dict(values)), whole=True)


def _beside(console: Console, others: Mapping[str, float]) -> None:
    """What is about no split: a line, but for the many metrics that a script may have."""
    values = dict(others)
    if values.get("model.nonzero") == values.get("model.parameters"):
        values.pop("model.nonzero", None)
    texts = [Text.assemble((name, NAME), " ", measure(name, value)) for name, value in values.items()]
    alone = any("." not in name for name in values)
    line = Text()
    for text in texts:
        if line and (alone or line.cell_len + 2 + text.cell_len > console.width):
            console.print(line, soft_wrap=True)
            line = Text()
        line = Text.assemble(line, "  ", text) if line else text
    console.print(line, soft_wrap=True)


def _with(values: Sequence[float | None], deviations: Sequence[float | None]) -> list[str]:
    return [
        "–" if value is None else parts.shares(value, deviation)
        for value, deviation in zip(values, deviations, strict=True)
    ]


def _over(report: Report) -> str:
    seeds = _seeds(report)
    if len(seeds) > 1:
        return f" (mean ± deviation of {len(seeds)} seeds)"
    folds = report.records("folds")
    return f" (mean ± deviation of {len(folds)} folds)" if folds else ""


def _seeds(report: Report) -> list[dict[str, Any]]:
    """A row a seed; the table's other rows are about these."""
    return [row for row in report.records("seeds") if isinstance(row.get("seed"), int)]


def _deviations(report: Report) -> dict[str, float]:
    """Of each metric over folds or seeds, where there are several."""
    seeds = _seeds(report)
    if len(seeds) > 1:
        values = {name: [row.get(name) for row in seeds] for name in report.metrics}
        complete = {name: [float(each) for each in row if each is not None] for name, row in values.items()}
        return {name: stdev(row) for name, row in complete.items() if len(row) == len(seeds)}
    ending = len(DEVIATION)
    return {name[:-ending]: value for name, value in report.metrics.items() if name.endswith(DEVIATION)}
