"""A run that is compared: its letter, its report as it stands, and the settings that it was computed with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.listing import find_run, is_run
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import locked, workflow_of
from modelopt_cli.results.saved_run import has_report, read_run
from modelopt_cli.results.tables import column_of
from modelopt_cli.workflows.search.unfinished import unfinished_report
from modelopt_cli.workflows.shared.reporting import Outcome, provisional

SECONDS = "seconds"
"""The metric of how long a whole run took, which every report knows."""
_YAML_BYTES = 1_000_000


@dataclass(frozen=True)
class ComparedRun:
    """`settings`: the sections of its experiment file, those of its best trial where it is a search; None: not known.

    `base`: the sections before a search changed any, and the seed.
    """

    letter: str
    name: str  # name/number, or the folder or file
    report: Report
    status: str  # completed | interrupted | failed | running
    folder: Path | None = None
    settings: Mapping[str, Any] | None = None
    base: Mapping[str, Any] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> value of all that was measured, without what is not finite."""
        took = {SECONDS: self.report.seconds} if self.status == "completed" and self.report.seconds > 0 else {}
        return {name: value for name, value in {**self.report.metrics, **took}.items() if math.isfinite(value)}

    @property
    def seeds(self) -> list[int]:
        """Those that the run was computed with: several where it was repeated (`seeds: N`)."""
        return [int(seed) for seed in self.report.details.get("seeds") or [self.report.seed]]

    def each_seed(self, metric: str) -> list[float]:
        """The metric of each seed's run; one value (or none) where the run was not repeated."""
        rows = [row for row in self.report.records("seeds") if isinstance(row.get("seed"), int)]
        column = column_of(metric, self.report.tables["seeds"].columns) if rows else ""
        values = [row[column] for row in rows if isinstance(row.get(column), int | float)]
        if len(values) > 1:
            return [float(value) for value in values]
        return [self.metrics[metric]] if metric in self.metrics else []

    def samples(self, split: str) -> int | None:
        """How many samples a split has; None where the report does not say."""
        details = self.report.details
        if self.report.kind == "evaluation":  # of one split, or of a file, whose metrics begin with `data.`
            judged = details["on"] if details.get("on") in _SPLITS else "data"
            return int(details["samples"]) if split == judged else None
        counts = [row.get("samples") for row in self.report.records("splits") if row.get("split") == split]
        return int(counts[0]) if counts and isinstance(counts[0], int) else None


_SPLITS = ("train", "validation", "test")


def opened(run: str | Path | Report, letter: str, root: Path) -> ComparedRun:
    """The run: a Report, a report.json, a run's folder, `name/number`, or a name (its newest run) under `root`.

    Raises InputError for what is none of these, or cannot be read.
    """
    if isinstance(run, Report):
        folder = Path(run.artefacts["directory"]) if "directory" in run.artefacts else None
        folder = folder if folder is not None and is_run(folder) else None
        return _compared(letter, _name(folder) or f"{run.name} ({run.workflow})", run, run.status, folder)
    path = Path(run)
    if path.is_file() and not (root / path).is_dir():
        folder = path.absolute().parent if path.name == "report.json" and is_run(path.absolute().parent) else None
        report = _report_in(path) if folder is None else read_run(folder)
        return _compared(letter, _name(folder) or str(path), report, report.status, folder)
    folder = find_run(str(run), root)
    report = _report_of(folder)
    status = "running" if locked(folder) else report.status
    return _compared(letter, _name(folder.absolute()), report, status, folder)


def _compared(letter: str, name: str, report: Report, status: str, folder: Path | None) -> ComparedRun:
    base = None if folder is None else _sections(folder / "experiment.yaml")
    settings = base
    if base is not None and folder is not None and report.best is not None:
        best = _sections(folder / "best.yaml") or _with(base, report.best.get("params") or {})
        settings = {**best, **({"tuning": base["tuning"]} if "tuning" in base else {}), "gates": base.get("gates", [])}
    return ComparedRun(letter, name, report, status, folder, settings, base)


def _name(folder: Path | None) -> str:
    if folder is None:
        return ""
    return f"{folder.parent.name}/{folder.name}" if folder.name.isdigit() else str(folder)


def _report_of(folder: Path) -> Report:
    """As `modelopt show` has it; of a training that is under way, one that holds nothing yet."""
    report = read_run(folder) if has_report(folder) and not locked(folder) else None
    if report is not None and not (report.status == "failed" and report.workflow == "tune"):
        return report
    if report is not None or (folder / "study.sqlite").exists():
        return unfinished_report(folder, report)
    artefacts = {"directory": str(folder)}
    workflow = workflow_of(folder)
    return provisional(
        "training", workflow, Outcome(), name=folder.parent.name, seed=0, best=None, artefacts=artefacts, failed=None
    )


def _report_in(file: Path) -> Report:
    try:
        report = Report.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); name a run, or its report.json") from None
    except ValueError:
        raise InputError(f"{file} is no report of modelopt; name a run, or its report.json") from None
    if report.kind == "comparison":
        raise InputError(f"{file} is a comparison itself; name the runs that it compares")
    return report


class _PlainLoader(yaml.SafeLoader):
    """Without aliases, of which modelopt writes none: so that a file cannot stand for more than it holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _sections(file: Path) -> dict[str, Any] | None:
    """What an experiment.yaml of a run's folder holds, references as they are written; None where it cannot be read."""
    try:
        with file.open("rb") as stream:
            text = stream.read(_YAML_BYTES + 1)
        content = yaml.load(text, _PlainLoader) if len(text) <= _YAML_BYTES else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _with(sections: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The sections with a trial's values, for a search that has written no best.yaml yet."""
    changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(sections)))
    for path in sorted(params, key=lambda path: path.count(".")):
        *above, last = path.split(".")
        holder: Any = changed
        for name in above:
            holder = holder.setdefault(name, {}) if isinstance(holder, dict) else _item(holder, name)
        if isinstance(holder, dict):
            holder[last] = params[path]
        elif isinstance(holder, list) and last.isdigit() and int(last) < len(holder):
            holder[int(last)] = params[path]
    return changed


def _item(holder: Any, name: str) -> Any:
    return holder[int(name)] if isinstance(holder, list) and name.isdigit() and int(name) < len(holder) else None
