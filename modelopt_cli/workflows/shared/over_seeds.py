"""`seeds:`: the whole run again with other seeds, on the same splits; mean and deviation of all that was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from modelopt_cli.results.report import Cell, Report, Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.results.saved_run import has_report, read_run
from modelopt_cli.results.tables import deviation_column, metric_column
from modelopt_cli.workflows.shared import run_files
from modelopt_cli.workflows.shared.answer_tables import pooled
from modelopt_cli.workflows.shared.context import Context, Message, NextSeed, Progress, RunBegun, SeedBegun, SeedEnded
from modelopt_cli.workflows.shared.costs import ratios, with_ratios
from modelopt_cli.workflows.shared.data_cache import pinned_data
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment


def over_seeds(
    run: Callable[[Experiment, Context], Report],
    experiment: Experiment,
    context: Context,
    derived: Callable[[Mapping[str, Table]], Mapping[str, float]] = lambda _: {},
) -> Report:
    """`run`, once for each seed.

    Each seed's run has a folder of its own, `seed-N`; what several have in common is trained once. Tables whose rows
    agree become one of means and deviations; what the models answered is counted together. `derived`: metrics that
    follow from these tables, such as ratios, whose mean over seeds would mislead.
    """
    reporting = Reporting(experiment, context)
    directory = context.directory
    run_files.check_resumed(experiment, context)
    reports: list[Report] = []
    with reporting.log.recording(), TemporaryDirectory(prefix="modelopt-") as scratch:
        stages = Path(scratch) if directory is None else directory.path_of(".stages")
        for seed in range(experiment.seed, experiment.seed + experiment.seeds):
            context.emit(Message(f"seed {seed} ({seed - experiment.seed + 1} of {experiment.seeds})"))
            context.emit(NextSeed(seed, seed - experiment.seed + 1, experiment.seeds))
            reports.append(_once(run, experiment, seed, replace(context, stages=stages, emit=_within(seed, context))))
            run_files.record(experiment, context)  # now that nothing stands in the way
            context.emit(SeedEnded(seed, reports[-1]))
            if context.stop:
                break
        else:
            rmtree(stages, ignore_errors=True)
    interrupted = bool(context.stop)
    outcome = _stopped(reports) if interrupted else _together(reports, derived)
    artefacts: dict[str, str] = {}
    if directory is not None:
        for name, table in outcome.tables.items():
            directory.write_table(name, table)
        folder = directory.path
        tabled = {"directory": str(folder), "tables": str(folder / "seeds.csv"), "report": str(folder / "report.json")}
        artefacts = {} if interrupted else {**reports[0].artefacts, **tabled}
    return reporting.report(reports[0].kind, reports[0].workflow, outcome, interrupted=interrupted, artefacts=artefacts)


def _within(seed: int, context: Context) -> Callable[[Progress], None]:
    """Tells what one seed's run tells, and when that run has begun, whose it is."""

    def tell(event: Progress) -> None:
        context.emit(event)
        if isinstance(event, RunBegun):
            context.emit(SeedBegun(seed))

    return tell


def _once(run: Callable[[Experiment, Context], Report], experiment: Experiment, seed: int, context: Context) -> Report:
    """One seed's run; one that was finished before is read."""
    values: dict[str, object] = {"seed": seed, "seeds": 1, "gates": []}
    if experiment.data is not None:
        values["data"] = pinned_data(experiment)
    one = experiment.with_values(values)
    if context.directory is None:
        return run(one, replace(context, gates=()))
    path = context.directory.path_of(f"seed-{seed}")
    finished = _finished(path) if context.resume else None
    if finished is not None:
        return finished
    resume = context.resume and (path / "experiment.yaml").exists()
    with RunDirectory.create_at(path, resume=resume) as directory:
        directory.workflow = context.directory.workflow
        return run(one, replace(context, directory=directory, resume=resume, gates=()))


def _finished(path: Path) -> Report | None:
    if not has_report(path):
        return None
    report = read_run(path)
    return report if report.status == "completed" else None


def _stopped(reports: Sequence[Report]) -> Outcome:
    """What the runs said, the details of the first one, and its model."""
    warnings = [warning for report in reports for warning in report.warnings]
    return Outcome(details=reports[0].details, warnings=warnings, model=reports[0].model)


def _together(reports: Sequence[Report], derived: Callable[[Mapping[str, Table]], Mapping[str, float]]) -> Outcome:
    first, stopped = reports[0], _stopped(reports)
    metrics = {
        name: float(np.mean([report.metrics[name] for report in reports]))
        for name in first.metrics
        if all(name in report.metrics for report in reports)
    }
    tables = {"seeds": _seeds(reports, list(metrics))}
    for name in first.tables:
        together = averaged([report.tables[name] for report in reports if name in report.tables])
        if together is not None:
            tables[name] = with_ratios(together) if name == "costs" else together
    if "costs" in tables:
        metrics |= {name: value for name, value in ratios(tables["costs"]).items() if name in metrics}
    metrics |= derived(tables)
    beside, calibration = pooled([report.beside for report in reports])
    details = {**first.details, **calibration, "seeds": [report.seed for report in reports]}
    return replace(stopped, metrics=metrics, tables=tables, details=details, beside=beside)


def _seeds(reports: Sequence[Report], names: Sequence[str]) -> Table:
    """A row a seed, then their mean and their deviation."""
    values = np.array([[report.metrics[name] for name in names] for report in reports])
    rows: list[list[Cell]] = [[report.seed, *map(float, row)] for report, row in zip(reports, values, strict=True)]
    rows.append(["mean", *map(float, values.mean(0))])
    rows.append(["deviation", *map(float, values.std(0, ddof=1))])
    return Table(columns=["seed", *(metric_column(name, ("seed",)) for name in names)], rows=rows)


def averaged(tables: Sequence[Table]) -> Table | None:
    """One table of means, with a column of deviations (of the sample, N - 1) after each that varies.

    None where rows do not agree.

    What is text in all tables must be the same. Whole numbers and truths that agree stay what they are.
    """
    first = tables[0]
    alike = all(table.columns == first.columns and len(table.rows) == len(first.rows) for table in tables)
    if not alike:
        return None
    columns: list[str] = []
    cells: list[list[Cell]] = []
    for column, name in enumerate(first.columns):
        given = [[table.rows[row][column] for table in tables] for row in range(len(first.rows))]
        if all(len(set(values)) == 1 for values in given):
            columns.append(name)
            cells.append([values[0] for values in given])
            continue
        if any(isinstance(value, str | bool) for values in given for value in values):
            return None
        known = [[float(value) for value in values if value is not None] for values in given]
        columns += [name, deviation_column(name, first.columns)]
        cells.append([float(np.mean(values)) if values else None for values in known])
        cells.append([float(np.std(values, ddof=1)) if len(values) > 1 else None for values in known])
    return Table(columns=columns, rows=[list(row) for row in zip(*cells, strict=True)])
