"""`modelopt plot`: one chart of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelopt_cli.cli.options import Force, Run
from modelopt_cli.cli.running import runs_root


def plot(
    run: Run,
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="Which chart; without one, those that the run has are listed.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write: .png, .svg or .pdf; default: KIND.png.", show_default=False),
    ] = None,
    width: Annotated[
        int, typer.Option(metavar="N", min=200, max=4000, help="Width of the drawing in pixels of a screen.")
    ] = 640,
    dark: Annotated[bool, typer.Option("--dark", help="On dark paper.")] = False,
    force: Force = False,
) -> None:
    """Draw one chart of a run into a file.

    Examples:
      modelopt plot digits-mlp
      modelopt plot digits-mlp history --out history.svg
      modelopt plot runs/digits-prune/1 layers --out layers.pdf --dark
    """
    from modelopt_cli.cli import output
    from modelopt_cli.workflows.plot import charts_of, draw

    if kind is None:
        for name, says in charts_of(run, runs_root()).items():
            output.line(f"{name:<15} {says}")
        return
    path = draw(run, runs_root(), kind, out, width=width, theme="dark" if dark else "light", force=force)
    output.line(str(path))
