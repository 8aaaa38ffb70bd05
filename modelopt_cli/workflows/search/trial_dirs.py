"""Whose folder is kept while scripts are searched: the best trial's, the front's, and those that are not at an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from pathlib import Path

    from modelopt_cli.results.trial_files import TrialFiles
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import Trial


class TrialDirs:
    """The folders of a search's trials. Where settings are repeated, which trial is best is known at the end only."""

    def __init__(self, files: TrialFiles, study: Study) -> None:
        """Raises StorageError where no folders can be made."""
        self._files, self._study = files, study
        files.prepare()
        self._there = files.numbers()

    def changed(self, trial: Trial) -> None:
        """A trial is begun: it gets its folder. It has ended: folders that nobody needs any more are removed.

        Raises StorageError where the folder cannot be made.
        """
        if trial.state is State.RUNNING and not trial.curve:
            self._files.prepare(trial.number)
            self._there.add(trial.number)
        elif trial.state is State.FAILED or (trial.state.finished and not self._study.repeats):
            self._remove_unneeded(ended=False)

    def close(self) -> Path | None:
        """The search has ended, or was stopped: only what is needed stays. The best trial's folder, where there is one
        with something in it."""
        self._remove_unneeded(ended=True)
        finished = {trial.number for trial in self._study.trials if trial.state.finished}
        self._files.remove_empty(finished & self._there)
        best = self._study.best
        path = None if best is None else self._files.trial_dir(best.number)
        return path if path is not None and path.is_dir() else None

    def _remove_unneeded(self, *, ended: bool) -> None:
        study = self._study
        kept = {trial.number for trial in study.front} if len(study.goals) > 1 else set()
        if study.best is not None:
            kept.add(study.best.number)
        removed = {
            number
            for number in self._there - kept
            if number < len(study.history)
            and (trial := study.history[number]).state.finished
            and (ended or trial.state is State.FAILED or not study.repeats)
        }
        self._files.remove(removed)
        self._there -= removed
