"""`modelopt clean`: remove runs."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Annotated

import typer

from modelopt_cli.cli.running import runs_root


def clean(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Names, or name/number; default: all.", show_default=False),
    ] = None,
    keep: Annotated[int, typer.Option(metavar="N", min=0, help="Newest runs of each name to keep.")] = 0,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Only runs last changed before this many days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs, after saying how much that frees. A running one is never touched.

    It asks before; "no" removes nothing, with exit code 0.

    Examples:
      modelopt clean digits-mlp --keep 3
      modelopt clean digits-mlp/1 digits-mlp/2
      modelopt clean --older-than 30 --yes
    """
    from modelopt_cli.cli import output
    from modelopt_cli.cli.render import lists
    from modelopt_cli.core.errors import InputError, StorageError, did_you_mean
    from modelopt_cli.core.readable import plural, size
    from modelopt_cli.results.listing import list_runs

    everything = list_runs(runs_root())
    known = {each for run in everything for each in (run.name, f"{run.name}/{run.number}")}
    for name in names or ():
        if name not in known:
            raise InputError(
                f"there is no run '{name}' under {runs_root()}.{did_you_mean(name, known)} See them with: modelopt runs"
            )
    rank = {run.path: sum(o.name == run.name and o.number > run.number for o in everything) for run in everything}
    chosen = [
        run
        for run in everything
        if run.status != "running"
        and rank[run.path] >= keep
        and (not names or run.name in names or f"{run.name}/{run.number}" in names)
        and (older_than is None or time.time() - run.modified > older_than * 86_400)
    ]
    if not chosen:
        output.line(f"nothing to remove under {runs_root()}")
        return
    lists.runs(chosen, runs_root())
    freed = size(sum(run.bytes for run in chosen))
    if not yes:
        these = "this run" if len(chosen) == 1 else f"these {plural(len(chosen), 'run')}"
        if not _agreed(f"Remove {these} and free {freed}?"):
            output.line("nothing was removed")
            return
    for run in chosen:
        try:
            shutil.rmtree(run.path)
        except OSError as error:
            raise StorageError(f"{run.path} cannot be removed ({error.strerror})") from None
    output.line(f"removed {plural(len(chosen), 'run')}, freed {freed}")


def _agreed(question: str) -> bool:
    """The answer. Raises UsageError where nobody can give one, typer.Abort at Ctrl-C."""
    from modelopt_cli.core.errors import UsageError

    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():
            raise
        typer.echo()  # ends the line of the question
        raise UsageError("nothing was removed: nobody answers here; remove without being asked: --yes") from None
