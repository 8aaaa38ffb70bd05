"""Tables of a distillation: the models side by side, what teacher and student cost, every epoch of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Table
from modelopt_cli.workflows.prune_tables import from_records

if TYPE_CHECKING:
    from modelopt_cli.workflows.learned import Learned


def learner(one: Learned, turn: str, judged: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
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


def _parameters(one: Learned) -> int | None:
    """None for an estimator."""
    parameters = getattr(one.checkpoint.model, "parameters", None)
    return None if parameters is None else sum(item.numel() for item in parameters())


def learners(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Who was trained or given, in the order of training; one row for each turn."""
    return from_records(rows)


def curve(points: Sequence[tuple[str, int, Mapping[str, float]]]) -> Table:
    """A row an epoch of a member."""
    return from_records([{"learner": name, "epoch": epoch, **found} for name, epoch, found in points])


def costs(rows: Sequence[Mapping[str, Any]], *, compared: bool) -> Table:
    """A row for each cost of slim_tables.compare: what, teacher, student, times less; the student's alone otherwise."""
    names = {"before": "teacher", "after": "student", "times less": "times less"}
    shown = names if compared else {"after": "student"}
    return from_records([{"what": row["what"], **{new: row[old] for old, new in shown.items()}} for row in rows])
