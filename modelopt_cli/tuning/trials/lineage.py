"""Whose state a trial went on from, and what was known of it, and of those, at a step."""

from __future__ import annotations

from collections.abc import Sequence

from modelopt_cli.tuning.trials.ranking import Losses
from modelopt_cli.tuning.trials.trial import Trial


def lineage(trials: Sequence[Trial], trial: Trial) -> list[Trial]:
    """The trial and those before it, the one that began at step 0 first; each goes up to the next one's `born`."""
    line = [trial]
    while line[0].parent is not None:
        line.insert(0, trials[line[0].parent])
    return line


def losses_at(trials: Sequence[Trial], trial: Trial, step: int) -> Losses | None:
    """The last losses that the trial, or those before it, reported up to `step`; None where there are none."""
    for each in reversed(lineage(trials, trial)):
        known = (point.losses for point in reversed(each.curve) if point.step <= step and point.losses is not None)
        losses = next(known, None)
        if losses is not None:
            return losses
        step = min(step, each.born)
    return None
