"""What a search knows of earlier runs: their trials, and what their files and this one say of what was not searched."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import MissingExtraError, ModeloptError, UsageError
from modelopt_cli.experiment.document.marks import Finding
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.study.warm_start import EarlierRun, optuna_run, study_file, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator


def earlier_runs(experiment: Experiment) -> Iterator[EarlierRun]:
    """The runs in `tuning.warm_start`. Raises InputError for one that is not there, StorageError for a damaged one.

    For a study of Optuna's it is an ExperimentError with the line, where it cannot be read or had other objectives.
    """
    now = cache(experiment.value)
    settings = experiment.require_tuning()
    for index, run in enumerate(settings.warm_start):
        address = OptunaAddress.parse(run)
        if address is not None:
            try:
                yield optuna_run(address, search_space(experiment), settings.goals, now)
            except MissingExtraError:
                raise
            except UsageError as error:
                rule, _, remedy = str(error).rpartition("; ")
                experiment.refuse([Finding(("tuning", "warm_start", index), rule, remedy)])
            continue
        file = study_file(run)
        trials, _ = Study.read(file)
        yield EarlierRun(trials, _values(file.parent / "experiment.yaml"), now, _Defaults(experiment))


class _Defaults:
    """Arguments that a file leaves out of an estimator, as the estimator itself has them.

    Imported are scikit-learn's own classes, and those that this experiment's file names.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._named = set(_estimators(experiment.document))
        self._folder = getattr(experiment.model, "folder", None)

    def __call__(self, path: str, get: Callable[[str], Any]) -> Any:
        from modelopt_cli.models.architectures._estimators import default_argument

        section, _, name = path.rpartition(".")
        estimator = get(f"{section}.estimator") if section.partition(".")[0] == "model" else None
        if not isinstance(estimator, str) or not (estimator.startswith("sklearn.") or estimator in self._named):
            raise KeyError(path)
        try:
            return default_argument(estimator, name, self._folder)
        except UsageError:
            raise KeyError(path) from None


def _estimators(values: object) -> Iterator[str]:
    """Every dotted path that some section names as its estimator."""
    if isinstance(values, dict):
        estimator = values.get("estimator")
        if isinstance(estimator, str):
            yield estimator
    for item in values.values() if isinstance(values, dict) else values if isinstance(values, list) else ():
        yield from _estimators(item)


def _values(path: Path) -> Callable[[str], Any]:
    """The values of an earlier run's file; of none when it is not there or is no experiment any more."""
    try:
        return cache(Experiment.load(path, checked=False).value) if path.is_file() else unknown
    except ModeloptError:
        return unknown
