"""A search's trials as a study in a storage of Optuna's, which its dashboard and its own API open.

What a trial of Optuna's has no field for stands in its user attributes: all metrics under their names, and what
OWN_ATTRIBUTES lists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.references import without_values
from modelopt_cli.tuning.exchange.optuna_distributions import Columns
from modelopt_cli.tuning.samplers._common.quiet_optuna import quietly
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import State, Trial

OWN_ATTRIBUTES = ("state", "origin", "seed", "seconds", "steps", "reason", "failure", "parent", "born")
"""User attributes that are no metrics; a metric of such a name goes by `metric.NAME`."""
METRIC = "metric."

_STATES = {
    State.QUEUED: TrialState.WAITING,
    State.RUNNING: TrialState.RUNNING,
    State.PAUSED: TrialState.RUNNING,
    State.COMPLETED: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}
_CONSTRAINTS = "constraints"
"""The system attribute in which all versions of Optuna and its dashboard look: a list, positive is violated."""
_LARGEST = 1.7976931348623157e308  # stands for infinity, which JSON cannot hold


@dataclass(frozen=True)
class WrittenStudy:
    """A study to write. `times`: number of a trial -> when it began and ended, seconds since the epoch."""

    name: str
    space: Space
    goals: Sequence[Goal]
    constraints: Sequence[Condition]
    trials: Sequence[Trial]
    times: Mapping[int, tuple[float | None, float | None]]
    attributes: Mapping[str, Any]


def write(study: WrittenStudy, file: Path) -> list[int]:
    """Write the study into a new SQLite file; the numbers of the trials that Optuna itself finds best, in order.

    With one objective that is one number, or none where no completed trial meets the constraints; with several, the
    front.
    """
    with quietly(), storage_in(file) as storage:
        made = optuna.create_study(
            storage=storage,
            study_name=study.name,
            directions=[StudyDirection.MAXIMIZE if goal.maximize else StudyDirection.MINIMIZE for goal in study.goals],
        )
        made.set_metric_names([goal.metric for goal in study.goals])
        for key, value in without_values(dict(study.attributes)).items():
            made.set_user_attr(key, value)
        for trial in _frozen(study):
            made.add_trial(trial)
        if len(study.goals) > 1:
            return [trial.number for trial in made.best_trials]
        try:
            return [made.best_trial.number]
        except ValueError:  # none is completed, or none of those meets the constraints
            return []


def _frozen(study: WrittenStudy) -> Iterator[FrozenTrial]:
    columns = Columns(study.space)
    for trial in study.trials:
        params, distributions, beyond = columns.of(trial.params)
        state = _STATES[trial.state]
        began, ended = study.times.get(trial.number, (None, None))
        yield FrozenTrial(
            number=trial.number,
            trial_id=-1,
            state=state,
            value=None,
            values=_values(trial, study.goals),
            datetime_start=_date(began if began is not None else ended or 0.0) if trial.state != "queued" else None,
            datetime_complete=_date(ended if ended is not None else began or 0.0) if trial.state.finished else None,
            params=params,
            distributions=distributions,
            user_attrs={**_attributes(trial), **without_values(beyond)},
            system_attrs=_system_attributes(trial, study.constraints),
            intermediate_values=dict(_curve(trial, study.goals[0])),
        )


def _values(trial: Trial, goals: Sequence[Goal]) -> list[float] | None:
    """None also of a stopped trial that does not count, since it was measured on a part alone."""
    return None if trial.losses is None else [trial.metrics[goal.metric] for goal in goals]


def _curve(trial: Trial, goal: Goal) -> Iterable[tuple[int, float]]:
    """Of the first objective: Optuna's trials have one curve."""
    return ((point.step, point.metrics[goal.metric]) for point in trial.curve if goal.metric in point.metrics)


def _system_attributes(trial: Trial, constraints: Sequence[Condition]) -> dict[str, Any]:
    if trial.losses is None or not constraints:
        return {}
    return {_CONSTRAINTS: [_violation(condition, trial.metrics) for condition in constraints]}


def _violation(condition: Condition, metrics: Mapping[str, float]) -> float:
    """Above 0 exactly where the condition is not met; else the distance to its bound, negative."""
    if not condition.met(metrics):
        return min(condition.violation(metrics), _LARGEST)
    return -max(condition.margin(metrics) or 0.0, 0.0)


def _attributes(trial: Trial) -> dict[str, Any]:
    own = {
        "state": str(trial.state),
        "origin": trial.origin,
        "seed": trial.seed,
        "seconds": trial.seconds,
        "steps": trial.step,
        "reason": trial.reason,
        "failure": trial.failure,
        "parent": trial.parent,
        "born": trial.born if trial.parent is not None else None,
    }
    metrics = {
        METRIC + name if name in own or name.startswith(METRIC) else name: value if math.isfinite(value) else str(value)
        for name, value in trial.metrics.items()
    }
    known = {key: value for key, value in own.items() if value not in ("", None)}
    kept: dict[str, Any] = without_values({**metrics, **known})
    return kept


def _date(seconds: float) -> datetime:
    """As Optuna keeps it: in local time, without zone."""
    return datetime.fromtimestamp(seconds)


@contextmanager
def storage_in(file: Path, *, check: bool = True) -> Iterator[RDBStorage]:
    """A storage in a SQLite file, let go of at the end; `check`: that its schema is that of this version of Optuna."""
    storage = RDBStorage(f"sqlite:///{file}", skip_compatibility_check=not check)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
