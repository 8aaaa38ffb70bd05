"""What the trials of a search share: data, read and prepared once a run with the experiment's seed."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from modelopt_cli.core.seeds import derive
from modelopt_cli.data import subsets
from modelopt_cli.data.prepared import prepare
from modelopt_cli.data.splits import SplitIndices, Splits, development, draw_part, folds, pinned, split
from modelopt_cli.workflows.shared.run_scope import kept

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.data.raw import RawData
    from modelopt_cli.data.sources import DataSource
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.search.fidelity import Fidelity

T = TypeVar("T")

STOPPING_SHARE = 0.1
"""Of the train split, for early stopping."""

_MOST = 32  # prepared splits kept (folds included); a search over the data section must not hold them all


def data_seed(experiment: Experiment) -> int:
    """The seed of reading and splitting; one written into `splits` wins over the experiment's."""
    splits = experiment.require_data().splits
    return splits.seed if splits is not None and splits.seed is not None else derive(experiment.seed, "data")


def source_of(experiment: Experiment) -> DataSource:
    """The data section, with what folds go by: their groups are set aside, and the other splits go by the same."""
    source, evaluation = experiment.require_data(), experiment.evaluation
    changes: dict[str, Any] = {}
    if evaluation.groups is not None and "aside" in type(source).model_fields:
        changes["aside"] = tuple(dict.fromkeys([*source.aside, evaluation.groups]))  # type: ignore[attr-defined]
    splits = source.splits
    if splits is not None and splits.groups is None and splits.order == "random":
        same = {"groups": evaluation.groups, "order": evaluation.order}
        given = {name: value for name, value in same.items() if value is not None}
        if given:
            changes["splits"] = splits.model_copy(update=given)
    return source.model_copy(update=changes) if changes else source


def raw_data(experiment: Experiment) -> RawData:
    """The data as its source gives it."""
    source, seed = source_of(experiment), data_seed(experiment)
    return _remember(kept().raw, _key(experiment, seed), lambda: source.read(seed))


def data_notes(experiment: Experiment) -> list[str]:
    """What whoever reads a report should know about how its data were read, each once."""
    return list(dict.fromkeys(raw_data(experiment).notes))


def split_data(experiment: Experiment) -> SplitIndices:
    """Indices of the train, validation and test split."""
    source, seed = source_of(experiment), data_seed(experiment)
    return _remember(kept().splits, _key(experiment, seed), lambda: split(raw_data(experiment), source.splits, seed))


def samples_of_splits(experiment: Experiment) -> dict[str, np.ndarray]:
    """Name of each split -> its samples; of a cross-validation `development`, which is folded, and `test`."""
    if experiment.evaluation.cv is None:
        parts = split_data(experiment)
        return {"train": parts.train, "validation": parts.validation, "test": parts.test}
    train = development_indices(experiment)
    return {"development": train, "test": _others(experiment, train)}


def _others(experiment: Experiment, samples: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.setdiff1d(np.arange(len(raw_data(experiment))), samples)


def pinned_data(experiment: Experiment, prepared: Prepared | None = None) -> dict[str, Any]:
    """The data section with its splits written out, defaults and seed included, so that it gives the same anywhere.

    `prepared`: what a model was trained on. Where that had no validation split (a final fit on all but the test
    samples, as after cross-validation), the section has none either: nobody is to judge a model on what it learnt from.
    """
    source, raw, seed = source_of(experiment), raw_data(experiment), data_seed(experiment)
    section = dict(source.model_dump(mode="json"))
    if prepared is not None and prepared.validation is None:
        asked = pinned(raw, source.splits or Splits(), seed)
        changes: dict[str, Any] = {"validation": 0.0}
        if isinstance(asked.validation, tuple) and asked.test is not None:  # a fraction would be drawn from others
            changes["test"] = () if prepared.test is None else tuple(sorted(prepared.test.indices.tolist()))
        section["splits"] = asked.model_copy(update=changes).model_dump(mode="json")
    elif source.splits is not None or experiment.evaluation.cv is None:
        section["splits"] = pinned(raw, source.splits, seed).model_dump(mode="json")
    return section


def prepared_data(experiment: Experiment, step: int | None = None) -> Prepared:
    """The data split and preprocessed for the experiment's model.

    `step`: of tuning.fidelity; then the train split is that part of it, and there is no test split.
    """
    framework = experiment.require_model().framework
    key = _key(experiment, data_seed(experiment)) + framework + _part_key(experiment, step)
    return _remember(
        kept().prepared, key, lambda: prepare_indices(experiment, _part(experiment, split_data(experiment), step))
    )


def _part(experiment: Experiment, indices: SplitIndices, step: int | None) -> SplitIndices:
    """The splits that training sees at a step of tuning.fidelity. The same part of the same split in every trial."""
    fidelity = _fidelity(experiment, step)
    if step is None or fidelity is None:
        return indices
    raw, train = raw_data(experiment), indices.train
    count = fidelity.count(len(train), step)
    if fidelity.take == "latest":
        part = subsets.latest(train, count)
    else:
        classes = raw.strata[0][train] if raw.task == "classification" else None
        part = subsets.drawn(train, classes, count, derive(data_seed(experiment), "fidelity"))
    return SplitIndices(part, indices.validation, indices.test[:0])


def _fidelity(experiment: Experiment, step: int | None) -> Fidelity | None:
    """The sizes that `step` is one of; None without one."""
    return None if step is None else experiment.require_tuning().fidelity


def _part_key(experiment: Experiment, step: int | None) -> str:
    fidelity = _fidelity(experiment, step)
    return "" if fidelity is None else f"/{fidelity.model_dump_json()}/{step}"


def prepare_indices(experiment: Experiment, indices: SplitIndices) -> Prepared:
    """The data with these splits, preprocessed from these training samples alone."""
    framework = experiment.require_model().framework
    return prepare(experiment.require_data(), raw_data(experiment), indices, framework)


def development_indices(experiment: Experiment) -> np.ndarray:
    """All samples that are not the test split, in the order in which scikit-learn would see them."""
    return development(raw_data(experiment), source_of(experiment).splits, data_seed(experiment))


def development_data(experiment: Experiment) -> Prepared:
    """All samples that are not the test split as train split, none to validate on."""
    import numpy as np

    none = np.array([], dtype=np.int64)
    if experiment.evaluation.cv is not None:
        train = development_indices(experiment)
        test = _others(experiment, train)
    else:
        parts = split_data(experiment)
        train, test = np.concatenate([parts.train, parts.validation]), parts.test
    return prepare_indices(experiment, SplitIndices(train, none, test))


def fold_indices(experiment: Experiment) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, validation) indices of each fold."""
    evaluation, seed = experiment.evaluation, data_seed(experiment)
    if evaluation.cv is None:
        raise ValueError("the experiment has no evaluation.cv")
    cv, repeats = evaluation.cv, evaluation.repeats
    groups, by_time = _grouping(experiment)
    return _remember(
        kept().folds,
        _key(experiment, seed) + _folding(experiment),
        lambda: folds(
            raw_data(experiment),
            development_indices(experiment),
            cv,
            repeats,
            seed,
            groups=groups,
            by_time=by_time,
        ),
    )


def _grouping(experiment: Experiment) -> tuple[str | None, bool]:
    """(the column whose groups are kept together, whether samples go by time), of folds and of other draws."""
    evaluation, splits = experiment.evaluation, source_of(experiment).splits
    if evaluation.groups is not None or evaluation.order is not None:
        return evaluation.groups, evaluation.order == "time"
    return (None, False) if splits is None else (splits.groups, splits.order == "time")


def _folding(experiment: Experiment) -> str:
    evaluation = experiment.evaluation
    return f"{evaluation.cv}x{evaluation.repeats}/{_grouping(experiment)}"


def stopping_samples(experiment: Experiment, train: np.ndarray) -> tuple[np.ndarray, str]:
    """(positions in `train` of the samples that a booster's early stopping goes by, how they were drawn).

    A tenth of the train split, by groups or by time where splits or folds go by them, else stratified where that can
    be. Never of the validation or test split: what is judged on those must not be chosen by them.
    """
    import numpy as np

    raw, seed = raw_data(experiment), derive(data_seed(experiment), "early stopping")
    groups, by_time = _grouping(experiment)
    splits = Splits(seed=seed, groups=groups, order="time" if by_time else "random")
    count = max(1, round(len(train) * STOPPING_SHARE))
    _, drawn = draw_part(raw, splits, train, count, seed, "early stopping")
    how = f"whole groups of {groups}" if groups else "the latest" if by_time else "drawn at random"
    return np.flatnonzero(np.isin(train, drawn)), how


def prepared_fold(experiment: Experiment, fold: int, step: int | None = None) -> Prepared:
    """Fold number `fold` as train and validation split, preprocessed from its own training samples.

    `step`: of tuning.fidelity; then it trains on that part of them.
    """
    import numpy as np

    framework = experiment.require_model().framework
    train, validation = fold_indices(experiment)[fold]
    indices = SplitIndices(train, validation, np.array([], dtype=np.int64))
    key = _key(experiment, data_seed(experiment)) + f"{framework}/{_folding(experiment)}/{fold}"
    key += _part_key(experiment, step)
    return _remember(kept().prepared, key, lambda: prepare_indices(experiment, _part(experiment, indices, step)))


def training_samples(experiment: Experiment, step: int | None = None) -> int:
    """How many samples a training sees, at a step of tuning.fidelity; of folds, the first one's."""
    folded = experiment.evaluation.cv is not None
    return len((prepared_fold(experiment, 0, step) if folded else prepared_data(experiment, step)).train)


def measured_on(experiment: Experiment) -> str:
    """A digest of what results are measured on: the targets and weights of all samples, and how they are split."""
    raw = raw_data(experiment)
    digest = hashlib.sha256(repr((raw.task, raw.label_names, len(raw))).encode())
    if experiment.evaluation.cv is not None:
        parts = [part for fold in fold_indices(experiment) for part in fold]
    else:
        splits = split_data(experiment)
        parts = [splits.train, splits.validation, splits.test]
    for array in (raw.targets, *([] if raw.weights is None else [raw.weights]), *parts):
        digest.update(f"/{array.shape}/{array.dtype}/".encode() + array.tobytes())
    return digest.hexdigest()


def _key(experiment: Experiment, seed: int) -> str:
    return json.dumps(source_of(experiment).model_dump(mode="json"), sort_keys=True) + f"/{seed}/"


def _remember(cache: OrderedDict[str, T], key: str, make: Callable[[], T]) -> T:
    if key not in cache:
        while len(cache) >= _MOST:
            cache.popitem(last=False)
        cache[key] = make()
    cache.move_to_end(key)
    return cache[key]
