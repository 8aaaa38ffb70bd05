"""Which charts and tables stand in a page, in which order, under which headings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelopt_cli.core.readable import duration, size
from modelopt_cli.results.charts.chart import Chart
from modelopt_cli.results.page.parts import PageTable, Part, Section
from modelopt_cli.results.picking import pick_commands
from modelopt_cli.results.report import Report

_SEARCH: Sequence[tuple[str, str, Sequence[str]]] = (
    (
        "course",
        "How the search went",
        ("history", "curves", "timeline", "population", "failures"),
    ),
    ("settings", "What mattered", ("importance", "parallel", "slices", "effects", "pair_effects")),
    ("model", "The best model", ("learning_curve", "confusion", "calibration", "predicted", "residuals")),
)
_PRUNING: Sequence[tuple[str, str, Sequence[str]]] = (
    ("outcome", "Before and after", ("stages", "costs")),
    ("layers", "Where it was taken", ("layers", "groups", "sensitivity")),
    ("model", "The pruned model", ("learning_curve", "confusion", "calibration", "predicted", "residuals")),
)
_DISTILLATION: Sequence[tuple[str, str, Sequence[str]]] = (
    ("outcome", "Teacher, student, and student alone", ("learners", "costs")),
    ("model", "The student", ("learning_curve", "confusion", "calibration", "predicted", "residuals")),
)
_COMPRESSION: Sequence[tuple[str, str, Sequence[str]]] = (
    ("outcome", "The model after each stage", ("stages", "latency", "costs")),
    ("model", "The last model", ("learning_curve", "confusion", "calibration", "predicted", "residuals")),
)
_MODEL: Sequence[tuple[str, str, Sequence[str]]] = (
    ("model", "The model", ("learning_curve", "folds", "confusion", "calibration", "predicted", "residuals")),
)
_COMPARISON: Sequence[tuple[str, str, Sequence[str]]] = (("comparison", "Side by side", ("comparison",)),)
_PICK: Sequence[tuple[str, str, Sequence[str]]] = (
    ("outcome", "What it came from", ("stages", "learners", "costs")),
    ("model", "The model", ("learning_curve", "confusion", "calibration", "predicted", "residuals")),
)
_BY_KIND = {
    "search": _SEARCH,
    "pick": _PICK,
    "pruning": _PRUNING,
    "units": _PRUNING,
    "weights_file": _PRUNING,
    "distillation": _DISTILLATION,
    "compression": _COMPRESSION,
    "comparison": _COMPARISON,
}
_DATA = ("classes", "missing")
_TABLES = {
    "picked": "What it was picked by",
    "stages": "The model after each stage",
    "tries": "What was tried",
    "latency": "Latency",
    "quantized layers": "Quantized layers",
    "costs": "Costs",
    "layers": "Layers",
    "groups": "Groups of units",
    "rounds": "Rounds",
    "learners": "Teacher and students",
    "folds": "Folds",
    "seeds": "Seeds",
    "importance": "Importance of settings",
    "schedule": "How the best trial came about",
    "repeats": "Settings that were tried again",
    "tensors": "Tensors",
    "runs": "Runs",
    "settings": "Settings that differ",
    "differences": "Differences",
}
_SPLITS = ("train", "validation", "test")


def of(report: Report, charts: Mapping[str, Chart], folder: Path | None) -> list[Section]:
    """The sections of a report's page; empty ones are there, too."""
    shown: set[str] = set()
    sections = []
    if "front" in charts:
        sections.append(_front(report, charts))
        shown.update(("front", "hypervolume"))
    for name, title, kinds in _BY_KIND.get(report.kind, _MODEL):
        section = Section(name, title, [Part(chart=charts[kind]) for kind in kinds if kind in charts])
        shown.update(kinds)
        sections.append(section)
    rest = [kind for kind in charts if kind not in shown and kind not in _DATA]
    if sections:
        sections[-1].parts += [Part(chart=charts[kind]) for kind in rest]
    return [*sections, _tables(report), _data(report, charts), _reproduce(report, folder), _environment(folder)]


def _front(report: Report, charts: Mapping[str, Chart]) -> Section:
    """What a search with several objectives has come to: its front, the models on it, and how one is taken."""
    section = Section("front", "The front", [Part(chart=charts["front"])])
    table = PageTable.of(report.records("front"), "The models on it")
    if table is not None:
        section.parts.append(Part(table=table))
    commands = pick_commands(report)
    if commands:
        section.parts.append(Part(title="Take one, judged on test", code="\n".join(commands), open=True))
    if "hypervolume" in charts:
        section.parts.append(Part(chart=charts["hypervolume"]))
    return section


def _tables(report: Report) -> Section:
    """Metrics by split, the trials, and every other table that the report has under a caption."""
    parts = []
    metrics = PageTable.of(report.records("metrics"), "Metrics") if report.kind == "comparison" else None
    if metrics is None:
        metrics = PageTable.of(_metric_rows(report), "Metrics", columns=["metric", *_SPLITS, "value"])
    if metrics is not None:
        parts.append(Part(table=metrics))
    if report.kind == "search" and report.records("trials"):
        parts.append(Part(trials=True))
    for name, caption in _TABLES.items():
        table = PageTable.of(report.records(name), caption)
        if table is not None:
            parts.append(Part(table=table, folded=report.kind != "comparison" and name != "picked"))
    return Section("tables", "Tables", parts)


def _metric_rows(report: Report) -> list[dict[str, Any]]:
    """A row a metric, its splits side by side; those that belong to no split below."""
    rows: dict[str, dict[str, Any]] = {}
    others = []
    for name, value in report.metrics.items():
        split, dot, rest = name.partition(".")
        if dot and split in _SPLITS and rest not in ("seconds", "epochs", "samples"):
            rows.setdefault(rest, {"metric": rest})[split] = value
        else:
            others.append({"metric": name, "value": value})
    return [*rows.values(), *others]


def _data(report: Report, charts: Mapping[str, Chart]) -> Section:
    parts = [Part(chart=charts[kind]) for kind in _DATA if kind in charts]
    about = report.details.get("data")
    rows = [
        {"what": key, "value": ", ".join(map(str, value)) if isinstance(value, list) else value}
        for key, value in (about or {}).items()
    ]
    for table in (
        PageTable.of(rows, "What was learned from"),
        PageTable.of(report.records("splits"), "Splits"),
        PageTable.of(report.records("missing"), "Missing cells"),
    ):
        if table is not None:
            parts.append(Part(table=table))
    return Section("data", "Data", parts)


def _reproduce(report: Report, folder: Path | None) -> Section:
    """The commands that do it again, and the files they read."""
    parts = []
    if folder is not None:
        lines = []
        command = _environment_of(folder).get("command")
        if isinstance(command, list) and command:
            lines.append(shlex.join(["modelopt", *map(str, command[1:])]))
        # Of a picked trial it is the search's file; of a search for a target it is half of what was asked.
        own = report.kind != "pick" and "demands" not in report.details
        if (folder / "experiment.yaml").exists() and own:
            file = shlex.quote(str(folder / "experiment.yaml"))
            lines.append(f"modelopt {report.workflow} {file}   # the same, defaults written out")
        if (folder / "best.yaml").exists():
            workflow = report.details.get("workflow", "train")
            lines.append(f"modelopt {workflow} {shlex.quote(str(folder / 'best.yaml'))}   # the best setting alone")
        if (folder / "study.sqlite").exists():
            lines.append(f"modelopt replay {shlex.quote(str(folder))}   # every decision of the search again")
        if lines:
            parts.append(Part(title="Commands", code="\n".join(lines), open=True))
        for name in ("experiment.yaml", "best.yaml"):
            with suppress(OSError, UnicodeDecodeError):
                parts.append(Part(title=name, code=(folder / name).read_text(encoding="utf-8").rstrip()))
    files = [{"file": name, "path": path} for name, path in report.artefacts.items()]
    table = PageTable.of(files, "Files")
    if table is not None:
        parts.append(Part(table=table))
    auto = PageTable.of(_auto_rows(report), "Taken by auto")
    if auto is not None:
        parts.append(Part(table=auto))
    plan = PageTable.of(_plan_rows(report), "Estimated and taken")
    if plan is not None:
        parts.append(Part(table=plan))
    return Section("reproduce", "Reproduce it", parts)


def _auto_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {"option": option, "taken": "none" if each["value"] is None else each["value"]["type"], "why": each["reason"]}
        for option, each in report.plan.get("auto", {}).items()
    ]


def _plan_rows(report: Report) -> list[dict[str, Any]]:
    plan, rows = report.plan, []
    for what, text in (("seconds", duration), ("bytes", size)):
        estimated, actual = plan.get(f"estimated_{what}"), plan.get(f"actual_{what}")
        if estimated is not None or actual is not None:
            rows.append(
                {
                    "what": "time" if what == "seconds" else "memory",
                    "estimated": None if estimated is None else text(estimated),
                    "taken": None if actual is None else text(actual),
                }
            )
    return rows


def _environment_of(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    try:
        content = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _environment(folder: Path | None) -> Section:
    content = _environment_of(folder)
    rows = [
        {"what": key, "value": content[key]}
        for key in ("time", "seed", "device", "python", "platform", "cores")
        if content.get(key) is not None
    ]
    git = content.get("git")
    if isinstance(git, dict):
        rows.append({"what": "git", "value": f"{git.get('commit', '')}{' with changes' if git.get('dirty') else ''}"})
    packages = content.get("packages")
    if isinstance(packages, dict):
        rows += [{"what": name, "value": str(version)} for name, version in packages.items()]
    table = PageTable.of(rows)
    return Section("environment", "Environment", [] if table is None else [Part(table=table)])
