"""The tables of a search: its trials, the front, repeated settings, and how the best model came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from types import MappingProxyType
from typing import TYPE_CHECKING

from modelopt_cli.results.details import BestPosterior
from modelopt_cli.results.picking import CHECKPOINT, SAME_AS
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.results.tables import DEVIATION, cell, metric_column
from modelopt_cli.tuning.analysis import hypervolume
from modelopt_cli.tuning.trials.lineage import lineage

if TYPE_CHECKING:
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.study.timeline import Stint
    from modelopt_cli.tuning.trials.trial import Trial


def timeline_table(stints: Sequence[Stint]) -> Table:
    """A row for each stretch in which a trial ran, by its start; see tuning/study/timeline.py. Seconds."""
    columns = ["trial", "lane", "start", "end", "state"]
    rows: list[list[Cell]] = [
        [stint.trial, stint.lane, round(stint.start, 3), round(stint.end, 3), stint.state] for stint in stints
    ]
    return Table(columns=columns, rows=rows)


NO_MODELS: Mapping[int, str] = MappingProxyType({})


def front_tables(
    study: Study, reference: Sequence[float] | None, models: Mapping[int, str] = NO_MODELS
) -> tuple[dict[str, Table], dict[str, object]]:
    """(tables, details) of a search with several objectives, both empty for one.

    Table `front`: a row a point of the front, by the first objective, of the first trial that came there, with its
    `checkpoint` where there are `models`; where other trials came to the very same values, their numbers (`same_as`).
    Table `hypervolume`: how it grew over the trials. Details: the final `hypervolume`, and the `reference` it is
    measured from, metric -> value. `reference`: as the file gives it, None: hypervolume.reference_of.
    """
    if len(study.goals) == 1:
        return {}, {}
    goals = {goal.metric: goal.maximize for goal in study.goals}
    columns = [*goals, *(each.metric for each in study.constraints if each.metric not in goals)]
    columns = list(dict.fromkeys(columns))
    paths = study.space.paths
    points: dict[tuple[float, ...], list[Trial]] = {}
    for trial in sorted(study.front, key=lambda trial: (trial.losses or (), trial.number)):
        points.setdefault(trial.losses or (), []).append(trial)
    alike = [SAME_AS] if any(len(trials) > 1 for trials in points.values()) else []
    kept = [CHECKPOINT] if models else []
    rows: list[list[Cell]] = [
        [
            trial.number,
            *map(trial.metrics.get, columns),
            *(cell(trial.params.get(path)) for path in paths),
            *(" ".join(str(other.number) for other in others) or None for _ in alike),
            *(models.get(trial.number) for _ in kept),
        ]
        for trial, *others in points.values()
    ]
    named = [metric_column(name, ("trial", *paths, *alike, *kept)) for name in columns]
    tables = {"front": Table(columns=["trial", *named, *paths, *alike, *kept], rows=rows)}
    signs = [-1.0 if goal.maximize else 1.0 for goal in study.goals]
    given = None if reference is None else tuple(s * value for s, value in zip(signs, reference, strict=True))
    losses = given if given is not None else hypervolume.reference_of(study.trials)
    if losses is None:
        return tables, {}
    grown = hypervolume.over_trials(study.trials, losses)
    tables["hypervolume"] = Table(columns=["trial", "hypervolume"], rows=[list(row) for row in grown])
    point = {goal.metric: s * value for goal, s, value in zip(study.goals, signs, losses, strict=True)}
    return tables, {"hypervolume": grown[-1][1] if grown else 0.0, "reference": point}


def repeats_table(study: Study) -> tuple[dict[str, Table], dict[str, object]]:
    """(tables, details) of a search that may repeat settings, both empty for others, and while it is too early.

    Table `repeats`: a row for each setting that was tried more than once, and for the best, by what it is believed to
    be worth: how often, mean and standard deviation of the objective, what is believed and how uncertain that is.
    Details: `believed`, of the best, and the `noise` of a trial, all in the objective's unit.
    """
    posterior = study.posterior
    if posterior is None:
        return {}, {}
    goal, paths = study.goals[0], study.space.paths
    sign = -1.0 if goal.maximize else 1.0
    rows: list[list[Cell]] = []
    best: BestPosterior | None = None
    for rank in posterior.mean.argsort(kind="stable").tolist():
        group = posterior.settings[rank]
        if len(group) > 1 or not rows:
            values = [trial.metrics[goal.metric] for trial in group]
            spread = stdev(values) if len(values) > 1 else None
            believed, uncertainty = sign * float(posterior.mean[rank]), float(posterior.deviation[rank])
            best = best or {
                "metric": goal.metric,
                "times": len(group),
                "mean": fmean(values),
                "deviation": spread,
                "believed": believed,
                "uncertainty": uncertainty,
                "noise": posterior.noise,
            }
            trials = " ".join(str(trial.number) for trial in group)
            params = (cell(group[0].params.get(path)) for path in paths)
            rows.append([len(group), fmean(values), spread, believed, uncertainty, trials, *params])
    own = ["times", "believed", "uncertainty", "trials", *paths]
    metric = metric_column(goal.metric, own)
    columns = ["times", metric, metric + DEVIATION, "believed", "uncertainty"]
    assert best is not None
    return {"repeats": Table(columns=[*columns, "trials", *paths], rows=rows)}, {"believed": best}


def best_tables(
    study: Study, reference: Sequence[float] | None, models: Mapping[int, str] = NO_MODELS
) -> tuple[dict[str, Table], dict[str, object]]:
    """(tables, details) of what was best: front_tables, repeats_table, and schedule_table."""
    (front, volume), (repeats, believed) = front_tables(study, reference, models), repeats_table(study)
    return {**front, **repeats, **schedule_table(study.trials, study.best)}, {**volume, **believed}


def schedule_table(trials: Sequence[Trial], best: Trial | None) -> dict[str, Table]:
    """Table `schedule`, where the best trial went on from another one's state: which settings held from step to step.

    A row a trial of its lineage; columns for what is searched. Empty for one that began at step 0.
    """
    if best is None or best.parent is None:
        return {}
    legs = lineage(trials, best)
    ends = [*(trial.born for trial in legs[1:]), best.step]
    paths = list(dict.fromkeys(path for trial in legs for path in trial.params))
    rows = [
        [trial.born, end, trial.number, *(cell(trial.params.get(path)) for path in paths)]
        for trial, end in zip(legs, ends, strict=True)
    ]
    return {"schedule": Table(columns=["from_step", "to_step", "trial", *paths], rows=rows)}


def best_row(trial: Trial | None) -> dict[str, object] | None:
    """The best trial, for the report."""
    if trial is None:
        return None
    return {"number": trial.number, "params": dict(trial.params), "metrics": dict(trial.metrics), "seed": trial.seed}
