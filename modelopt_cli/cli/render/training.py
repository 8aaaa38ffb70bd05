"""A model that was trained or judged: its metrics, split by split, and what of a run there is that did not end."""

from __future__ import annotations

from typing import cast

from rich.console import Console
from rich.table import Table

from modelopt_cli.cli.render import metrics, parts, plan
from modelopt_cli.cli.render.latency import latency
from modelopt_cli.core.readable import figure, plural
from modelopt_cli.results.details import EvaluationDetails, TrainingDetails
from modelopt_cli.results.report import Report

_FILES = {"model": "model", "trial_dir": "its folder", "log": "log"}


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the folds."""
    if not quiet:
        folds(console, report)
    metrics.show(console, report, whole=report.kind == "evaluation")
    details = cast(EvaluationDetails, report.details)
    if "measured" in details and not quiet:
        latency(console, report, details["measured"])
    parts.latency(console, report)
    if report.kind == "training" and report.seconds:
        plan.times(console, report)
    remarks(console, report)
    parts.result(console, *results(report))
    parts.gates(console, report.gates)
    parts.files(console, report, _FILES)


def results(report: Report) -> list[str]:
    """What a model is worth in a sentence, and what it would be worth to know nothing."""
    name = metrics.main_metric(report, report.metrics)
    if name is None:
        return []
    splits = [split for split in ("test", "data", "validation", "train") if f"{split}.{name}" in report.metrics]
    first, *others = (f"{split}.{name} {figure(report.metrics[f'{split}.{name}'])}" for split in splits)
    beside = [text.replace(f".{name}", "") for text in others]
    sentence = first + (f" ({', '.join(beside)})" if beside else "")
    samples = report.details.get("samples") if report.kind == "evaluation" else None
    sentence += f" on {plural(samples, 'sample')}" if isinstance(samples, int) else ""
    return [sentence, _chance(report, splits[0]) if name == "accuracy" else ""]


def _chance(report: Report, split: str) -> str:
    """How often the most frequent class would be right, where the report knows how many samples each has."""
    rows = [row for row in report.records("classes") if row.get("split") == split and row.get("samples")]
    if len(rows) < 2:
        return ""
    most = max(rows, key=lambda row: row["samples"])
    share = most["samples"] / sum(row["samples"] for row in rows)
    return f"always answering {most['class']!s} would have {figure(share)}"


def folds(console: Console, report: Report) -> None:
    """The first metrics of each fold of a cross-validation, where there was one; the table has the others."""
    rows = report.records("folds")
    if not rows:
        return
    names = [name for name in report.tables["folds"].columns if metrics.split_of(name)[0]]
    shown, _ = metrics.first_of((metrics.split_of(name)[1] for name in names), report)
    columns = [name for rest in shown[:4] for name in names if metrics.split_of(name)[1] == rest]

    def table(columns: list[str]) -> Table:
        made = parts.titled("folds")
        made.add_column("fold", justify="right")
        texts = []
        for name in columns:
            values = ["–" if row.get(name) is None else figure(row[name]) for row in rows]
            texts.append(parts.figures(made, name.replace(".", ".\n"), values))
        for row, *cells in zip(rows, *texts, strict=True):
            made.add_row(str(row.get("fold")), *cells)
        return made

    console.print(parts.fitting(console, columns, lambda kept: table(list(kept))))


def remarks(console: Console, report: Report) -> None:
    """What there is to know about the metrics, and warnings."""
    details = cast(TrainingDetails, report.details)
    parts.positive(console, details.get("positive_class"))
    stopping = details.get("early_stopping")
    if stopping is not None:
        text = f"{stopping['samples']:,} of {plural(stopping['of'], 'train sample')} ({stopping['drawn']})"
        parts.line(console, "early stopping ", text)
    parts.warnings(console, report)
