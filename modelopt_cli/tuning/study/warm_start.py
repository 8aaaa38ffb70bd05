"""The warm start of a study: trials of earlier runs, which its sampler knows and which are no trials of the study.

Earlier runs are modelopt's own, or studies of Optuna's. What counts is a finished trial that is a setting of this space
and whose metrics hold this study's objectives. Its losses are this study's. What its run did not search is taken from
that run's file, or is the default of what that file names there, else from this one's; what this study does not search
must be as this one's file has it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.extras import require
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.space.matching import equal_but_for, holder_of, lookup, own_value
from modelopt_cli.tuning.space.parameters import Parameter
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.log import replay
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator, Verdict
from modelopt_cli.tuning.trials.trial import Params, State, Trial

_NONE = "no setting of this space"

Values = Callable[[str], Any]
"""Dotted path -> the value that a file has there. Raises KeyError."""


class _StoredSetting(TypedDict):
    params: Params
    seed: int


class StoredTrial(TypedDict):
    """A trial of an earlier run in a study's header, as two of its events would have it."""

    queued: _StoredSetting
    told: Verdict


class StoredWarmStart(TypedDict):
    """A WarmStart in a study's header."""

    trials: list[StoredTrial]
    left_out: dict[str, int]


def unknown(path: str) -> Any:
    """The values of no file."""
    raise KeyError(path)


def no_default(path: str, get: Values) -> Any:
    """The defaults of nothing."""
    raise KeyError(path)


@dataclass(frozen=True)
class EarlierRun:
    """The trials of an earlier run; `before`: the values of its file, `now`: those of this study's file.

    `default(path, get)`: what counts at a path that a file leaves out, such as an argument of an estimator, where `get`
    gives that file's values. Raises KeyError.
    """

    trials: Sequence[Trial]
    before: Values = unknown
    now: Values = unknown
    default: Callable[[str, Values], Any] = no_default
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # trials beside these, of no use, by reason

    def value(self, path: str, file: Values) -> Any:
        """What counts at a path of a file (`before`, `now`). Raises KeyError."""
        try:
            return file(path)
        except KeyError:
            return self.default(path, file)


@dataclass(frozen=True)
class WarmStart:
    """What a study knew of earlier runs when it began.

    `trials` have numbers below 0; `left_out` counts by reason those of no use.
    """

    trials: tuple[Trial, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def gather(cls, runs: Iterable[EarlierRun], space: Space, evaluator: ObjectiveEvaluator) -> WarmStart:
        """From the finished trials of `runs`, in order."""
        rows: list[StoredTrial] = []
        left_out: Counter[str] = Counter()
        for run in runs:
            left_out.update(run.left_out)
            for trial in run.trials:
                row = _row(trial, run, space, evaluator)
                if isinstance(row, str):
                    left_out[row] += 1
                else:
                    rows.append(row)
        return cls.from_plain({"trials": rows, "left_out": dict(left_out)})

    @classmethod
    def from_plain(cls, plain: StoredWarmStart) -> WarmStart:
        """From what `to_plain` gave. Raises ValueError, LookupError or TypeError when it makes no sense."""
        rows = plain["trials"]
        queued = [("queued", number, {**row["queued"], "origin": "earlier"}) for number, row in enumerate(rows)]
        trials = replay([*queued, *(("told", number, row["told"]) for number, row in enumerate(rows))]).trials
        numbered = (dataclasses.replace(trial, number=trial.number - len(rows)) for trial in trials)
        return cls(tuple(numbered), plain["left_out"])

    def to_plain(self) -> StoredWarmStart:
        """Plain values, for the study's header."""
        return {"trials": [_stored(trial) for trial in self.trials], "left_out": dict(self.left_out)}

    def text(self) -> str:
        """For people: how many trials count, and why others do not."""
        reasons = "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        return f"{len(self.trials)} trials of earlier runs are known to the sampler" + (
            f"; {reasons}" if reasons else ""
        )


def optuna_run(address: OptunaAddress, space: Space, goals: Sequence[Goal], now: Values = unknown) -> EarlierRun:
    """A study of Optuna's as an earlier run; `now`: the values of this study's file.

    Raises MissingExtraError without Optuna, UsageError for a file that is none of Optuna's and for a study with other
    objectives.
    """
    require("optuna", "optuna")
    from modelopt_cli.tuning.exchange.optuna_reading import earlier_trials, read

    def named(path: str) -> bool:
        with suppress(KeyError):
            now(path)
            return True
        return False

    known = earlier_trials(read(address), space, goals, named)
    return EarlierRun(known.trials, now=now, left_out=known.left_out)


def study_file(run: str | Path) -> Path:
    """The store of a run, given its directory or the store itself."""
    path = Path(run)
    return path / "study.sqlite" if path.is_dir() else path


def _stored(trial: Trial) -> StoredTrial:
    return {
        "queued": {"params": trial.params, "seed": trial.seed},
        "told": {
            "state": str(trial.state),
            "metrics": dict(trial.metrics),
            "losses": None if trial.losses is None else list(trial.losses),
            "violation": trial.violation,
            "failure": trial.failure,
            "reason": trial.reason,
            "seconds": trial.seconds,
        },
    }


def _row(trial: Trial, run: EarlierRun, space: Space, evaluator: ObjectiveEvaluator) -> StoredTrial | str:
    """The trial by this study's objectives and space, or why it is of no use."""
    if trial.state not in (State.COMPLETED, State.STOPPED):
        return "failed or not finished"
    verdict = evaluator.verdict(trial.metrics, trial.reason if trial.state is State.STOPPED else "", trial.seconds)
    if verdict["losses"] is None:
        return verdict["reason"]
    params = setting(space, trial.params, run)
    if isinstance(params, str):
        return params
    return {"queued": {"params": params, "seed": trial.seed}, "told": {**verdict, "state": str(trial.state)}}


def setting(space: Space, given: Params, run: EarlierRun) -> Params | str:
    """The setting of `space` that an earlier trial's `given` stands for; a text: why it is none."""
    whole = _sections(given)
    before, now = (_with(whole, file) for file in (run.before, run.now))

    def get(path: str) -> Any:
        with suppress(KeyError):
            return run.value(path, before)
        return run.value(path, now)

    lacking: list[str] = []

    def pick(_: int, parameter: Parameter) -> Any:
        try:
            value = get(parameter.path)
        except KeyError:
            lacking.append(parameter.path)
            raise
        return own_value(parameter, value, space.paths)

    try:
        params = space.walk(pick)
    except (KeyError, ValueError):
        return f"{_NONE}: nothing says what {lacking[0]} was" if lacking else _NONE
    if space.broken(params) is not None:
        return f"they break the rule '{space.broken(params)}'"
    if space.problem(params) is not None:
        return _NONE
    return params if all(_kept(path, value, params, space, run) for path, value in given.items()) else _NONE


def _with(whole: Params, file: Values) -> Values:
    """The values of a file with those of a setting in it, sections whole."""

    def get(path: str) -> Any:
        holder = holder_of(path, whole)
        return file(path) if holder is None else lookup(whole[holder], path[len(holder) :])

    return get


def _sections(given: Params) -> Params:
    """Sections with what was searched inside them put back."""
    whole = copy.deepcopy(given)
    for path in sorted(given, key=lambda path: path.count(".")):
        for above in (other for other in given if path.startswith(f"{other}.")):
            *inner, last = path[len(above) + 1 :].split(".")
            try:
                holder = lookup(whole[above], "".join(f".{key}" for key in inner))
            except KeyError:
                continue
            if isinstance(holder, dict):
                holder[last] = given[path]
            elif isinstance(holder, list) and last.isdecimal() and int(last) < len(holder):
                holder[int(last)] = given[path]
    return whole


def _kept(path: str, value: Any, params: Params, space: Space, run: EarlierRun) -> bool:
    """Whether what an earlier run searched at `path` is the same in the setting: searched too, or fixed to the same."""
    if path in params:
        return True
    holder = holder_of(path, params)
    if holder is not None:
        return equal_but_for(value, lookup(params[holder], path[len(holder) :]), path, space.paths)
    if any(path.startswith(f"{own}.") for own in params):
        return False  # in a section that is chosen here and does not name it
    try:
        return equal_but_for(value, run.value(path, _with(params, run.now)), path, space.paths)
    except KeyError:
        return False
