"""Which runs there are, and what removing some would free."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.run_directory import MARKS, locked

_STUDY = "study.sqlite"


def runs_root() -> Path:
    """Where runs lie: $MODELOPT_RUNS, or runs/ in the current folder."""
    return Path(os.environ.get("MODELOPT_RUNS") or "runs")


@dataclass(frozen=True)
class RunSummary:
    """A run in one line. status: completed | interrupted | failed | running."""

    name: str
    number: int
    path: Path
    status: str
    workflow: str
    started: str
    seconds: float | None
    best: str  # the objective's or main metric, as text
    reason: str  # why it failed, where it did
    bytes: int
    modified: float  # seconds since the epoch

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "path": str(self.path)}


def list_runs(root: Path) -> list[RunSummary]:
    """Every run under `root`, by name and number."""
    if not root.is_dir():
        return []
    summaries = [
        summarise(path)
        for parent in sorted(root.iterdir())
        if parent.is_dir()
        for path in parent.iterdir()
        if path.name.isdigit() and is_run(path)
    ]
    return sorted(summaries, key=lambda run: (run.name, run.number))


def is_run(path: Path) -> bool:
    """True for a folder that modelopt wrote."""
    return path.is_dir() and any((path / mark).exists() for mark in MARKS)


def find_run(text: str, root: Path) -> Path:
    """The run that `text` names: a folder, `name/number`, or a name (its newest run). Raises InputError."""
    for path in (Path(text), root / text):
        if is_run(path):
            return path
        numbers = (
            [int(entry.name) for entry in path.iterdir() if entry.name.isdigit() and is_run(entry)]
            if path.is_dir()
            else []
        )
        if numbers:
            return path / str(max(numbers))
    known = sorted({run.name for run in list_runs(root)})
    raise InputError(
        f"there is no run '{text}'; known names under {root}: {', '.join(known) or 'none'} (see: modelopt runs)"
    )


def find_search(text: str, root: Path) -> Path:
    """As `find_run`, of searches: a name stands for its newest run that is one, whatever was run since."""
    path = find_run(text, root)
    if (path / _STUDY).exists() or path in (Path(text), root / text):
        return path
    searches = [run for run in path.parent.iterdir() if run.name.isdigit() and (run / _STUDY).exists()]
    return max(searches, key=lambda run: int(run.name), default=path)


def summarise(path: Path) -> RunSummary:
    """The run in `path`; what is missing or damaged in it is left empty."""
    try:
        content: dict[str, Any] = json.loads((path / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    status = "running" if locked(path) else str(content.get("status", "interrupted"))
    return RunSummary(
        name=path.parent.name,
        number=int(path.name) if path.name.isdigit() else 0,
        path=path,
        status=status,
        workflow=str(content.get("workflow", "")),
        started=str(content.get("started", "")),
        seconds=content.get("seconds"),
        best=_main_metric(content),
        reason=str(content.get("reason", "")),
        bytes=_bytes(path),
        modified=path.stat().st_mtime,
    )


def _bytes(folder: Path) -> int:
    """Of all files below it. One that goes meanwhile, or may not be looked at, counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  (a run may hold very many)
    return total


def _main_metric(content: dict[str, Any]) -> str:
    metrics = content.get("metrics") or {}
    goals = (content.get("details") or {}).get("objective") or []
    names = [goal.split()[-1] for goal in goals] or [
        "validation.accuracy",
        "validation.rmse",
        "validation.loss",
        "loss",
    ]
    name = next((name for name in names if name in metrics), next(iter(metrics), None))
    return "" if name is None else f"{name} {metrics[name]:.4g}"
