"""`modelopt report`: the page of a run, or of several side by side."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Force, Runs
from modelopt_cli.cli.running import runs_root


def report(
    runs: Runs,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write; default: report.html in the run's folder.", show_default=False
        ),
    ] = None,
    force: Force = False,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a page that shows a run: one file, to be opened without network or server. Several runs: side by side.

    Examples:
      modelopt report digits-mlp --open
      modelopt report runs/digits-mlp/2 --out monday.html
      modelopt report digits-mlp/1 digits-mlp/2 --out both.html
    """
    from modelopt_cli.cli import output
    from modelopt_cli.workflows.report import run

    path = run(runs, runs_root(), out, force=force)
    output.line(str(path))
    if open_:
        webbrowser.open(path.absolute().as_uri())
