"""Tables of what a model answered: confusion and calibration of a classifier, true and predicted of a regression.

They lie beside the report, for a matrix of many classes is large. A sample counts as one, whatever its weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Cell, Table

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.training.metrics.answers import Answers

MOST_CLASSES = 100
"""Of a table; those with fewer samples are counted together as OTHERS."""
OTHERS = "(others)"
MOST_SAMPLES = 2_000
"""Of a split, in the table of predictions: every n-th where there are more."""

_COLUMNS = {
    "confusion": ["split", "true", "predicted", "count"],
    "calibration": ["split", "low", "high", "count", "confidence", "accuracy"],
    "predictions": ["split", "true", "predicted"],
}
_ERROR = "calibration_error"


def answer_tables(
    answers: Mapping[str, Answers], label_names: Sequence[str]
) -> tuple[dict[str, Table], dict[str, object]]:
    """(tables beside the report, details) of a model's answers, split by split; both empty where none were kept.

    `confusion`: how many samples of a class were taken for which, pairs that occur. `calibration`: see
    training/metrics/calibration.py; the detail `calibration_error` has the expected error of each split. `predictions`:
    true and predicted values of a regression, with a column `target` where there are several.
    """
    rows: dict[str, list[list[Cell]]] = {name: [] for name in _COLUMNS}
    errors: dict[str, float] = {}
    targets = _targets(answers, label_names)
    for split, given in answers.items():
        if given.task == "classification":
            rows["confusion"] += [[split, *row] for row in _confusion(given, label_names)]
            bins, error = _calibration(given)
            rows["calibration"] += [[split, *row] for row in bins]
            errors |= {} if error is None else {split: error}
        elif given.task == "regression":
            rows["predictions"] += [[split, *row] for row in _predictions(given, targets)]
    columns = {**_COLUMNS, "predictions": [*_COLUMNS["predictions"], *(["target"] if len(targets) > 1 else [])]}
    tables = {name: Table.model_construct(columns=columns[name], rows=table) for name, table in rows.items() if table}
    return tables, {_ERROR: errors} if errors else {}


def pooled(tables: Sequence[Mapping[str, Table]]) -> tuple[dict[str, Table], dict[str, object]]:
    """(tables, details) of several models that answered to the same splits: all their answers counted together.

    Of `predictions` the first model's.
    """
    rows = {
        "confusion": _added([each["confusion"] for each in tables if "confusion" in each]),
        "calibration": _merged([each["calibration"] for each in tables if "calibration" in each]),
    }
    made = {name: Table(columns=_COLUMNS[name], rows=each) for name, each in rows.items() if each}
    if tables and "predictions" in tables[0]:
        made["predictions"] = tables[0]["predictions"]
    splits = dict.fromkeys(str(row[0]) for row in rows["calibration"])
    errors = {split: _error([row for row in rows["calibration"] if row[0] == split]) for split in splits}
    return made, {_ERROR: errors} if errors else {}


def _added(tables: Sequence[Table]) -> list[list[Cell]]:
    """Rows of `confusion`: the sums of their counts."""
    counts: Counter[tuple[Cell, ...]] = Counter()
    for table in tables:
        for *pair, count in table.rows:
            counts[tuple(pair)] += int(count or 0)
    return [[*pair, count] for pair, count in counts.items()]


def _merged(tables: Sequence[Table]) -> list[list[Cell]]:
    """Rows of `calibration`: of each bin the sum of counts, and the means over all its samples."""
    sums: dict[tuple[Cell, ...], list[float]] = {}
    for table in tables:
        for *interval, count, confidence, accuracy in table.rows:
            samples = float(count or 0)
            given = (samples, samples * float(confidence or 0.0), samples * float(accuracy or 0.0))
            before = sums.setdefault(tuple(interval), [0.0, 0.0, 0.0])
            sums[tuple(interval)] = [one + other for one, other in zip(before, given, strict=True)]
    return [
        [*interval, int(samples), *((confidence / samples, accuracy / samples) if samples else (None, None))]
        for interval, (samples, confidence, accuracy) in sums.items()
    ]


def _error(rows: Sequence[Sequence[Cell]]) -> float:
    """The expected calibration error of a split's rows of `calibration`."""
    gaps = [(float(row[3] or 0), abs(float(row[4] or 0.0) - float(row[5] or 0.0))) for row in rows]
    return sum(count * gap for count, gap in gaps) / max(sum(count for count, _ in gaps), 1.0)


def _confusion(answers: Answers, label_names: Sequence[str]) -> list[list[Cell]]:
    """(true, predicted, count) of each pair of classes that occurs, by their numbers; the smallest classes as one."""
    import numpy as np

    true, predicted = answers.targets.astype(np.int64), answers.predictions.astype(np.int64)
    if not len(true):
        return []
    names = shown_classes(label_names, int(max(true.max(), predicted.max())) + 1)
    codes, shown = grouped_classes(np.bincount(np.concatenate([true, predicted]), minlength=len(names)), names)
    pairs, counts = np.unique(codes[true] * len(shown) + codes[predicted], return_counts=True)
    return [
        [shown[pair // len(shown)], shown[pair % len(shown)], count]
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]


def shown_classes(label_names: Sequence[str], count: int) -> list[str]:
    """The classes' names, numbers where they have none; at least `count`."""
    return [*label_names, *map(str, range(len(label_names), count))]


def grouped_classes(samples: np.ndarray[Any, Any], names: Sequence[str]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """(row of each class in a table, what the rows are called): of too many classes the largest, and the others as one.

    samples: (classes,) how many each has.
    """
    import numpy as np

    if len(samples) <= MOST_CLASSES:
        return np.arange(len(samples)), list(names)
    largest = np.sort(np.argsort(-samples, kind="stable")[:MOST_CLASSES])
    codes = np.full(len(samples), MOST_CLASSES)
    codes[largest] = np.arange(MOST_CLASSES)
    others = OTHERS
    while others in names:
        others = f"({others})"
    return codes, [*(names[index] for index in largest.tolist()), others]


def _calibration(answers: Answers) -> tuple[list[list[Cell]], float | None]:
    """(rows of the bins, the expected calibration error); nothing where there are no probabilities."""
    from modelopt_cli.training.metrics.calibration import calibration_bins, calibration_error

    shares = answers.probabilities
    if shares is None or not len(shares):
        return [], None
    bins = calibration_bins(answers.targets, shares)
    rows: list[list[Cell]] = [[each.low, each.high, each.count, each.confidence, each.accuracy] for each in bins]
    return rows, calibration_error(bins)


def _targets(answers: Mapping[str, Answers], label_names: Sequence[str]) -> list[str]:
    """Names of what a regression predicts."""
    widths = [given.predictions.shape[1] for given in answers.values() if given.task == "regression"]
    return shown_classes(label_names, max(widths, default=0))


def _predictions(answers: Answers, names: Sequence[str]) -> list[list[Cell]]:
    """(true, predicted) of each sample, with the target's name where there are several."""
    import numpy as np

    predicted = answers.predictions
    true = answers.targets.reshape(predicted.shape)
    count = len(true)
    chosen = np.arange(count) if count <= MOST_SAMPLES else np.linspace(0, count - 1, MOST_SAMPLES).round().astype(int)
    rows: list[list[Cell]] = []
    for column, name in enumerate(names[: predicted.shape[1]]):
        pairs = zip(true[chosen, column].tolist(), predicted[chosen, column].tolist(), strict=True)
        rows += [[*map(float, pair), *([name] if len(names) > 1 else [])] for pair in pairs]
    return rows
