"""What a distillation warns of and refuses: teachers that know the answers, gaps that are none, sums of nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from modelopt_cli import Experiment, load, train
from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import distill
from modelopt_cli.workflows.shared import run_files
from modelopt_cli.workflows.shared.context import Context, EpochEnded
from tests.support.distill_cases import BASE, TEACHER, distilled, experiment

pytestmark = pytest.mark.usefixtures("quick")


def teacher_of(splits: Mapping[str, object], folder: Path) -> str:
    data = {"type": "iris", "splits": splits}
    train(load({**BASE, "data": data}), out=folder / "teacher")
    return str(folder / "teacher/model.pt")


def test_a_teacher_that_has_seen_what_the_student_is_judged_on(tmp_path: Path) -> None:
    other = {"validation": 0.2, "test": 0.2, "seed": 9}
    report = distilled(experiment({"teacher": teacher_of(other, tmp_path)}))
    [warning] = [text for text in report.warnings if "other splits" in text]
    seen = Experiment.load({**BASE, "data": {"type": "iris", "splits": other}})
    from modelopt_cli.workflows.shared import data_cache

    theirs, mine = data_cache.split_data(seen).train, data_cache.split_data(experiment())
    for part in ("validation", "test"):
        own = getattr(mine, part)
        assert f"{len(set(theirs) & set(own))} of {len(own)} {part}" in warning


def test_a_teacher_of_the_same_splits_is_not_suspected(tmp_path: Path) -> None:
    same = BASE["data"]["splits"]
    assert not [
        text for text in distilled(experiment({"teacher": teacher_of(same, tmp_path)})).warnings if "seen" in text
    ]


def test_no_gap_is_said() -> None:
    poor = {**TEACHER, "model": {"type": "mlp", "hidden": [1]}, "training": {"epochs": 1, "optimizer": "sgd"}}
    report = distilled(experiment({"teacher": poor}))
    for split in ("validation", "test"):
        warned = any(f"no gap to close on the {split} split" in text for text in report.warnings)
        assert warned == (f"{split}.gap_closed" not in report.metrics)
    assert any("no gap to close" in text for text in report.warnings)


def test_progress_names_who_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[EpochEnded] = []
    distill.run(
        experiment(), Context(emit=lambda event: events.append(event) if isinstance(event, EpochEnded) else None)
    )
    assert [event.doing for event in events] == ["teacher"] * 2 + ["student alone"] * 3 + ["student"] * 3


def refused(directory: RunDirectory, *, begun: bool) -> None:
    with directory:
        if begun:
            run_files.record(experiment(), Context(directory))
        raise UsageError("refused")


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for directory, begun, stays in (
        (RunDirectory.create(tmp_path, "x"), False, False),
        (RunDirectory.create_at(tmp_path / "mine"), False, True),  # it was there before
        (RunDirectory.create_at(tmp_path / "new"), False, False),
        (RunDirectory.create(tmp_path, "x"), True, True),
    ):
        with pytest.raises(UsageError, match="refused"):
            refused(directory, begun=begun)
        assert directory.path.exists() == stays


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ExperimentError, match="all losses have weight 0"):
        experiment({"teacher": TEACHER, "losses": [{"type": "soft_targets", "weight": 0}]})


@pytest.mark.parametrize(
    ("workflow", "path", "remedy"),
    [
        ("train", "distillation.losses.1.temperature", "set tuning.workflow: distill"),
        ("distill", "pruning.amount", "set tuning.workflow: prune"),
        ("train", "pruning.amount", "set tuning.workflow: prune"),
    ],
)
def test_a_search_over_what_its_workflow_does_not_look_at_is_refused(workflow: str, path: str, remedy: str) -> None:
    tuning = {
        "workflow": workflow,
        "objective": "maximize validation.accuracy",
        "space": {path: {"float": [0.1, 0.9]}},
    }
    with pytest.raises(ExperimentError, match=remedy):
        load({**BASE, "pruning": {"amount": 0.5}, "tuning": tuning})
