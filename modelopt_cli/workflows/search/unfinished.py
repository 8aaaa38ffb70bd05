"""The report of a search that is under way, was interrupted or failed: the trials that its store holds."""

from __future__ import annotations

from pathlib import Path

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.report import Report
from modelopt_cli.tuning.analysis.replication import best_of, posterior
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.workflows.shared.tables import best_row, schedule_table, trials_table


def unfinished_report(path: Path, failed: Report | None = None) -> Report:
    """The trials of the search in `path` as they are now; with `failed`, the report that says why it failed.

    Raises InputError when the run has neither.
    """
    store = path / "study.sqlite"
    if not store.exists():
        if failed is not None:
            return failed
        raise InputError(f"{path} has no report yet and no trials to show; wait for it, or start it again")
    trials, meta = Study.read(store)
    space = Space.from_spec(meta["space"])
    best = best_of(trials, posterior(space, trials) if meta.get("repeats") else None)
    return Report(
        kind="search",
        workflow="tune",
        name=path.parent.name,
        status="interrupted" if failed is None else failed.status,
        reason="" if failed is None else failed.reason,
        started="" if failed is None else failed.started,
        seconds=0.0 if failed is None else failed.seconds,
        seed=int(meta.get("seed", 0)),
        metrics=dict(best.metrics) if best else {},
        best=best_row(best),
        tables={"trials": trials_table(trials, space.paths), **schedule_table(trials, best)},
        details={"objective": meta.get("objective", []), "ended": "not yet"},
        artefacts={"directory": str(path)},
    )
