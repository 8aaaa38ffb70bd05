"""All settings of a search are measured on the same samples; what changes the inputs alone may be searched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.sources import DataSource
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.workflows import tune
from modelopt_cli.workflows.shared.context import Context

SPLITS = {"validation": 0.2, "test": 0.2, "seed": 0}
TREE = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier", "max_depth": 2}


def search(space: dict[str, Any], **sections: Any) -> Experiment:
    tuning = {"objective": "maximize validation.accuracy", "sampler": "grid", "executor": "serial", "space": space}
    tuning |= sections.pop("tuning", {})
    document = {"data": {"type": "wine", "splits": SPLITS}, "model": TREE, "tuning": tuning, **sections}
    return Experiment.load({"name": "alike", **document})


WINE = {"type": "wine", "splits": SPLITS}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"data.splits.seed": [0, 1]}, "data.splits"),
        ({"data.splits.validation": [0.1, 0.2]}, "data.splits"),
        ({"data.splits": {"choice": [SPLITS, {"validation": 0.3}]}}, "data.splits"),
        ({"data.type": ["wine", "iris"]}, "data.type"),
        ({"data": {"choice": [WINE, {"type": "iris", "splits": SPLITS}]}}, "wine in this file, iris here"),
        ({"data": {"choice": [WINE, {"type": "wine", "splits": {"validation": 0.3}}]}}, "data.splits is not what"),
        ({"data": {"choice": [{**WINE, "standardize": True}, {"type": "wine"}]}}, "data.splits is not what"),
        ({"data": {"choice": [{"type": "wine", "splits": {**SPLITS, "seed": {"int": [0, 9]}}}]}}, "data.splits"),
        ({"evaluation.cv": [3, 5]}, "measured otherwise"),
        ({"evaluation": {"choice": [{"cv": 3}, {"cv": 5}]}}, "measured otherwise"),
        ({"evaluation.metrics": {"choice": [["a:b"], ["c:d"]]}}, "measured otherwise"),
        ({"seed": [0, 1]}, "trial n's from it and n"),
        ({"seeds": [1, 2]}, "runs without a search"),
        ({"device": ["cpu", "cuda"]}, "where a model is computed"),
        ({"name": ["a", "b"]}, "names the run"),
        ({"gates": {"choice": [[], ["test.accuracy > 0"]]}}, "when the search has ended"),
    ],
)
def test_what_results_are_measured_on_is_no_setting(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ExperimentError, match=r"cannot be compared|a search cannot change") as refused:
        search(space)
    assert message in str(refused.value)


@pytest.mark.parametrize("option", ["task", "weights", "target", "path", "separator", "encoding", "max_categories"])
def test_options_of_tables(option: str, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(40)))
    data = {"type": "csv", "path": str(table), "target": "y", "splits": SPLITS}
    with pytest.raises(ExperimentError, match=f"cannot change data.{option}"):
        search({f"data.{option}": ["a", "b"]}, data=data)


def test_what_changes_inputs_alone_is_searched() -> None:
    space = {"data.standardize": [True, False], "model.max_depth": [1, 2]}
    assert len(tune.run(search(space), Context()).tables["trials"].rows) == 4
    whole = {"data": {"choice": [{**WINE, "standardize": True}, {**WINE, "standardize": False}]}}
    assert len(tune.run(search(whole), Context()).tables["trials"].rows) == 2


def test_every_option_of_every_source_is_one_or_the_other() -> None:
    """A new option must say whether a search may try it."""
    for name in FAMILIES["data"].names():
        source = FAMILIES["data"].get(name)
        assert issubclass(source, DataSource)
        assert not source.changes_inputs & source.decides_samples, name
        unsorted = set(source.model_fields) ^ (source.changes_inputs | source.decides_samples)
        assert not unsorted, f"{name}: put {sorted(unsorted)} into changes_inputs or decides_samples"


@pytest.mark.parametrize("missing", ["impute", "drop"])
def test_rows_that_go_are_found_when_the_data_are_read(missing: str, tmp_path: Path) -> None:
    """`missing` may be searched, but where rows are missing a value, `drop` measures on fewer."""
    for hole in (False, True):
        table = tmp_path / f"rows{hole}.csv"
        rows = [f"{i % 7},{'ab'[i % 2]}" for i in range(40)]
        table.write_text("\n".join(["x,y", *rows, ",a" if hole else "3,a"]) + "\n")
        data = {"type": "csv", "path": str(table), "target": "y", "splits": SPLITS, "missing": missing}
        chosen = search({"data.missing": ["impute", "drop"]}, data=data)
        if hole:
            for run in (tune.dry_run, tune.run):
                with pytest.raises(UsageError, match=r"data\.missing = 'drop' gives other samples"):
                    run(chosen, Context())
        else:
            assert len(tune.run(chosen, Context()).tables["trials"].rows) == 2


def samples(power: float = 1.0, shift: int = 0) -> tuple[Any, Any]:
    inputs = np.random.default_rng(0).random((60, 3))
    return inputs**power, (np.roll(inputs, shift, axis=0).sum(axis=1) > 1.5).astype(np.int64)


def test_arguments_of_ones_own_function() -> None:
    """What they change is known to the function alone: the samples' targets are compared."""
    own = {"type": "python", "target": f"{__name__}:samples", "folder": str(Path(__file__).parent), "splits": SPLITS}
    own["arguments"] = {"power": 1.0, "shift": 0}
    report = tune.run(search({"data.arguments.power": [1.0, 2.0]}, data=own), Context())
    assert [row[1] for row in report.tables["trials"].rows] == ["completed", "completed"]
    with pytest.raises(UsageError, match="other samples, targets or splits"):
        tune.run(search({"data.arguments.shift": [0, 1]}, data=own), Context())


def test_a_value_between_the_ends_is_compared_too() -> None:
    own = {"type": "python", "target": f"{__name__}:samples", "folder": str(Path(__file__).parent), "splits": SPLITS}
    own["arguments"] = {"power": 1.0, "shift": 0}
    chosen = search({"data.arguments.shift": {"int": [0, 60]}}, data=own, tuning={"sampler": "random", "trials": 4})
    report = tune.run(chosen, Context())  # 0 and 60 are the same; what lies between is not
    reasons = [row[-1] for row in report.tables["trials"].rows]
    assert reasons[0] == ""
    assert any("other samples, targets or splits" in str(reason) for reason in reasons)


def test_a_loss_that_is_searched_is_no_yardstick() -> None:
    diabetes = {"type": "diabetes", "splits": SPLITS}
    sections = {"data": diabetes, "model": {"type": "mlp"}, "training": {"epochs": 1}}
    space = {"training.loss": ["mse", "mae"]}
    with pytest.raises(ExperimentError, match=r"training\.loss changes what that is"):
        search(space, tuning={"objective": "minimize validation.loss"}, **sections)
    search(space, tuning={"objective": "minimize validation.rmse"}, **sections)


def test_an_experiment_changed_in_python_is_refused_in_our_words() -> None:
    """The space was checked with the file's own model; now no path of it is there."""
    chosen = search({"model.max_depth": [1, 2]}).with_values({"model": {"type": "mlp"}, "training": {"epochs": 1}})
    with pytest.raises(ExperimentError, match="there is no 'max_depth' in model"):
        tune.run(chosen, Context())
