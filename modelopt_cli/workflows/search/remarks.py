"""What a search's user should know: metrics that no trial reported, parameters and settings that came to nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.core.readable import plural
from modelopt_cli.experiment.expected_metrics import nearest
from modelopt_cli.tuning.trials.trial import State

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.trials.trial import Trial


def vain(experiment: Experiment, trials: Sequence[Trial], *, ended: bool) -> Iterator[str]:
    """Warnings for the report. `ended`: the search has come to its end, so that no further trial is to come."""
    yield from _never_reported(experiment, trials)
    waiting = [trial for trial in trials if trial.state is State.QUEUED and trial.origin in ("file", "initial")]
    if ended and waiting:
        count = plural(len(waiting), "setting")
        yield f"{count} of tuning.initial found no place among the trials; raise tuning.trials and --resume"


def _never_reported(experiment: Experiment, trials: Sequence[Trial]) -> Iterator[str]:
    """Rules that can never have held."""
    tuning = experiment.require_tuning()
    final = {name for trial in trials for name in trial.metrics}
    under_way = {name for trial in trials for point in trial.curve for name in point.metrics}
    if tuning.stop_when is not None and final:
        for name in tuning.stop_when.metrics():
            if name not in final:
                yield f"no trial reported '{name}', so stop_when.target could never hold{_instead(name, final)}"
    stopper = tuning.named_stopper
    if stopper is not None and under_way:
        for name in stopper.metrics() or [goal.metric for goal in tuning.goals]:
            if name not in under_way:
                yield (
                    f"no report held '{name}' while its trial was under way, so the stopper {stopper.name()} "
                    f"could end none{_instead(name, under_way)}"
                )
    for condition in tuning.conditions if final else ():
        name = condition.metric
        if name not in final:
            yield f"no trial reported '{name}', so none can meet {condition}{_instead(name, final)}"


def _instead(name: str, reported: set[str]) -> str:
    near = nearest(name, reported)
    return f"; did you mean '{near}'?" if near else f"; reported were: {', '.join(sorted(reported))}"


def lacking_at_first(experiment: Experiment, trial: Trial) -> str:
    """What a script's first report lacks of what it is searched by, to be told at once; empty: nothing, or none yet."""
    tuning = experiment.require_tuning()
    reported = {name for point in trial.curve for name in point.metrics} | set(trial.metrics)
    if tuning.workflow != "command" or not reported:
        return ""
    lacking = [name for name in dict.fromkeys(tuning.metrics) if name not in reported]
    if not lacking:
        return ""
    named = ", ".join(f"'{name}'" for name in lacking)
    hints = [f"did you mean '{near}'?" for near in (nearest(name, reported) for name in lacking) if near]
    last = "" if trial.state.finished else "; unless it comes in a later one, the trial counts as failed"
    return (
        f"trial {trial.number} reports {', '.join(sorted(reported))}, but not {named}, which the search looks at"
        f"{'; ' + ' '.join(hints) if hints else ''}{last}"
    )


def unheard(experiment: Experiment) -> str:
    """Parameters of a script that takes none at all; empty: it takes some."""
    command = experiment.command
    if command is None or not command.unused:
        return ""
    return (
        f"command.argv has no placeholder, so the script never gets {', '.join(command.unused)}; write e.g. "
        f"{{{command.unused[0]}}} into it"
    )
