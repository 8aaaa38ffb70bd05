"""Trials of a study in a SQLite file of Optuna's, for the warm start of a search.

The file is copied by SQLite's own means, from a connection that only reads, and Optuna opens the copy: it may bring an
old schema up to date there. Optuna keeps numbers, texts and JSON; nothing in its files is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import InputError, UsageError, did_you_mean
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.exchange.optuna_distributions import categories
from modelopt_cli.tuning.exchange.optuna_writing import METRIC, OWN_ATTRIBUTES, storage_in
from modelopt_cli.tuning.samplers._common.quiet_optuna import quietly
from modelopt_cli.tuning.space.matching import own_value
from modelopt_cli.tuning.space.parameters import Parameter
from modelopt_cli.tuning.space.space import Choice, Ordinal, Space
from modelopt_cli.tuning.trials.trial import Metrics, Params, Point, State, Trial

_MAGIC = b"SQLite format 3\0"
_STATES = {
    TrialState.WAITING: State.QUEUED,
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETED,
    TrialState.PRUNED: State.STOPPED,
    TrialState.FAIL: State.FAILED,
}
_METRIC_NAMES = "study:metric_names"


@dataclass(frozen=True)
class ReadStudy:
    """A study as Optuna has it; `maximize` and `metrics` (empty: it names none) are of its objectives, in order."""

    name: str
    maximize: tuple[bool, ...]
    metrics: tuple[str, ...]
    trials: Sequence[FrozenTrial]


@dataclass(frozen=True)
class EarlierTrials:
    """Trials of a study as those of a search; `left_out` counts, by reason, those whose parameters are not known."""

    trials: list[Trial]
    left_out: dict[str, int]


def read(address: OptunaAddress) -> ReadStudy:
    """The study at `address`. Raises InputError, whose message is `rule; remedy`, where there is none."""
    file = address.path
    _check(file)
    with TemporaryDirectory(prefix="modelopt-") as folder:
        copy = Path(folder, "copy.db")
        _copy(file, copy)
        try:
            with quietly(), storage_in(copy, check=False) as storage:
                _bring_up_to_date(storage, file)
                return _study(storage, address)
        except UsageError:
            raise
        except Exception as error:  # what others wrote can be wrong in every way that SQLAlchemy and JSON know
            raise _damaged(file, f"{type(error).__name__}: {error}".splitlines()[0]) from None


def earlier_trials(
    study: ReadStudy, space: Space, goals: Sequence[Goal], named: Callable[[str], bool]
) -> EarlierTrials:
    """The study's trials in this space's parameters and this search's objectives.

    A parameter goes by its path, or by the end of it (`lr`, `optimizer.lr`) where just one path ends so. `named(path)`:
    whether the experiment's file has a value there, which a trial of the study must agree with. Raises UsageError,
    `rule; remedy`, where the study's objectives are others.
    """
    order = _objectives(study, goals)
    trials: list[Trial] = []
    left_out: Counter[str] = Counter()
    for frozen in study.trials:
        trial = _trial(frozen, [goals[i].metric for i in range(len(goals))], order)
        try:
            params = _params(frozen.params, space, named)
        except LookupError as error:
            left_out[str(error.args[0])] += 1
            continue
        trials.append(dataclasses.replace(trial, params=params))
    return EarlierTrials(trials, dict(left_out))


# The file


def _check(file: Path) -> None:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"{file} {what}; name a SQLite file that Optuna wrote")
    try:
        with file.open("rb") as stream:
            start = stream.read(len(_MAGIC))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); name a SQLite file that Optuna wrote") from None
    if start != _MAGIC:
        raise InputError(f"{file} is no SQLite database; name a SQLite file that Optuna wrote")


def _copy(file: Path, copy: Path) -> None:
    """Raises InputError for a database that is damaged or not of Optuna's."""
    uri = f"{file.absolute().as_uri()}?mode=ro"
    try:
        with closing(_connected(uri)) as source, closing(sqlite3.connect(copy)) as target:
            names = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if {"meta", "events"} <= names:
                raise InputError(f"{file} is a study of modelopt, not of Optuna; leave out 'optuna:' and 'sqlite:///'")
            if not {"studies", "trials", "alembic_version"} <= names:
                held = ", ".join(sorted(names)[:5]) or "none"
                raise InputError(f"{file} is no storage of Optuna (tables: {held}); name a file that Optuna wrote")
            source.backup(target)
    except sqlite3.Error as error:
        raise _damaged(file, str(error)) from None


def _connected(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=10.0)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        connection.close()
        # A folder that cannot be written can hold no reader's part of a log; nobody writes the file either.
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return connection


def _bring_up_to_date(storage: RDBStorage, file: Path) -> None:
    current, head = storage.get_current_version(), storage.get_head_version()
    if current == head:
        return
    if current not in storage.get_all_versions():
        raise InputError(
            f"{file} was written by a newer Optuna (schema {current}) than is installed here ({optuna.__version__}); "
            "install that one"
        )
    storage.upgrade()


def _study(storage: RDBStorage, address: OptunaAddress) -> ReadStudy:
    studies = {study.study_name: study for study in storage.get_all_studies()}
    names = ", ".join(f"'{name}'" for name in studies) or "none"
    if not address.study and len(studies) != 1:
        example = OptunaAddress(address.file, next(iter(studies), "STUDY"))
        raise InputError(f"{address.file} holds {len(studies)} studies: {names}; write which one, such as {example}")
    if address.study and address.study not in studies:
        near = did_you_mean(address.study, studies)
        raise InputError(f"{address.file} holds no study '{address.study}', but {names}; write one of these.{near}")
    study = studies[address.study] if address.study else next(iter(studies.values()))
    metrics = study.system_attrs.get(_METRIC_NAMES) or ()
    return ReadStudy(
        study.study_name,
        tuple(direction == StudyDirection.MAXIMIZE for direction in study.directions),
        tuple(str(name) for name in metrics) if len(metrics) == len(study.directions) else (),
        storage.get_all_trials(study._study_id),
    )


def _damaged(file: Path, what: str) -> InputError:
    return InputError(f"{file} is damaged, or no storage of Optuna ({what}); restore it from a copy, or leave it out")


# Objectives


def _objectives(study: ReadStudy, goals: Sequence[Goal]) -> list[int]:
    """Which of the study's values is that of each goal: by the metrics that it names, else in order."""
    wanted = [goal.metric for goal in goals]
    if study.metrics and set(wanted) <= set(study.metrics):
        order = [study.metrics.index(metric) for metric in wanted]
    elif len(study.maximize) == len(goals):
        order = list(range(len(goals)))
    else:
        named = f" ({', '.join(study.metrics)})" if study.metrics else ""
        raise UsageError(
            f"the study '{study.name}' has {len(study.maximize)} objectives{named}, but tuning.objective has "
            f"{len(goals)} ({', '.join(wanted)}); write as many in the same order, or leave it out of warm_start"
        )
    for goal, position in zip(goals, order, strict=True):
        if study.maximize[position] != goal.maximize:
            theirs, ours = ("maximized", "minimized") if study.maximize[position] else ("minimized", "maximized")
            other = Goal(goal.metric, not goal.maximize)
            raise UsageError(
                f"the study '{study.name}' {theirs} what would count as {goal.metric} here, which is {ours}; write "
                f"'{other}' if it is the same metric, or leave the study out of warm_start"
            )
    return order


def _trial(frozen: FrozenTrial, metrics: Sequence[str], order: Sequence[int]) -> Trial:
    """The trial without its setting. A pruned one has the value of its last report."""
    state = _STATES[frozen.state]
    curve = tuple(Point(step, {metrics[0]: float(value)}) for step, value in sorted(frozen.intermediate_values.items()))
    values: Metrics = {}
    if frozen.values is not None and len(frozen.values) > max(order):
        values = {metric: float(frozen.values[position]) for metric, position in zip(metrics, order, strict=True)}
    elif state is State.STOPPED and curve and len(metrics) == 1:
        values = dict(curve[-1].metrics)
    elif state is State.STOPPED:
        state = State.FAILED  # it reported nothing, so nothing can be learnt from it
    attributes = {key: value for key, value in frozen.user_attrs.items() if key not in OWN_ATTRIBUTES}
    others = {
        key.removeprefix(METRIC): float(value)
        for key, value in attributes.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    duration = frozen.duration
    return Trial(
        frozen.number,
        {},
        0,
        state,
        curve,
        {**others, **values},
        seconds=0.0 if duration is None else duration.total_seconds(),
        origin="earlier",
    )


# Parameters


def _params(given: dict[str, Any], space: Space, named: Callable[[str], bool]) -> Params:
    """The values by path. Raises LookupError with the reason where a name stands for none, or for several."""
    params: Params = {}
    for name, value in given.items():
        path = _path(name, space.paths, named)
        parameters = [parameter for parameter in space.parameters if parameter.path == path]
        params[path] = _value(value, parameters, space.paths)
    return params


def _path(name: str, paths: Sequence[str], named: Callable[[str], bool]) -> str:
    for candidate in (name, name.partition(" [")[0]):  # as `modelopt export` names it where a branch matters
        if candidate in paths:
            return candidate
    ends = [path for path in paths if path.endswith(f".{name}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise LookupError(f"their parameter '{name}' could be {' or '.join(ends)}")
    if named(name):
        return name
    raise LookupError(f"their parameter '{name}' is not searched here")


def _value(value: Any, parameters: Sequence[Parameter], paths: Sequence[str]) -> Any:
    """This space's own value: as `modelopt export` writes it, equal to it, or what its text stands for otherwise (JSON,
    or the `type` of a section).
    """
    for parameter in parameters:
        if isinstance(parameter, Choice | Ordinal):
            held = categories(parameter.values)
            same = [index for index, each in enumerate(held) if each == value and type(each) is type(value)]
            if same:
                return parameter.value(same[0])
        with suppress(ValueError):
            return own_value(parameter, value, paths)
    for parameter in parameters if isinstance(value, str) else ():
        with suppress(ValueError, RecursionError):
            return own_value(parameter, json.loads(value), paths)
        types = [own for own in _sections(parameter) if own["type"] == value]
        if len(types) == 1:
            return types[0]
    return value


def _sections(parameter: Parameter) -> list[dict[str, Any]]:
    values = parameter.values if isinstance(parameter, Choice) else ()
    return [value for value in values if isinstance(value, dict) and "type" in value]
