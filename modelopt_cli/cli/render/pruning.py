"""A pruning by an experiment file: its tensors, the model before, after and recovered side by side, gates, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import metrics, parts, plan, weights_file
from modelopt_cli.core.readable import figure, number, plural, size
from modelopt_cli.results.details import PruningDetails
from modelopt_cli.results.report import Report

_STAGES = {"before": "before", "pruned": "pruned", "final": "recovered"}
_FILES = {"model": "pruned model", "program": "without code", "dense": "dense model"}
_SPLITS = ("validation", "test")
_NOT_SHOWN = ("weights gone", "units gone", "recovered")  # of a round


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the metrics, the sizes, the result, the gates and the files."""
    details = cast(PruningDetails, report.details)
    if not quiet:
        weights_file.layers(console, report)
        weights_file.spared(console, details.get("spared", {}))
        rounds(console, report)
    stages(console, report, {"model.nonzero": "{:,.0f}".format, "model.sparsity": "{:.2%}".format})
    closing(console, report, details, _amounts(report, details))


def closing(console: Console, report: Report, details: PruningDetails, amounts: Mapping[str, str]) -> None:
    """Time, warnings, what was asked (`amounts`: label -> text), what came of it, gates, and what was written."""
    if report.seconds:
        plan.times(console, report)
    parts.positive(console, details.get("positive_class"))
    parts.warnings(console, report)
    for label, text in amounts.items():
        parts.entry(console, label, text)
    if probed := details.get("probed"):
        cuts = f"{probed['cuts']:,.0f} cut{'' if probed['cuts'] == 1 else 's'}"
        parts.entry(console, "allocation", f"tried {cuts} out in {probed['passes']:.1f} passes over its samples")
    parts.result(console, *_results(report))
    parts.gates(console, report.gates)
    if details.get("dry_run"):
        console.print("dry run: nothing was written")
    parts.files(console, report, _FILES)


def _results(report: Report) -> list[str]:
    """How the model does before and after, on test first."""
    by_stage = {row["stage"]: row for row in report.records("stages")}
    before, after = by_stage.get("before", {}), by_stage.get("final", {})
    name = metrics.main_metric(report, [name for name, value in after.items() if value is not None])
    sentences = []
    for split in ("test", "validation"):
        old, new = before.get(f"{split}.{name}"), after.get(f"{split}.{name}")
        if old is not None and new is not None:
            sentences.append(f"{split}.{name} {figure(old)} before, {figure(new)} after ({signed(new - old)})")
    return sentences


def signed(change: float) -> str:
    """A change with its sign, and none where nothing changes."""
    return figure(change) if change < 0 else f"+{figure(change)}" if change else "unchanged"


def stages(console: Console, report: Report, extra: Mapping[str, Callable[[Any], str]]) -> None:
    """The metrics at each stage, and below them what `extra` names, with how to show it."""
    by_stage = {row["stage"]: row for row in report.records("stages")}
    if not by_stage:
        return
    recovers = any(row.get("recovered") for row in report.records("rounds"))
    shown = [name for name in _STAGES if name in by_stage and (recovers or name != "pruned")]
    last = by_stage[shown[-1]]
    known = [name for name, value in last.items() if metrics.split_of(name)[0] and value is not None]
    leading, left_out = metrics.first_of((metrics.split_of(name)[1] for name in known), report)
    names = [f"{split}.{rest}" for rest in leading for split in _SPLITS if f"{split}.{rest}" in known]
    table = parts.titled("metrics")
    table.add_column("metric", no_wrap=True)
    rows = [*names, *extra]
    columns = [
        parts.figures(
            table,
            "pruned" if stage == "final" and not recovers else _STAGES[stage],
            [*(_value(by_stage[stage].get(name)) for name in names), *("" for _ in extra)],
        )
        for stage in shown
    ]
    for column, stage in zip(columns, shown, strict=True):
        column[len(names) :] = [Text(show(by_stage[stage][name]), justify="right") for name, show in extra.items()]
    table.add_column("change", justify="right", no_wrap=True)
    for at, name in enumerate(rows):
        old, new = by_stage[shown[0]].get(name), last.get(name)
        change = "" if name in extra else "–" if old is None or new is None else f"{new - old:+.4f}"
        table.add_row(name, *(column[at] for column in columns), change)
    console.print(table)
    if left_out:
        text = f"{plural(len(left_out), 'more metric')} in report.json: {', '.join(left_out)}"
        parts.line(console, "", Text(text, style="dim"))


def _value(value: float | None) -> str:
    return "–" if value is None else figure(value)


def rounds(console: Console, report: Report) -> None:
    """A row a round, where there are several; of many the first and the last."""
    rows: Sequence[Mapping[str, Any]] = report.records("rounds")
    if len(rows) < 2:
        return
    names = [name for name in rows[0] if name not in _NOT_SHOWN and any(row[name] is not None for row in rows)]

    def table(columns: Sequence[str]) -> Table:
        made = parts.titled("rounds")
        for name in columns:
            made.add_column(name.replace(".", ".\n"), justify="right", no_wrap=True)
        for row in rows:
            made.add_row(*(_of_round(name, row[name]) for name in columns))
        return made

    console.print(parts.fitting(console, names, table, first=2))


def _of_round(name: str, value: Any) -> str:
    if name in ("sparsity", "share"):
        return f"{value:.2%}"
    return figure(value) if isinstance(value, float) and not value.is_integer() else number(value)


def _amounts(report: Report, details: PruningDetails) -> dict[str, str]:
    """What was asked and what was reached stand side by side."""
    asked, reached = details.get("asked"), details.get("reached", {})
    texts = {}
    if asked is not None and reached:
        share = reached.get("pruning.sparsity", 0.0)
        left = f"{plural(reached['model.nonzero'], 'parameter is', 'parameters are')} not 0"
        texts = {"asked": _asked(asked), "reached": f"{share:.2%} of what may go is gone; {left}"}
    if "model.compressed_bytes" in report.metrics:
        plain, packed = (size(report.metrics[f"model.{name}_bytes"]) for name in ("size", "compressed"))
        texts["size"] = f"{plain}, compressed {packed}; dense kernels do not run zeros faster"
    return texts


def _asked(asked: Mapping[str, Any]) -> str:
    if "budget" in asked:
        name, value = next(iter(asked["budget"].items()))
        left = value if isinstance(value, str) else f"{value:,}"
        return f"at most {left} {name} (so {asked['amount']:.2%} goes)"
    if "threshold" in asked:
        return f"what scores below {asked['threshold']:g}"
    if "type" in asked:
        return f"{asked.get('n')} of every {asked.get('m')} stay" if asked["type"] == "nm" else str(asked["type"])
    return f"{asked['amount']:.2%} of what may go"
