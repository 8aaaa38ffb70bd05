"""Trials of earlier runs: knowledge for a study's sampler, and no trials of the study.

What counts is a finished trial that is a setting of this space and whose metrics hold this study's objectives. Its
losses are this study's. What its run did not search is taken from that run's file, or is the default of what that file
names there, else from this one's; what this study does not search must be as this one's file has it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelopt_cli.tuning.space.matching import equal_but_for, holder_of, lookup, own_value
from modelopt_cli.tuning.space.parameters import Parameter
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.events import replay
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator
from modelopt_cli.tuning.trials.trial import Params, State, Trial

_NONE = "no setting of this space"

Value = Callable[[str], Any]
"""Dotted path -> the value that a file has there. Raises KeyError."""


def unknown(path: str) -> Any:
    """The values of no file."""
    raise KeyError(path)


def no_default(path: str, get: Value) -> Any:
    """The defaults of nothing."""
    raise KeyError(path)


@dataclass(frozen=True)
class Source:
    """The trials of an earlier run; `before`: the values of its file, `now`: those of this study's file.

    `default(path, get)`: what counts at a path that a file leaves out, such as an argument of an estimator, where `get`
    gives that file's values. Raises KeyError.
    """

    trials: Sequence[Trial]
    before: Value = unknown
    now: Value = unknown
    default: Callable[[str, Value], Any] = no_default

    def value(self, path: str, file: Value) -> Any:
        """What counts at a path of a file (`before`, `now`). Raises KeyError."""
        try:
            return file(path)
        except KeyError:
            return self.default(path, file)


@dataclass(frozen=True)
class Knowledge:
    """What a study knew when it began: `trials` have numbers below 0; `left_out` counts by reason those of no use."""

    trials: tuple[Trial, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def gather(cls, sources: Iterable[Source], space: Space, evaluator: ObjectiveEvaluator) -> Knowledge:
        """From the finished trials of `sources`, in order."""
        rows: list[dict[str, Any]] = []
        left_out: Counter[str] = Counter()
        for source in sources:
            for trial in source.trials:
                row = _row(trial, source, space, evaluator)
                if isinstance(row, str):
                    left_out[row] += 1
                else:
                    rows.append(row)
        return cls.from_plain({"trials": rows, "left_out": dict(left_out)})

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Knowledge:
        """From what `to_plain` gave. Raises ValueError, LookupError or TypeError when it makes no sense."""
        rows = plain["trials"]
        queued = [("queued", i, {**row["queued"], "origin": "earlier"}) for i, row in enumerate(rows)]
        trials = replay([*queued, *(("told", i, row["told"]) for i, row in enumerate(rows))]).trials
        numbered = (dataclasses.replace(trial, number=trial.number - len(rows)) for trial in trials)
        return cls(tuple(numbered), plain["left_out"])

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for the study's store."""
        fields = ("metrics", "losses", "violation", "failure", "reason", "seconds")
        rows = [
            {
                "queued": {"params": trial.params, "seed": trial.seed},
                "told": {"state": str(trial.state), **{name: getattr(trial, name) for name in fields}},
            }
            for trial in self.trials
        ]
        return {"trials": rows, "left_out": dict(self.left_out)}

    def text(self) -> str:
        """For people: how many trials count, and why others do not."""
        reasons = "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        return f"{len(self.trials)} trials of earlier runs are known to the sampler" + (
            f"; {reasons}" if reasons else ""
        )


def study_file(run: str | Path) -> Path:
    """The store of a run, given its directory or the store itself."""
    path = Path(run)
    return path / "study.sqlite" if path.is_dir() else path


def _row(trial: Trial, source: Source, space: Space, evaluator: ObjectiveEvaluator) -> dict[str, Any] | str:
    """The trial as `from_plain` takes it, or why it is of no use."""
    if trial.state not in (State.COMPLETED, State.STOPPED):
        return "failed or not finished"
    told = evaluator.verdict(trial.metrics, trial.reason if trial.state is State.STOPPED else "", trial.seconds)
    if told["losses"] is None:
        return str(told["reason"])
    params = setting(space, trial.params, source)
    if isinstance(params, str):
        return params
    return {"queued": {"params": params, "seed": trial.seed}, "told": {**told, "state": str(trial.state)}}


def setting(space: Space, given: Params, source: Source) -> Params | str:
    """The setting of `space` that an earlier trial's `given` stands for; a text: why it is none."""
    whole = _sections(given)
    before, now = (_with(whole, file) for file in (source.before, source.now))

    def get(path: str) -> Any:
        with suppress(KeyError):
            return source.value(path, before)
        return source.value(path, now)

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
    return params if all(_kept(path, value, params, space, source) for path, value in given.items()) else _NONE


def _with(whole: Params, file: Value) -> Value:
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


def _kept(path: str, value: Any, params: Params, space: Space, source: Source) -> bool:
    """Whether what an earlier run searched at `path` is the same in the setting: searched too, or fixed to the same."""
    if path in params:
        return True
    holder = holder_of(path, params)
    if holder is not None:
        return equal_but_for(value, lookup(params[holder], path[len(holder) :]), path, space.paths)
    if any(path.startswith(f"{own}.") for own in params):
        return False  # in a section that is chosen here and does not name it
    try:
        return equal_but_for(value, source.value(path, _with(params, source.now)), path, space.paths)
    except KeyError:
        return False
