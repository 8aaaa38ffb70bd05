"""What a search knows of earlier runs: their trials, and what their files and this one say of what was not searched."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.tuning.earlier import Source, study_file, unknown
from modelopt_cli.tuning.study import Study

if TYPE_CHECKING:
    from collections.abc import Iterator


def sources(experiment: Experiment) -> Iterator[Source]:
    """The runs in `tuning.warm_start`. Raises InputError for one that is not there, StorageError for a damaged one."""
    now = cache(experiment.value)
    for run in experiment.require_tuning().warm_start:
        file = study_file(run)
        trials, _ = Study.read(file)
        yield Source(trials, _values(file.parent / "experiment.yaml"), now)


def _values(path: Path) -> Callable[[str], Any]:
    """The values of an earlier run's file; of none when it is not there or is no experiment any more."""
    try:
        return cache(Experiment.load(path, checked=False).value) if path.is_file() else unknown
    except ModeloptError:
        return unknown
