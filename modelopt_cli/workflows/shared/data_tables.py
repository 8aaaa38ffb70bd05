"""What a report says of its data: how many samples each split and class has, missing cells, and what the data are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared.answer_tables import grouped_classes, shown_classes

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.data.raw import RawData, Task
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.details import DataDetails

MOST_COLUMNS = 100
"""In the table of missing cells, and among the details: those with the most missing cells, in the data's order."""


def data_tables(experiment: Experiment) -> tuple[dict[str, Table], DataDetails]:
    """(tables `splits`, `classes`, `missing`, the detail `data`) of the experiment's data, which are read once a run.

    Of a cross-validation the split `development` is what its folds are made of. Cells are counted as the source gives
    them, over all splits, before any is filled in.
    """
    from modelopt_cli.workflows.shared import data_cache

    raw = data_cache.raw_data(experiment)
    samples = data_cache.samples_of_splits(experiment)
    tables = sample_tables({name: raw.targets[part] for name, part in samples.items()}, raw.task, raw.label_names)
    missing = _missing(raw)
    if missing is not None:
        tables["missing"] = missing
    return tables, _described(experiment, raw)


def sample_tables(
    targets: Mapping[str, np.ndarray[Any, Any]], task: Task, label_names: Sequence[str]
) -> dict[str, Table]:
    """`splits` and (but for a regression) `classes`, of the targets of each split; empty splits are left out."""
    import numpy as np

    filled = {name: part for name, part in targets.items() if len(part)}
    splits: list[list[Cell]] = [[name, len(part)] for name, part in filled.items()]
    tables = {"splits": Table(columns=["split", "samples"], rows=splits)}
    if task == "regression" or not filled:
        return tables
    if task == "multilabel":
        counts = {
            name: np.asarray(part, np.float64).sum(axis=0).round().astype(np.int64) for name, part in filled.items()
        }
    else:
        width = max(len(label_names), *(int(part.max()) + 1 for part in filled.values()))
        counts = {name: np.bincount(part.astype(np.int64), minlength=width) for name, part in filled.items()}
    whole = np.sum(list(counts.values()), axis=0)
    codes, shown = grouped_classes(whole, shown_classes(label_names, len(whole)))
    classes: list[list[Cell]] = []
    for name, samples in counts.items():
        together = np.bincount(codes, samples, len(shown)).astype(np.int64).tolist()
        classes += [[name, label, count] for label, count in zip(shown, together, strict=True)]
    return {**tables, "classes": Table(columns=["split", "class", "samples"], rows=classes)}


def _missing(raw: RawData) -> Table | None:
    """(column, kind, missing, of) of a table's columns; None for other data."""
    import numpy as np

    columns = _columns(raw)
    if columns is None:
        return None
    frame: Any = raw.inputs
    if isinstance(frame, np.ndarray):
        counts = np.isnan(frame).sum(axis=0) if frame.dtype.kind == "f" else np.zeros(len(columns), np.int64)
    else:
        counts = frame.isna().sum(axis=0).to_numpy()
    kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_COLUMNS]).tolist()
    rows: list[list[Cell]] = [
        [columns[index], raw.kinds.get(columns[index], "number"), int(counts[index]), len(raw)] for index in kept
    ]
    return Table(columns=["column", "kind", "missing", "of"], rows=rows)


def _columns(raw: RawData) -> list[str] | None:
    """Names of a table's columns; None for images, tokens, and tables without names."""
    names = getattr(raw.inputs, "columns", None)
    if names is not None:
        return [str(name) for name in names]
    if raw.inputs.ndim == 2 and len(raw.feature_names) == raw.inputs.shape[1]:
        return list(raw.feature_names)
    return None


def _described(experiment: Experiment, raw: RawData) -> DataDetails:
    columns, width = _columns(raw), raw.targets.shape[1] if raw.targets.ndim == 2 else 1
    described: DataDetails = {
        "source": experiment.require_data().name(),
        "samples": len(raw),
        "inputs": list(raw.inputs.shape[1:]) if columns is None else columns[:MOST_COLUMNS],
        "columns": None if columns is None else len(columns),
        "task": raw.task,
        "classes": None if raw.task == "regression" else len(raw.label_names) or width,
        "targets": width if raw.task == "regression" else None,
        "weighted": raw.weights is not None,
    }
    return described
