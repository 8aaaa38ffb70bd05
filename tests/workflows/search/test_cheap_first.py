"""The first trials of a search vary late stages alone; a search that is resumed or replayed has the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from modelopt_cli import Report, load, tune
from modelopt_cli.cli.main import app
from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.tuning.trials.trial import CHEAP
from modelopt_cli.workflows.search.cheap_first import cheap_count, cheap_settings, early_paths
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.tune import dry_run

PRUNE: dict[str, Any] = {
    "version": 1,
    "name": "cheap",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 1, "batch_size": 64},
    "pruning": {"structure": "neurons", "amount": 0.3},
    "tuning": {
        "workflow": "prune",
        "objective": ["maximize validation.accuracy", "minimize model.parameters"],
        "sampler": "random",
        "executor": "serial",
        "trials": 8,
        "space": {"model.hidden.0": {"int": [4, 16]}, "pruning.amount": {"float": [0.1, 0.9]}},
    },
}
DISTILL = {
    **{key: value for key, value in PRUNE.items() if key != "pruning"},
    "distillation": {"teacher": {"model": {"type": "mlp", "hidden": [16]}, "training": {"epochs": 1}}},
    "tuning": {
        **PRUNE["tuning"],
        "workflow": "distill",
        "objective": "maximize validation.accuracy",
        "space": {
            "distillation.teacher.model.hidden.0": {"int": [4, 32]},
            "model.hidden.0": {"int": [4, 16]},
            "training.optimizer.lr": {"float": [0.001, 0.1]},
        },
    },
}
COMPRESS = {**PRUNE, "tuning": {**PRUNE["tuning"], "workflow": "compress"}}


def rows(report: Report) -> list[dict[str, Any]]:
    return report.tables["trials"].records()


def count(content: dict[str, Any], trials: int | None = 30, *overrides: str) -> int:
    experiment = load(content, list(overrides))
    return cheap_count(experiment, search_space(experiment), trials)


@pytest.mark.parametrize(
    ("content", "early"),
    [
        (PRUNE, ["model.hidden.0"]),
        (COMPRESS, ["model.hidden.0"]),
        (DISTILL, ["distillation.teacher.model.hidden.0"]),
    ],
    ids=["prune", "compress", "distill"],
)
def test_early_paths_keep_the_files_own_values(content: dict[str, Any], early: list[str]) -> None:
    experiment = load(content)
    space = search_space(experiment)
    own = space.from_values(experiment.value)
    assert own is not None
    first, late = early_paths(experiment, space)
    assert first == early
    assert sorted([*first, *late]) == sorted(space.paths)
    settings = cheap_settings(experiment, space, 9)
    assert len({space.canonical(each) for each in (own, *settings)}) == 10, "all different, and none the file's own"
    assert all(space.problem(each) is None for each in settings)
    assert all(each[path] == own[path] for each in settings for path in early)
    for path in late:
        values = sorted(each[path] for each in settings)
        assert values[0] < own[path] < values[-1] or path != "pruning.amount", "they are spread"
    assert cheap_settings(experiment, space, 9) == settings, "the same each time"
    assert cheap_settings(load(content, ["seed=1"]), space, 9) != settings, "by the experiment's seed"


def test_how_many() -> None:
    assert [count(PRUNE, trials) for trials in (2, 4, 9, 12, 30, None)] == [2, 4, 4, 4, 10, 8]
    assert count(PRUNE, 30, "tuning.cheap_first=7") == 7
    assert count(PRUNE, 5, "tuning.cheap_first=7") == 5
    assert count(PRUNE, 30, "tuning.cheap_first=false") == 0
    assert count(PRUNE, 30, "tuning.sampler=grid", "tuning.space={pruning.amount: [0.2, 0.4]}") == 0
    late_alone = "tuning.space={pruning.amount: {float: [0.1, 0.9]}}"
    early_alone = "tuning.space={model.hidden.0: {int: [4, 16]}}"
    elsewhere = "tuning.space={model.hidden.0: {int: [9, 16]}, pruning.amount: {float: [0.1, 0.9]}}"
    assert [count(PRUNE, 30, each) for each in (late_alone, early_alone, elsewhere)] == [0, 0, 0]
    train = {key: value for key, value in PRUNE.items() if key != "pruning"}
    train["tuning"] = {**PRUNE["tuning"], "workflow": "train", "space": {"model.hidden.0": {"int": [4, 16]}}}
    assert count(train) == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuning.space={pruning.amount: {float: [0.1, 0.9]}}", "made once anyway"),
        ("tuning.space={model.hidden.0: {int: [4, 16]}}", "changes an early stage"),
        ("tuning.space={model.hidden.0: {int: [9, 16]}, pruning.amount: {float: [0.1, 0.9]}}", "lie outside"),
    ],
)
def test_a_number_that_comes_to_nothing_is_refused(override: str, message: str) -> None:
    experiment = load(PRUNE, ["tuning.cheap_first=5", override])
    with pytest.raises(UsageError, match=message):
        dry_run(experiment, Context())


def test_true_says_not_how_many() -> None:
    with pytest.raises(ExperimentError, match="must be auto, false, or how many"):
        load(PRUNE, ["tuning.cheap_first=true"])
    with pytest.raises(ExperimentError):
        load(PRUNE, ["tuning.cheap_first=-1"])
    assert count(PRUNE, 30, "tuning.cheap_first=0") == 0


def test_a_finite_space_has_no_more_than_it_has() -> None:
    experiment = load(PRUNE, ["tuning.space={model.hidden.0: [8, 16], pruning.amount: [0.3, 0.6]}"])
    assert cheap_settings(experiment, search_space(experiment), 9) == [{"model.hidden.0": 8, "pruning.amount": 0.6}]


@pytest.mark.slow
def test_they_come_first_and_a_search_that_goes_on_has_the_same(tmp_path: Path) -> None:
    whole = rows(tune(load(PRUNE), out=tmp_path / "whole"))
    assert [row["origin"] for row in whole] == ["file", *[CHEAP] * 3, *["sampler"] * 4]
    assert {row["model.hidden.0"] for row in whole[:4]} == {8}
    tune(load(PRUNE, ["tuning.trials=2"]), out=tmp_path / "cut")
    resumed = rows(tune(load(PRUNE), out=tmp_path / "cut", resume=True))
    assert [row["origin"] for row in resumed[:2]] == ["file", CHEAP]
    assert [row["pruning.amount"] for row in resumed[:2]] == [row["pruning.amount"] for row in whole[:2]]
    assert len(resumed) == 8
    replayed = CliRunner().invoke(app, ["replay", str(tmp_path / "whole")])
    assert replayed.exit_code == 0, replayed.output


@pytest.mark.slow
def test_the_sampler_still_sees_all_of_the_space_before_it_learns() -> None:
    """Half of its first points at least are spread over everything: of early values the cheap ones tell nothing."""
    report = tune(load(PRUNE, ["tuning.sampler={type: tpe, initial_points: 6}", "tuning.trials=24"]))
    origins = [row["origin"] for row in rows(report)]
    assert origins[:8] == ["file", *[CHEAP] * 7]
    after = [row["model.hidden.0"] for row in rows(report)[8:10]]
    assert after != [8, 8]


@pytest.mark.slow
def test_the_plan_says_so(tmp_path: Path) -> None:
    from modelopt_cli.core.yaml_dumper import dump

    file = tmp_path / "cheap.yaml"
    file.write_text(dump(PRUNE))
    done = CliRunner().invoke(app, ["tune", str(file), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "4 trials with the file's own early stages" in done.output
