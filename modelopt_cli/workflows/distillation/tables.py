"""Tables of a distillation: the models side by side, what teacher and student cost, every epoch of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.expected_metrics import GAP
from modelopt_cli.results.report import Table
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER
from modelopt_cli.workflows.distillation.jobs import ALONE, STUDENT

if TYPE_CHECKING:
    from modelopt_cli.workflows.distillation.trained_model import TrainedModel


def learner(one: TrainedModel, turn: str, judged: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """A row: who, after which epoch, whether these are the weights that are kept, and every metric."""
    metrics = {name: value for found in judged.values() for name, value in found.items()}
    count = _parameters(one)
    return {
        "learner": one.name,
        "epoch": one.epochs.get(turn) if turn in one.epochs else None,
        "turn": turn,
        "kept": turn == one.kept,
        **metrics,
        "model.parameters": count,
    }


def not_trained(student: TrainedModel) -> dict[str, Any]:
    """The row of a student alone that was switched off: no metrics, and the seconds that it would have taken."""
    return {"learner": ALONE, "turn": "not trained", "kept": True, "predicted seconds": student.seconds}


def _parameters(one: TrainedModel) -> int | None:
    """None for an estimator."""
    parameters = getattr(one.checkpoint.model, "parameters", None)
    return None if parameters is None else sum(item.numel() for item in parameters())


def learners(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Who was trained or given, in the order of training; one row for each turn."""
    return Table.from_records(rows)


def curve(points: Sequence[tuple[str, int, Mapping[str, float]]]) -> Table:
    """A row an epoch of a member."""
    return Table.from_records([{"learner": name, "epoch": epoch, **found} for name, epoch, found in points])


def costs(rows: Sequence[Mapping[str, Any]], *, compared: bool) -> Table:
    """A row for each cost of slim_tables.compare: what, teacher, student, times less; the student's alone otherwise."""
    names = {"before": "teacher", "after": "student", "times less": "times less"}
    shown = names if compared else {"after": "student"}
    return Table.from_records([{"what": row["what"], **{new: row[old] for old, new in shown.items()}} for row in rows])


def gaps(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """`validation.gap_closed` and `test.gap_closed` of the weights that are kept, from rows of `learners`.

    (student - student alone) / (teacher - student alone), of a metric; of several teachers the best one's. Nothing
    where there is no teacher, no student alone, or nothing between them.
    """
    kept = {row["learner"]: row for row in rows if row["kept"]}
    found = {}
    for split in ("validation", "test"):
        name = f"{split}.{metric}"
        values = {learner: row[name] for learner, row in kept.items() if row.get(name) is not None}
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        teachers = [sign * value for learner, value in values.items() if learner.startswith("teacher")]
        if teachers and ALONE in values and STUDENT in values:
            base, student, best = sign * values[ALONE], sign * values[STUDENT], max(teachers)
            if best > base:
                found[f"{split}.{GAP}"] = (student - base) / (best - base)
    return found
