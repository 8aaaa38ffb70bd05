"""The report workflow: the page (report.html) of a run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError, StorageError, UsageError
from modelopt_cli.results.files import write_text
from modelopt_cli.results.listing import find_run
from modelopt_cli.workflows.show import run_report

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report


def load(run: str, root: Path) -> tuple[Report, Path | None]:
    """(the report of a run, its folder). `run`: as find_run takes it, or a file that holds a report as JSON, as
    `modelopt train --json` prints it; that has no folder. Raises InputError.
    """
    from modelopt_cli.results.report import Report

    file = Path(run)
    if file.is_file():
        try:
            return Report.model_validate_json(file.read_bytes()), file.parent if file.name == "report.json" else None
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise InputError(f"{file} cannot be read as a report ({why}); name a run, or its report.json") from None
    folder = find_run(run, root)
    return run_report(folder), folder


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
        report, folder = _together(runs, root), None
    else:
        report, folder = load(runs[0], root)
    if out is None and folder is None:
        raise UsageError("say where the page is to be written: --out FILE.html")
    path = out if out is not None else (folder or Path()) / "report.html"
    if not path.parent.is_dir():
        raise StorageError(f"{path.parent} is no folder; make it first, or name another file with --out")
    write_text(path, render(report, folder))
    return path


def _together(runs: Sequence[str], root: Path) -> Report:
    from modelopt_cli.workflows.compare import compare

    return compare(runs, root=root)
