"""A study in a notebook, and in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelopt_cli.core import markup
from modelopt_cli.core.readable import number

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial

_LAST = 5  # trials that are shown
_SETTINGS = 6  # columns of them


def as_html(
    trials: Sequence[Trial], best: Trial | None, goals: Sequence[Goal], sampler: str, paths: Sequence[str]
) -> str:
    """The objective, how many trials are in which state, the best one, the last ones. `paths`: what is searched."""
    return markup.card(
        markup.heading("Study", " and ".join(map(str, goals)), _counts(trials), sampler),
        "" if best is None else markup.figures([_figure(goal, best) for goal in goals]),
        "" if best is None else markup.facts(best.params),
        _last(trials, goals, paths),
    )


def in_a_line(trials: Sequence[Trial], best: Trial | None, goals: Sequence[Goal]) -> str:
    """`Study(minimize loss: 12 trials, best loss 0.003 of trial 7)`."""
    parts = [f"{len(trials)} trial{'s' * (len(trials) != 1)}"]
    if best is not None:
        metric = goals[0].metric
        parts.append(f"best {metric} {number(best.metrics.get(metric))} of trial {best.number}")
    return f"Study({', '.join(map(str, goals))}: {', '.join(parts)})"


def _counts(trials: Sequence[Trial]) -> str:
    counts = Counter(str(trial.state) for trial in trials)
    states = ", ".join(f"{n} {state}" for state, n in counts.items())
    return f"{len(trials)} trial{'s' * (len(trials) != 1)}{f': {states}' if states else ''}"


def _figure(goal: Goal, best: Trial) -> tuple[str, str, str]:
    return f"best {goal.metric}", number(best.metrics.get(goal.metric)), f"trial {best.number}"


def _last(trials: Sequence[Trial], goals: Sequence[Goal], paths: Sequence[str]) -> str:
    """The newest trials, newest first, with as many settings as are read at a glance."""
    if not trials:
        return markup.paragraph("no trials yet", muted=True)
    shown = list(paths)[:_SETTINGS]
    columns = ["trial", "state", *(goal.metric for goal in goals), *shown, "reason"]
    rows = [
        [
            trial.number,
            str(trial.state),
            *(trial.metrics.get(goal.metric) for goal in goals),
            *(trial.params.get(path) for path in shown),
            trial.reason,
        ]
        for trial in reversed(trials[-_LAST:])
    ]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    earlier = len(trials) - len(rows)
    more = f"{earlier} earlier trial{'s' * (earlier != 1)}: study.to_pandas()" if earlier else ""
    return markup.table(columns, rows) + markup.paragraph(more, muted=True)
