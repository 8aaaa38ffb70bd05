"""The trials of a search as a study of Optuna's: read from the run's store, also while it is searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.extras import require
from modelopt_cli.results.details import StorageDetails
from modelopt_cli.results.files import write_whole
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import workflow_of
from modelopt_cli.tuning.analysis.replication import best_of, posterior
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.header import whole_header
from modelopt_cli.tuning.study.log import stored_table
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.trial import State
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

if TYPE_CHECKING:
    from modelopt_cli.tuning.exchange.optuna_writing import WrittenStudy
    from modelopt_cli.tuning.trials.trial import Trial

_THEIRS = {
    State.COMPLETED: "complete",
    State.STOPPED: "pruned",
    State.FAILED: "failed",
    State.RUNNING: "running",
    State.PAUSED: "running",
    State.QUEUED: "waiting",
}


def run(path: Path, out: Path | None = None, *, force: bool = False) -> Report:
    """Write the trials of the run in `path` to `out`, a SQLite file; None: NAME-NUMBER.db in the current folder.

    Raises UsageError (exit 2) for a run that is no search, for a file that exists (without `force`), without Optuna.
    """
    require("optuna", "optuna")
    name = _name(path)
    out = out if out is not None else Path(f"{name.replace('/', '-')}.db")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the file to write, such as {out / 'study.db'}")
    if out.exists() and not force:
        raise UsageError(f"{out} exists; choose another file, or overwrite it with --force")
    reporting = Reporting(None, name=name)
    with reporting.log.recording():
        outcome = _written(path, name, out)
    return reporting.report("storage", "export", outcome, artefacts={"exported": str(out)})


def _written(path: Path, name: str, out: Path) -> Outcome:
    from modelopt_cli.tuning.exchange.optuna_writing import write

    study, best = _study(path, name)
    with TemporaryDirectory(prefix="modelopt-") as folder:
        file = Path(folder, "study.db")
        theirs = write(study, file)
        content = file.read_bytes()
    write_whole(out, lambda stream: stream.write(content))
    details: StorageDetails = {
        "run": str(path),
        "format": "optuna",
        "study": name,
        "objective": [str(goal) for goal in study.goals],
        "states": dict(Counter(_THEIRS[trial.state] for trial in study.trials)),
        "best": best,
        "best_there": theirs,
    }
    metrics = {"trials": float(len(study.trials)), "export.size_bytes": float(len(content))}
    warnings = [_why_other(study.trials, best, theirs)] if best != theirs else []
    return Outcome(metrics=metrics, details=details, warnings=warnings)


def _study(path: Path, name: str) -> tuple[WrittenStudy, list[int]]:
    """What is to be written, and the numbers of the trials that are best; several of a front."""
    from modelopt_cli.tuning.exchange.optuna_writing import WrittenStudy

    file = path / "study.sqlite"
    if not file.is_file():
        what = f"is a run of modelopt {workflow_of(path)}" if workflow_of(path) else "holds no study.sqlite"
        raise InputError(f"{path} {what}, and only a search has trials; name a run of modelopt tune")
    with closing(Store(file, write=False)) as store:
        header, trials = whole_header(store), stored_table(store).trials
        times = _times(store.times(), trials)
    space = Space.from_spec(header["space"], header["rules"])
    goals = [Goal.parse(text) for text in header["objective"]]
    study = WrittenStudy(
        name,
        space,
        goals,
        [Condition.parse(text) for text in header["constraints"]],
        trials,
        times,
        {
            "objective": header["objective"],
            "constraints": header["constraints"],
            "rules": header["rules"],
            "sampler": header["sampler"],
            "seed": header["seed"],
        },
    )
    if len(goals) > 1:
        return study, [trial.number for trial in ranking.front(trials)]
    best = best_of(trials, posterior(space, trials) if header["repeats"] else None)
    return study, [] if best is None else [best.number]


def _times(
    events: Iterable[tuple[float, str, int]], trials: Sequence[Trial]
) -> dict[int, tuple[float | None, float | None]]:
    """When each trial was first started, and when it ended, seconds since the epoch."""
    began: dict[int, float] = {}
    ended: dict[int, float] = {}
    for time, kind, number in events:
        if kind == "started":
            began.setdefault(number, time)
        elif kind == "told":
            ended[number] = time
    return {trial.number: (began.get(trial.number), ended.get(trial.number)) for trial in trials}


def _why_other(trials: Sequence[Trial], ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Where Optuna's best is another trial than the search's own."""
    best = [trials[number] for number in ours]
    if any(trial.state is State.STOPPED for trial in best):
        why = "some of the best were stopped early, and pruned trials are never best for Optuna"
    elif any(trial.violation > 0 for trial in best):
        why = "no trial meets the constraints, and Optuna has no best one then"
    else:
        why = "settings were repeated, and Optuna takes the best single value"
    named = [", ".join(map(str, numbers)) or "none" for numbers in (ours, theirs)]
    return f"best here: {named[0]}; best for Optuna: {named[1]} ({why})"


def _name(path: Path) -> str:
    """As `modelopt runs` lists it, or the folder's name."""
    path = path.absolute()
    return f"{path.parent.name}/{path.name}" if path.name.isdigit() else path.name
