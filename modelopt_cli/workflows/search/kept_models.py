"""The models that a search keeps of its trials: of the best one, and with several objectives of the whole front.

While the search runs they lie in a folder of its own (`.models` of the run directory), by the trials' seeds, written by
the processes that computed the trials; who leaves the front is forgotten at once, so that there are never many more
than the front has points. At the end, and when the search is interrupted, those of the front appear in `front/` by the
trials' numbers. They are the same bytes there, not a second copy, where the file system has links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.results.files import link_or_copy
from modelopt_cli.tuning.trials.running_front import RunningFront
from modelopt_cli.workflows.factory import files_kept, forget, kept_model

if TYPE_CHECKING:
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import Trial

MODELS = ".models"
"""The folder in a run directory in which models lie while the search runs."""
FRONT = "front"
"""The folder in a run directory with the models of the front."""


class KeptModels:
    """Of one search. `folder`: where trials leave their models."""

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder, self._study = folder, study
        self._front = RunningFront.of(study.trials) if len(study.goals) > 1 else None
        self._best = study.best

    def ended(self, trial: Trial) -> None:
        """A trial has ended: models that nobody needs any more are removed."""
        best, before = self._study.best, self._best
        self._best = best
        if self._front is not None:
            unneeded = self._front.add_trial(trial)
        else:
            unneeded = [] if best is not None and best.number == trial.number else [trial.number]
            # Of settings that are repeated, what was best may be believed to be so again.
            if before is not None and best is not None and before.number != best.number and not self._study.repeats:
                unneeded.append(before.number)
        for number in unneeded:
            forget(self._folder, self._study.history[number].seed)

    def publish(self, directory: Path, trials: Sequence[Trial]) -> dict[int, str]:
        """Let `front/` of the run directory hold the models of these trials, and no others; number -> file.

        The file is told by its path from the run directory. Trials without a kept model are left out. Raises
        StorageError where the folder cannot be written.
        """
        folder = directory / FRONT
        kept = {trial.number: kept_model(self._folder, trial.seed) for trial in trials}
        kept = {number: path for number, path in kept.items() if path.exists()}
        seeds = {trial.number: trial.seed for trial in trials}
        files = {
            f"{stem_of(number)}{ending}": source
            for number in kept
            for ending, source in files_kept(self._folder, seeds[number]).items()
        }
        if folder.is_dir():
            for path in folder.glob("trial-*"):
                if path.name not in files:
                    path.unlink(missing_ok=True)
        if files:
            folder.mkdir(exist_ok=True)
            for name, source in files.items():
                link_or_copy(source, folder / name)
        elif folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        return {number: f"{FRONT}/{stem_of(number)}.pt" for number in kept}


def stem_of(number: int) -> str:
    """What the names of a trial's files in `front/` begin with."""
    return f"trial-{number}"


def model_of(directory: Path, trial: Trial) -> Path | None:
    """The kept model of a trial of the search in `directory`, also of one that runs or was killed; None: there is none.

    What lies beside it (`kept_files`) has the same name up to the last ending.
    """
    places = (directory / FRONT / f"{stem_of(trial.number)}.pt", kept_model(directory / MODELS, trial.seed))
    return next((path for path in places if path.is_file()), None)


def kept_numbers(directory: Path, trials: Sequence[Trial]) -> Mapping[int, Path]:
    """Trial -> its kept model, of all that have one."""
    paths = {trial.number: model_of(directory, trial) for trial in trials if trial.state.finished}
    return {number: path for number, path in paths.items() if path is not None}
