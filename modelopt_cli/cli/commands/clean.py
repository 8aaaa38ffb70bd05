"""`modelopt clean`: remove runs."""

from __future__ import annotations

import shutil
import time
from typing import Annotated

import typer

from modelopt_cli.cli.running import runs_root


def clean(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names, or name/number; default: all.", show_default=False)
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="Newest runs of each name to keep.")] = 0,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Only runs last changed before this many days.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs, after saying how much that frees. A running one is never touched."""
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
        typer.confirm(f"Remove {these} and free {freed}?", abort=True)
    for run in chosen:
        try:
            shutil.rmtree(run.path)
        except OSError as error:
            raise StorageError(f"{run.path} cannot be removed ({error.strerror})") from None
    output.line(f"removed {plural(len(chosen), 'run')}, freed {freed}")
