"""From an experiment with a script to what a search calls.

Its worker processes import no torch: they start at once, and one that keeps a suspended script holds little memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import StorageError
from modelopt_cli.tuning.objective import Objective, Run
from modelopt_cli.workflows.runs.script import ScriptRun, fill

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.trials.trial import Params


class CommandObjective(Objective):
    """Starts the experiment's script with a trial's values."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        """The script under way."""
        return open_script(self._experiment.with_values(params), seed)


def open_script(experiment: Experiment, seed: int) -> Run:
    """The experiment's command, started."""
    command = experiment.require_command()
    folder = Path(experiment.folder, command.cwd)
    if not folder.is_dir():
        raise StorageError(f"command.cwd: {folder} is no folder; the script is started in it")
    return ScriptRun(
        fill(command.argv, command.parameters),
        folder=str(folder),
        seed=seed,
        steps=command.steps,
        timeout=command.timeout,
        pause=command.pause,
    )
