"""The report of a search that is under way, was interrupted or failed: the trials that its store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import InputError
from modelopt_cli.results.trial_files import LOGS
from modelopt_cli.tuning.analysis.replication import best_of, posterior
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.table import curves_table, trials_table
from modelopt_cli.workflows.search.summary import search_summary
from modelopt_cli.workflows.search.tables import best_row, schedule_table, timeline_table
from modelopt_cli.workflows.shared.reporting import Outcome, provisional

if TYPE_CHECKING:
    from modelopt_cli.results.report import Report


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
    objective = meta.get("objective", [])
    goals = [Goal.parse(goal) for goal in objective]
    best = best_of(trials, posterior(space, trials) if meta.get("repeats") else None)
    outcome = Outcome(
        metrics=best.metrics if best else {},
        tables={"trials": trials_table(trials, space.paths), **schedule_table(trials, best)},
        details={
            "objective": objective,
            "space": space.describe(),
            "ended": "not yet",
            **search_summary(trials, goals, best),
        },
        beside={
            "curves": curves_table(trials, [goal.metric for goal in goals]),
            "timeline": timeline_table(Study.read_stints(store, trials)),
        },
    )
    return provisional(
        "search",
        "tune",
        outcome,
        name=path.parent.name,
        seed=int(meta.get("seed", 0)),
        best=best_row(best),
        artefacts={"directory": str(path)} | ({"logs": str(path / LOGS)} if (path / LOGS).is_dir() else {}),
        failed=failed,
    )
