"""Cheap trials first: those that vary late stages alone, so that what comes before is made once for all of them.

A trial that changes how the model is pruned costs a pruning; one that changes the model costs a training, too. So the
first part of a search keeps the file's own values of all that an early stage depends on, spreads evenly over the rest,
and so learns what late stages do before it pays for new models. After that the sampler is free.

The settings are points of one Sobol sequence, drawn from the experiment's seed, and queued when the search begins: a
search that is resumed or replayed has the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.space.matching import own_value
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.tuning.trials.trial import CHEAP

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.space.parameters import Parameter
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params

__all__ = ["CHEAP", "cheap_count", "cheap_settings", "check", "early_paths"]

_LEAST = 4
_OPEN = 8  # where it is open how many trials there will be
_DENSE = ("data", "model", "training", "device", "seed", "evaluation")
_TEACHERS = ("data", "seed", "device", "distillation.teacher", "distillation.teachers")
_DRAWS = 1000  # points of the sequence that are looked at


def early_paths(experiment: Experiment, space: Space) -> tuple[list[str], list[str]]:
    """Searched paths: (that an early stage depends on, all others). Early are those before the first pruning."""
    heads = _heads(experiment)
    early = [path for path in space.paths if any(is_under(path, head) or is_under(head, path) for head in heads)]
    return early, [path for path in space.paths if path not in early]


def _heads(experiment: Experiment) -> Sequence[str]:
    """Paths into the file that an early stage depends on."""
    workflow = experiment.require_tuning().workflow
    if workflow == "prune":
        return _DENSE
    if workflow == "distill":
        return _TEACHERS
    if workflow != "compress":
        return ()
    from modelopt_cli.workflows.compression.stages import plan_stages

    shared = [stage.sections for stage in plan_stages(experiment, trial=True) if not stage.own]
    return tuple(dict.fromkeys(["data", "seed", *(path for sections in shared for path in sections)])) if shared else ()


def cheap_count(experiment: Experiment, space: Space, trials: int | None) -> int:
    """How many of the first `trials` (None: it is open) are cheap ones, the file's own values among them; 0: none.

    As `tuning.cheap_first` says; auto: a third, at least 4, where the space has values of early and of late stages.
    """
    tuning = experiment.require_tuning()
    if not tuning.cheap_first or _pointless(experiment, space):
        return 0
    if tuning.cheap_first != "auto":
        return tuning.cheap_first if trials is None else min(tuning.cheap_first, trials)
    return _OPEN if trials is None else min(trials, max(_LEAST, trials // 3))


def check(experiment: Experiment, space: Space) -> None:
    """Raise UsageError where a number of cheap trials is asked for, and there can be none."""
    number, why = experiment.require_tuning().cheap_first, _pointless(experiment, space)
    if number and number != "auto" and why:
        raise UsageError(f"tuning.cheap_first is {number}, but no trial is cheaper than others: {why}; leave it out")


def _pointless(experiment: Experiment, space: Space) -> str:
    """Why cheap trials make no sense; empty: they do."""
    tuning = experiment.require_tuning()
    if tuning.workflow not in ("prune", "distill", "compress"):
        return f"the workflow {tuning.workflow} has one stage"
    if tuning.sampler.exact:
        return f"the sampler {tuning.sampler.name()} tries its list in order"
    scheduler = tuning.named_scheduler
    if scheduler is not None and scheduler.copies:
        return f"the scheduler {scheduler.name()} begins with settings of its own"
    early, late = early_paths(experiment, space)
    if not early:
        return "nothing that is searched changes an early stage, which is made once anyway"
    if not late:
        return f"all that is searched changes an early stage ({', '.join(early)})"
    try:
        next(_points(experiment, space, early))
    except (KeyError, ValueError):
        return f"the file's own values of {', '.join(early)} lie outside tuning.space"
    return ""


def cheap_settings(experiment: Experiment, space: Space, count: int) -> list[Params]:
    """Up to `count` different settings that have the file's own values of all that an early stage depends on.

    The file's own setting is none of them. Fewer, where late stages have fewer settings.
    """
    if count <= 0:
        return []
    early, _ = early_paths(experiment, space)
    own = space.from_values(experiment.value)
    seen = set() if own is None else {space.canonical(own)}
    chosen: list[Params] = []
    for params in islice(_points(experiment, space, early), _DRAWS):
        key = space.canonical(params)
        if key in seen or space.broken(params) is not None:
            continue
        seen.add(key)
        chosen.append(params)
        if len(chosen) == count:
            break
    return chosen


def _points(experiment: Experiment, space: Space, early: Sequence[str]) -> Iterator[Params]:
    """Settings of the sequence, without end. Raises KeyError or ValueError for values of the file outside the space."""
    import numpy as np
    from scipy.stats import qmc

    rng = np.random.default_rng(derive(experiment.seed, "cheap"))
    sequence = qmc.Sobol(max(space.dim, 1), scramble=True, rng=rng)
    while True:
        for point in sequence.random(64):

            def pick(position: int, parameter: Parameter, point: np.ndarray = point) -> object:
                if parameter.path in early:
                    return own_value(parameter, experiment.value(parameter.path), space.paths)
                return parameter.decode(float(point[position]))

            yield space.walk(pick)
