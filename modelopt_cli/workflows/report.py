"""The report workflow: the page (report.html) of a run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.results.files import write_text

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report


def load(run: str, root: Path) -> tuple[Report, Path | None]:
    """(the report of a run, its folder, where it has one). `run`: as a comparison takes it. Raises InputError."""
    from modelopt_cli.workflows.comparison.runs import opened

    of_run = opened(run, "A", root)
    return of_run.report, of_run.folder


def run(runs: Sequence[str], root: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Write the page and give its path. `out`: the file; by default report.html in the run's folder.

    Raises UsageError where `out` exists (without `force`) or must be given, InputError for a run that cannot be read.
    """
    from modelopt_cli.results.page.page import render

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out} is a folder; name the file to write, such as {out / 'report.html'}")
    if out is not None and out.exists() and not force:
        raise UsageError(f"{out} is there already, and nothing is overwritten; name a new file, or say --force")
    if len(runs) > 1:
        from modelopt_cli.workflows.compare import compare

        report, folder = compare(runs, root=root), None
    else:
        report, folder = load(runs[0], root)
    if out is None and folder is None:
        raise UsageError("say where the page is to be written: --out FILE.html")
    path = out if out is not None else (folder or Path()) / "report.html"
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent} is no folder; make it first, or name another file with --out")
    write_text(path, render(report, folder))
    return path
