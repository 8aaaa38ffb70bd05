"""The compare workflow: finished (or failed, or running) runs side by side, and gates between them.

The runs go by letters: A is the first, which the others are compared with, B the second.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.linear_conditions import LinearCondition
from modelopt_cli.core.readable import measure, signed
from modelopt_cli.experiment.expected_metrics import nearest
from modelopt_cli.results.details import ComparisonDetails
from modelopt_cli.results.listing import runs_root
from modelopt_cli.results.report import Cell, GateResult, Report, Table
from modelopt_cli.results.tables import deviation_column
from modelopt_cli.workflows.comparison.differences import CONFIDENCE, Difference, judged
from modelopt_cli.workflows.comparison.directions import higher_is_better
from modelopt_cli.workflows.comparison.runs import SECONDS, ComparedRun, opened
from modelopt_cli.workflows.comparison.same_data import data_warnings
from modelopt_cli.workflows.comparison.settings import differing_settings
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting

_LETTERS = string.ascii_uppercase
_ORDER = ("test.", "data.", "validation.", "train.", "model.", "pruning.")  # after the metrics of gates and objectives
_STATUS = {"failed": "has failed", "running": "is under way", "interrupted": "was interrupted"}
_USUAL = ("accuracy", "rmse", "loss")  # what a sentence is about where neither gates nor objectives say it


def compare(
    runs: Sequence[str | Path | Report], gates: Sequence[str] = (), *, root: str | Path | None = None
) -> Report:
    """Two or more runs side by side: what they are, settings that differ, metrics, and which differences are no chance.

    `runs`: reports, report.json files, runs' folders, `name/number`, or names (of the newest run) under `root` (None:
    $MODELOPT_RUNS, or runs/). `gates`: conditions such as `B.test.accuracy >= A.test.accuracy - 0.005`, judged into the
    report's `gates`. Raises InputError for a run that is not there or cannot be read, UsageError for a gate that is no
    condition, or is about a run or metric that is not there.
    """
    if isinstance(runs, str | Path | Report) or len(runs) < 2:
        raise UsageError("a comparison takes two or more runs; name another one")
    if len(runs) > len(_LETTERS):
        raise UsageError(f"a comparison takes at most {len(_LETTERS)} runs, a letter each, but was given {len(runs)}")
    conditions = [_parsed(gate) for gate in dict.fromkeys(gates)]
    folder = runs_root() if root is None else Path(root)
    each = [opened(run, letter, folder) for run, letter in zip(runs, _LETTERS, strict=False)]
    _check(conditions, each)
    others = each[1].name if len(each) == 2 else f"{len(each) - 1} others"
    reporting = Reporting(None, name=f"{each[0].name} and {others}")
    with reporting.log.recording():
        outcome = _outcome(each, conditions)
    return reporting.report("comparison", "compare", outcome, judged=_judge(conditions, each))


def _outcome(runs: Sequence[ComparedRun], conditions: Sequence[LinearCondition]) -> Outcome:
    first, others = runs[0], runs[1:]
    goals = list(dict.fromkeys(Goal.parse(goal) for run in runs for goal in run.report.details.get("objective") or ()))
    metrics = _ordered(runs, conditions, goals)
    directions = {metric: higher_is_better(metric, goals) for metric in metrics}
    differences = [judged(metric, first, other, higher=directions[metric]) for metric in metrics for other in others]
    main = _main(metrics, conditions, goals)
    tables = {
        "runs": Table.from_records([_row(run) for run in runs]),
        "settings": differing_settings(runs),
        "metrics": _metrics(runs, metrics, directions),
        "differences": _differences(first, differences),
        "gates": _gates(conditions, runs),
    }
    details: ComparisonDetails = {
        "runs": {run.letter: run.name for run in runs},
        "main": main,
        "confidence": CONFIDENCE,
        "summary": [_sentence(each, runs) for each in differences if each.metric in main],
    }
    return Outcome(_flat(runs), {name: tables[name] for name in tables}, dict(details), _warnings(runs))


# What the runs are


def _row(run: ComparedRun) -> dict[str, Cell]:
    report = run.report
    trials = report.tables.get("trials")
    return {
        "run": run.letter,
        "name": run.name,
        "workflow": report.workflow or None,
        "status": run.status,
        "started": report.started or None,
        "seconds": report.seconds or None,
        "seeds": ", ".join(map(str, run.seeds)) if report.kind != "evaluation" else None,
        "trials": None if trials is None else len(trials.rows),
        "best_trial": None if report.best is None else report.best.get("number"),
        "folder": None if run.folder is None else str(run.folder),
    }


def _warnings(runs: Sequence[ComparedRun]) -> list[str]:
    first, texts = runs[0], []
    seen: dict[Path, str] = {}
    for run in runs:
        if run.status != "completed":
            why = f": {run.report.reason.partition(chr(10))[0]}" if run.report.reason else ""
            texts.append(f"{run.letter} ({run.name}) {_STATUS.get(run.status, run.status)}{why}")
        if run.folder is not None and run.folder.resolve() in seen:
            texts.append(f"{run.letter} is the same run as {seen[run.folder.resolve()]}")
        elif run.folder is not None:
            seen[run.folder.resolve()] = run.letter
    for other in runs[1:]:
        texts += data_warnings(first, other)
    searches = [run.letter for run in runs if run.report.kind == "search"]
    if 0 < len(searches) < len(runs):
        texts.append(
            f"validation metrics of {' and '.join(searches)} are those of the best of several trials, which flatters "
            "them beside a run that did not choose; the test split was no part of the choice"
        )
    unknown = [run.letter for run in runs if run.settings is None]
    if unknown:
        texts.append(f"settings of {' and '.join(unknown)} are not known (no experiment.yaml beside the report)")
    return texts


# What was measured


def _ordered(runs: Sequence[ComparedRun], conditions: Sequence[LinearCondition], goals: Sequence[Goal]) -> list[str]:
    """Every metric of any run: those of gates and objectives, then by what they are about, in the reports' order."""
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    asked = [name for name in _asked(conditions, goals) if name in known]

    def about(name: str) -> int:
        return next((at for at, head in enumerate(_ORDER) if name.startswith(head)), len(_ORDER))

    rest = sorted((name for name in known if name not in asked), key=lambda name: (name == SECONDS, about(name)))
    return [*asked, *rest]


def _asked(conditions: Sequence[LinearCondition], goals: Sequence[Goal]) -> list[str]:
    """Metrics of the gates, then of the objectives, with what these are on the test split."""
    gated = [name.partition(".")[2] for condition in conditions for name in condition.names]
    goal = [name for each in goals for name in (each.metric.replace("validation.", "test.", 1), each.metric)]
    return list(dict.fromkeys([*gated, *goal]))


def _main(metrics: Sequence[str], conditions: Sequence[LinearCondition], goals: Sequence[Goal]) -> list[str]:
    """Which metrics the summary is about."""
    gated = {name.partition(".")[2] for condition in conditions for name in condition.names}
    asked = [
        name
        for name in _asked(conditions, goals)
        if name in metrics
        and (
            name in gated or not name.startswith("validation.") or name.replace("validation", "test", 1) not in metrics
        )
    ]
    usual = [f"{split}{name}" for split in ("test.", "data.", "validation.", "") for name in _USUAL]
    return asked or [name for name in usual if name in metrics][:1]


def _metrics(runs: Sequence[ComparedRun], metrics: Sequence[str], directions: Mapping[str, bool | None]) -> Table:
    """A row a metric: which way is better, and of each run the value, and its deviation where it has several seeds."""
    words = {True: "higher", False: "lower", None: None}
    repeated = [run.letter for run in runs if len(run.seeds) > 1]
    columns = ["metric", "better"]
    for run in runs:
        columns += [run.letter, *([deviation_column(run.letter, ())] if run.letter in repeated else [])]
    rows: list[list[Cell]] = []
    for metric in metrics:
        row: list[Cell] = [metric, words[directions[metric]]]
        for run in runs:
            row.append(run.metrics.get(metric))
            if run.letter in repeated:
                row.append(_deviation(run.each_seed(metric)))
        rows.append(row)
    return Table(columns=columns, rows=rows)


def _deviation(values: Sequence[float]) -> float | None:
    from statistics import stdev

    return stdev(values) if len(values) > 1 else None


def _differences(first: ComparedRun, differences: Sequence[Difference]) -> Table:
    columns = ["metric", "run", "than", "difference", "low", "high", "verdict", "how"]
    return Table(
        columns=columns,
        rows=[
            [each.metric, each.run, first.letter, each.difference, each.low, each.high, each.verdict, each.how]
            for each in differences
        ],
    )


def _sentence(each: Difference, runs: Sequence[ComparedRun]) -> str:
    """What a difference of a main metric says, in words."""
    metrics = {run.letter: run.metrics for run in runs}
    first, metric, run = runs[0].letter, each.metric, each.run
    if each.difference is None:
        return f"{metric}: {each.how}, so {run} and {first} cannot be compared by it"
    shown = [measure(metric, metrics[letter][metric], digits=4) for letter in (run, first)]
    values = " against ".join(shown)
    if each.verdict == "same":
        return f"{metric}: {run} is the same as {first} ({values})"
    by = f"{values}, {signed(metric, each.difference)}"
    sure = ""
    if each.low is not None and each.high is not None and each.low < each.high:
        sure = f"; 95% interval {signed(metric, each.low)} to {signed(metric, each.high)}"
    if each.verdict == "not known":
        return f"{metric}: whether {run} differs from {first} by more than chance is not known ({by}; {each.how})"
    if each.verdict == "unclear":
        return f"{metric}: no clear difference of {run} to {first} ({by}{sure}; {each.how})"
    word = "another one than" if each.verdict == "differs" else f"{each.verdict} than"
    return f"{metric}: {run} is {word} {first} ({by}{sure}; {each.how})"


# Gates


def _flat(runs: Sequence[ComparedRun]) -> dict[str, float]:
    """Letter, dot and metric -> value: what gates are about."""
    return {f"{run.letter}.{name}": value for run in runs for name, value in run.metrics.items()}


def _parsed(gate: str) -> LinearCondition:
    try:
        return LinearCondition.parse(gate)
    except ValueError as error:
        raise UsageError(f"--gate: {error}") from None


def _check(conditions: Sequence[LinearCondition], runs: Sequence[ComparedRun]) -> None:
    """Raise UsageError for a gate on a run that is not compared, or on a metric that none of them knows."""
    names = {run.letter: run for run in runs}
    known = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    listed = ", ".join(f"{run.letter} ({run.name})" for run in runs)
    for condition in conditions:
        for name in condition.names:
            letter, _, metric = name.partition(".")
            if letter not in names:
                example = f"{runs[-1].letter}.{name}" if name in known else f"{runs[-1].letter}.test.accuracy"
                raise UsageError(
                    f"--gate '{condition}': '{name}' names none of the runs; begin with the letter of one, as in "
                    f"{example}; there are {listed}"
                )
            if metric not in known and any(run.status == "completed" for run in runs):
                raise UsageError(f"--gate '{condition}': no run has the metric '{metric}'; {_hint(metric, known)}")


def _hint(metric: str, known: Sequence[str]) -> str:
    shortened = next((name for name in known if metric.startswith(f"{name}-")), None)
    if shortened is not None:
        return f"write a space before the minus sign, which may be part of a name: {shortened} - ..."
    near = nearest(metric, known)
    return f"did you mean '{near}'?" if near else f"there are: {', '.join(known)}"


def _judge(conditions: Sequence[LinearCondition], runs: Sequence[ComparedRun]) -> list[GateResult]:
    metrics = _flat(runs)
    return [
        GateResult(
            condition=str(condition),
            met=condition.met(metrics),
            value=condition.value(metrics),
            margin=condition.margin(metrics),
            reason=_why_not(condition, runs),
        )
        for condition in conditions
    ]


def _why_not(condition: LinearCondition, runs: Sequence[ComparedRun]) -> str:
    """Why a gate has no value; empty where it has one."""
    lacking = condition.lacking(_flat(runs))
    by_letter = {run.letter: run for run in runs}
    texts = []
    for name in lacking:
        run = by_letter[name.partition(".")[0]]
        text = f"{run.letter} ({run.name}) has no {name.partition('.')[2]}"
        texts.append(text if run.status == "completed" else f"{text}: it {_STATUS.get(run.status, run.status)}")
    return "; ".join(texts)


def _gates(conditions: Sequence[LinearCondition], runs: Sequence[ComparedRun]) -> Table:
    metrics = _flat(runs)
    return Table(
        columns=["gate", "met", "value", "bound", "margin", "reason"],
        rows=[
            [result.condition, result.met, result.value, condition.bound(metrics), result.margin, result.reason or None]
            for condition, result in zip(conditions, _judge(conditions, runs), strict=True)
        ],
    )
