"""The report of a run that has none yet: what its store says so far."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.report import Report
from modelopt_cli.tuning.believed import believed, best_of
from modelopt_cli.tuning.space import Space
from modelopt_cli.tuning.study import Study
from modelopt_cli.workflows.tables import best_row, schedule_table, trials_table


def unfinished_report(path: Path) -> Report:
    """The trials of the search in `path` as they are now. Raises InputError when the run has none to show."""
    store = path / "study.sqlite"
    if not store.exists():
        raise InputError(f"{path} has no report yet and no trials to show; wait for it, or start it again")
    trials, meta = Study.read(store)
    space = Space.from_spec(meta["space"])
    best = best_of(trials, believed(space, trials) if meta.get("repeats") else None)
    return Report(
        workflow="tune",
        name=path.parent.name,
        status="interrupted",
        seed=int(meta.get("seed", 0)),
        metrics=dict(best.metrics) if best else {},
        best=best_row(best),
        tables={"trials": trials_table(trials, space.paths), **schedule_table(trials, best)},
        details={"objective": meta.get("objective", []), "ended": "not yet"},
        artefacts={"directory": str(path)},
    )
