"""A pruned model recovers with its dense self, or another model, as the teacher."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli.core.errors import ExperimentError, InputError, UsageError
from modelopt_cli.distillation.teacher_criterion import TeacherCriterion
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import prune
from modelopt_cli.workflows.shared.context import Context, StopFlag
from tests.support.distill_cases import BASE, SGD, SOFT, assert_same, differ, rows, stopping_at

pytestmark = pytest.mark.usefixtures("quick")


CUBIC = {"schedule": {"type": "cubic", "rounds": 4}}
KINDS: dict[str, dict[str, Any]] = {
    "weights": {"amount": 0.8},
    "weights, cubic": {"amount": 0.8, **CUBIC},
    "weights, rounds": {"amount": 0.8, "schedule": {"type": "rounds", "rounds": 2}},
    "neurons": {"amount": 0.5, "structure": "neurons"},
    "neurons, cubic": {"amount": 0.5, "structure": "neurons", **CUBIC},
}


def experiment(pruning: dict[str, Any], distillation: Any = True, **sections: Any) -> Experiment:
    recovery: dict[str, Any] = {"epochs": 3, "lr": 0.05}
    if distillation is not None:
        recovery["distillation"] = {"losses": SOFT} if distillation is True else distillation
    model = {"type": "mlp", "hidden": [16, 12], "dropout": 0.1}
    training = {"epochs": 2, "batch_size": 16, "optimizer": SGD}
    pruning = {**pruning, "recovery": recovery}
    return Experiment.load(
        {**{key: BASE[key] for key in ("data",)}, "model": model, "training": training, "pruning": pruning, **sections}
    )


def pruned(chosen: Experiment, out: Path | None = None, **given: Any) -> Report:
    if out is None:
        return prune.run(chosen, Context(**given))
    with RunDirectory.create_at(out, resume=given.get("resume", False)) as directory:
        return prune.run(chosen, Context(directory=directory, **given))


def state_of(report: Report) -> dict[str, torch.Tensor]:
    return dict(report.model.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_before_pruning_teaches(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    taught: list[dict[str, torch.Tensor]] = []
    begin = TeacherCriterion.begin

    def watched(self: TeacherCriterion, setting: Any) -> None:
        taught.append({name: tensor.clone() for name, tensor in self._modules[0].state_dict().items()})
        begin(self, setting)

    monkeypatch.setattr(TeacherCriterion, "begin", watched)
    report = pruned(experiment(KINDS[kind]), tmp_path / "run")
    assert len(taught) > 1
    dense = checkpoints.load(tmp_path / "run/dense.pt").model.state_dict()
    for one in taught[1:]:  # the first stood in when all was checked
        assert [tensor.tolist() for tensor in one.values()] == [tensor.tolist() for tensor in dense.values()]
    by_labels = pruned(experiment(KINDS[kind], None))
    assert differ(state_of(report), state_of(by_labels))
    assert [row["stage"] for row in rows(report.tables["stages"])] == ["before", "pruned", "final"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["weights", "neurons"])
def test_labels_alone_are_a_recovery_without_a_teacher(kind: str) -> None:
    """The criterion changes nothing but the loss: with a teacher that weighs next to nothing it is as without."""
    losses = [{"type": "labels"}, {"type": "soft_targets", "weight": 0.0}]
    assert_same(
        state_of(pruned(experiment(KINDS[kind], {"losses": losses}))), state_of(pruned(experiment(KINDS[kind], None)))
    )


def test_zeros_stay_and_the_amount_is_met() -> None:
    report = pruned(experiment(KINDS["weights, cubic"]))
    masks = report.model.extra["masks"]
    assert masks
    assert report.metrics["pruning.sparsity"] == pytest.approx(0.8, abs=0.01)


def test_another_teacher(tmp_path: Path) -> None:
    pruned(experiment(KINDS["weights"], None, seed=5), tmp_path / "other")
    other = {"losses": SOFT, "teacher": str(tmp_path / "other/dense.pt")}
    pruned(experiment(KINDS["weights"]), tmp_path / "own")
    own = {"losses": SOFT, "teacher": str(tmp_path / "own/dense.pt")}
    states = [state_of(pruned(experiment(KINDS["weights"], section))) for section in (True, own, other)]
    assert_same(states[0], states[1])
    assert differ(states[0], states[2])


FITNETS = [*SOFT, {"type": "fitnets", "taps": ["layers.0"], "weight": 0.1}]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [4, 5])
def test_interrupted_in_the_recovery_it_ends_the_same(kind: str, step: int, tmp_path: Path) -> None:
    losses = FITNETS if kind.startswith("weights") else SOFT
    chosen = experiment(KINDS[kind], {"losses": losses})
    whole = pruned(chosen)
    stop = StopFlag()
    first = pruned(chosen, tmp_path / "run", emit=stopping_at(step, stop), stop=stop)
    assert first.status == "interrupted"
    report = pruned(chosen, tmp_path / "run", resume=True)
    assert_same(state_of(report), state_of(whole))
    for name in ("test.loss", "validation.loss", "test.loss_rise"):
        assert report.metrics[name] == whole.metrics[name]


@pytest.mark.slow
@pytest.mark.parametrize("taps", [["layers.0"], ["layers.3"]])
def test_features_of_a_slimmed_model(taps: list[str]) -> None:
    losses = [*SOFT, {"type": "rkd", "taps": taps, "weight": 0.1}]
    assert pruned(experiment(KINDS["neurons"], {"losses": losses})).status == "completed"
    losses[-1] = {"type": "fitnets", "taps": taps, "weight": 0.1}
    assert pruned(experiment(KINDS["neurons"], {"losses": losses})).status == "completed"


def test_projectors_and_units_that_go_while_it_recovers_are_refused() -> None:
    losses = [*SOFT, {"type": "fitnets", "taps": ["layers.0"], "weight": 0.1}]
    with pytest.raises(UsageError, match=r"fitnets trains something .* cubic .*; use the schedule rounds"):
        pruned(experiment(KINDS["neurons, cubic"], {"losses": losses}))


def test_a_recovery_that_cannot_be_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelopt_cli.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "advance", lambda *_: pytest.fail("trained"))
    losses = [*SOFT, {"type": "fitnets", "taps": ["layer.0"], "weight": 0.1}]
    with pytest.raises(UsageError, match=r"has no module 'layer\.0'; the nearest are: layers\.0"):
        pruned(experiment(KINDS["weights"], {"losses": losses}))
    with pytest.raises(InputError, match=r"no\.pt"):
        pruned(experiment(KINDS["weights"], {"losses": SOFT, "teacher": "no.pt"}))
    with pytest.raises(UsageError, match="the task is classification"):
        pruned(experiment(KINDS["weights"], {"losses": [{"type": "mse"}]}))


@pytest.mark.parametrize(
    ("pruning", "distillation", "match"),
    [
        ({"amount": 0.5, "start": "initial"}, {"losses": SOFT}, "start: initial leaves untrained"),
        ({"amount": 0.5}, {"losses": [{"type": "labels"}]}, "no loss looks at the teacher"),
        (
            {"amount": 0.5},
            {"teacher": {"model": {"type": "mlp"}, "training": {}}},
            "a teacher of a recovery is trained already",
        ),
    ],
)
def test_sections_that_do_not_go_together(pruning: Any, distillation: Any, match: str) -> None:
    with pytest.raises(ExperimentError, match=match):
        experiment(deepcopy(pruning), distillation)
