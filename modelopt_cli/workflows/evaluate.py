"""Using a trained model: metrics on a split or on new data, and predictions for new data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.consent import VARIABLE, Code, Consent
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.references import substitute
from modelopt_cli.results.details import EvaluationDetails
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, positive_class
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.core.conditions import Condition
    from modelopt_cli.data.part import Part
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Report
    from modelopt_cli.training.metrics.names import OwnMetric
    from modelopt_cli.workflows.shared.latencies import Latencies, TimingOptions

SPLITS = ("train", "validation", "test")
_SECONDS = 1.0  # that latency is measured for each batch size


def evaluate(
    path: str | Path, split: str = "test", data: str | Path | None = None, *, trust_code: bool = False
) -> Report:
    """Every metric of the model at `path`, on a split of the data it was trained with, or on the file `data`.

    `trust_code` runs the code that the file names (a model or data of the user's own); without it such a file raises
    RefusedError, and metrics of the user's own are left out, which the report's warnings tell. Raises InputError for a
    file that is no model or data it cannot use, UsageError for an unknown or empty split.
    """
    return evaluated(path, split, data, trust_code=trust_code)


@one_run()
def evaluated(
    path: str | Path,
    split: str,
    data: str | Path | None = None,
    *,
    trust_code: bool = False,
    gates: Sequence[Condition] = (),
    timing: TimingOptions | None = None,
) -> Report:
    """The same, with `gates` judged on the metrics.

    `timing`: how latency is measured, too; in all runtimes where it names none. None: not at all.
    """
    reporting = Reporting(None, Context(gates=tuple(gates)), name=Path(path).stem)
    with reporting.log.recording():
        outcome = _outcome(path, split, data, Consent(everything=trust_code), timing)
    return reporting.report("evaluation", "evaluate", outcome)


def _outcome(
    path: str | Path, split: str, data: str | Path | None, consent: Consent, timing: TimingOptions | None
) -> Outcome:
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.training.metrics import names as metric_names
    from modelopt_cli.training.metrics import scoring
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.shared.answer_tables import answer_tables
    from modelopt_cli.workflows.shared.data_tables import sample_tables

    checkpoint = checkpoints.load(path, consent)
    notes: list[str] = []
    _check_timing(checkpoint, timing)
    part, prefix = _part(checkpoint, split, data, path, consent, notes.append)
    names = metric_names.names(checkpoint.task, checkpoint.shapes.outputs)
    scores, loss = _judged(checkpoint, part)
    answers = {prefix.rstrip("."): Answers(checkpoint.task, part.targets, scores)}
    beside, calibration = answer_tables(answers, checkpoint.label_names)
    metrics = {} if loss is None else {f"{prefix}loss": loss}
    metrics |= scoring.compute(
        checkpoint.task,
        part.targets,
        scores,
        prefix=prefix,
        weights=part.weights,
        extra=_own_metrics(checkpoint, consent, notes.append),
        classes=checkpoint.shapes.outputs,
    )
    details: EvaluationDetails = {
        "model": str(path),
        "on": str(data) if data is not None else split,
        "samples": len(part.targets),
        "undefined": sorted({prefix + name for name in names} - set(metrics)),
    }
    positive = positive_class(checkpoint.task, checkpoint.label_names, metrics)
    tables = sample_tables(dict.fromkeys(answers, part.targets), checkpoint.task, checkpoint.label_names)
    if timing is not None:
        latencies = _latencies(checkpoint, Path(path).name, timing)
        metrics |= latencies.metrics(Path(path).name)
        tables |= {"latency": latencies.table()}
        details["measured"] = latencies.details
        notes += latencies.warnings
    return Outcome(metrics, tables, {**positive, **details, **calibration}, notes, beside=beside)


def _check_timing(checkpoint: Checkpoint, timing: TimingOptions | None) -> None:
    if timing is not None and checkpoint.architecture.framework != "torch":
        raise UsageError(
            f"the model is {checkpoint.architecture.name()}, but latency is that of a torch model's forward pass; "
            "leave out --latency"
        )


def _latencies(checkpoint: Checkpoint, name: str, timing: TimingOptions) -> Latencies:
    """Of the model on its device, in turns, by all runtimes or those that were asked for."""
    from modelopt_cli.models.measure import example
    from modelopt_cli.workflows.shared.latencies import RUNTIMES, measured

    settings, runtimes = timing.over(None, _SECONDS)
    inputs = example(checkpoint.shapes, max(settings.batch_sizes))
    return measured({name: checkpoint.model}, inputs, settings, runtimes or RUNTIMES)


def predict(path: str | Path, data: str | Path, *, trust_code: bool = False) -> Table:
    """A row a sample: label and class probabilities; or the predicted values, for regression.

    What the user should know of how the data were understood is given as Python warnings. `trust_code` runs the code
    that the file names (a model of the user's own); without it such a file raises RefusedError.
    """
    table, notes = predicted(path, data, trust_code=trust_code)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return table


@one_run()
def predicted(path: str | Path, data: str | Path, *, trust_code: bool = False) -> tuple[Table, list[str]]:
    """The predictions, and what the user should know of how the data were understood."""
    import numpy as np

    from modelopt_cli.data.new_data import load_inputs, names_of
    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.models.files import checkpoints

    checkpoint = checkpoints.load(path, Consent(everything=trust_code))
    notes: list[str] = []
    inputs = load_inputs(data, Preprocessing.from_plain(checkpoint.preprocessing), notes.append)
    # Of a table with a header and no rows there is nothing to predict, and no error in a pipeline.
    scores = _scores(checkpoint, inputs) if len(inputs) else np.zeros((0, checkpoint.shapes.outputs))
    if (strange := _not_finite(scores)) > 0:
        notes.append(
            f"the model's outputs for {strange:,} of {len(scores):,} samples are not finite (NaN or infinite), so what "
            "it predicts for them means nothing; look at its weights (modelopt inspect) and at the data"
        )
    table = _as_table(checkpoint, scores)
    names = names_of(data)
    if names is not None:
        rows = [[name, *row] for name, row in zip(names, table.rows, strict=True)]
        table = Table(columns=["file", *table.columns], rows=rows)
    return table, list(dict.fromkeys(notes))


def _part(
    checkpoint: Checkpoint,
    split: str,
    data: str | Path | None,
    path: str | Path,
    consent: Consent,
    note: Callable[[str], None],
) -> tuple[Part, str]:
    from modelopt_cli.data.new_data import load_labelled
    from modelopt_cli.data.preprocessing import Preprocessing

    preprocessing = Preprocessing.from_plain(checkpoint.preprocessing)
    if data is not None:
        weights = checkpoint.data.get("weights")
        return load_labelled(data, preprocessing, checkpoint.label_names, checkpoint.task, weights, note), "data."
    if split not in SPLITS:
        raise UsageError(f"--split is '{split}', but must be one of: {', '.join(SPLITS)}")
    if not checkpoint.data:
        raise InputError("the model does not say which data it was trained with; name a file with --data FILE")
    from modelopt_cli.data.splits import split as split_indices

    source: Any = _source(checkpoint, path, consent)
    seed = source.splits.seed if source.splits is not None and source.splits.seed is not None else 0
    raw = source.read(seed)
    for text in raw.notes:
        note(text)
    indices = getattr(split_indices(raw, source.splits, seed), split)
    if len(indices) == 0:
        raise UsageError(f"the {split} split of the model's data is empty; choose another with --split, or --data FILE")
    return preprocessing.part(raw, indices), f"{split}."


def _judged(checkpoint: Checkpoint, part: Part) -> tuple[Any, float | None]:
    """(what `_scores` gives, the loss as training reports it; None for an estimator)"""
    if checkpoint.architecture.framework == "sklearn":
        return _scores(checkpoint, part.inputs), None
    from modelopt_cli.training import losses
    from modelopt_cli.training.evaluation import outputs_and_loss

    loss = checkpoint.extra.get("loss", "auto")
    if loss not in losses.allowed(checkpoint.task):
        raise InputError(f"the model says that it was trained by the loss {loss!r}, which {checkpoint.task} has not")
    shapes, preprocessing = checkpoint.shapes, checkpoint.preprocessing
    return outputs_and_loss(checkpoint.model, part, preprocessing, checkpoint.task, shapes.outputs, loss)


def _own_metrics(checkpoint: Checkpoint, consent: Consent, note: Callable[[str], None]) -> list[OwnMetric]:
    """The user's own metrics that the file names and may call; the others are told."""
    from modelopt_cli.training.metrics.names import OwnMetric

    metrics: list[OwnMetric] = []
    for target, folder in checkpoint.own_metrics:
        if consent.agreed(Code(target, {}, folder)) is None:
            note(
                f"the metric '{target}' was left out: it is code that the model file names; compute it with "
                f"--trust-code (in Python trust_code=True, for everything {VARIABLE}=1) if you trust whoever made it"
            )
            continue
        try:
            metric = OwnMetric(substitute(target), substitute(folder))
            metric.check()
        except (UsageError, ValueError) as error:
            note(f"the metric '{target}' was left out: {error}")
            continue
        metrics.append(metric)
    return metrics


def _source(checkpoint: Checkpoint, path: str | Path, consent: Consent) -> Any:
    """The data section in the file. Raises RefusedError where it names code."""
    from modelopt_cli.models.files import checkpoints

    try:
        section = checkpoint.data_section()
        return checkpoints.agreed("data", section, path, consent, "; or name the data yourself: --data FILE")
    except ValueError as error:
        raise InputError(
            f"the data that {path} was trained with cannot be read here: {str(error).splitlines()[0]}; name a file "
            "with --data FILE"
        ) from None


def _scores(checkpoint: Checkpoint, inputs: np.ndarray) -> Any:
    """Logits, probabilities or values, (N, outputs), as the metrics take them."""
    if checkpoint.architecture.framework == "sklearn":
        from modelopt_cli.training import estimators

        return estimators.scores(checkpoint.model, inputs, checkpoint.task, checkpoint.shapes.outputs)
    from modelopt_cli.training.inference import predict as forward

    return forward(checkpoint.model, inputs, checkpoint.preprocessing)


def _not_finite(scores: Any) -> int:
    """Samples whose scores are not all finite."""
    import numpy as np

    values = getattr(scores, "values", scores)  # None: labels alone
    return 0 if values is None else int((~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))).sum())


def _as_table(checkpoint: Checkpoint, scores: Any) -> Table:
    import numpy as np

    from modelopt_cli.training.metrics.scoring import probabilities

    names = list(checkpoint.label_names) or [str(output) for output in range(checkpoint.shapes.outputs)]
    if checkpoint.task == "regression":
        columns = names if len(names) == scores.shape[1] else [f"prediction_{i}" for i in range(scores.shape[1])]
        columns = ["prediction"] if scores.shape[1] == 1 else columns
        return Table(columns=columns, rows=_cells(scores))
    shares = probabilities(checkpoint.task, scores)
    columns = [f"probability_{name}" for name in names]
    if checkpoint.task == "multilabel":
        chosen = ["|".join(name for name, on in zip(names, row, strict=True) if on) for row in shares >= 0.5]
        return Table(
            columns=["labels", *columns], rows=[[c, *row] for c, row in zip(chosen, _cells(shares), strict=True)]
        )
    labels = [names[output] for output in np.argmax(shares, axis=1)]
    return Table(columns=["label", *columns], rows=[[c, *row] for c, row in zip(labels, _cells(shares), strict=True)])


def _cells(values: np.ndarray) -> list[list[Cell]]:
    return [[float(value) for value in row] for row in values]
