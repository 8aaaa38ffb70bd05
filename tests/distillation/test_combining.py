"""One teacher output from several teachers, against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from modelopt_cli.core.errors import UsageError
from modelopt_cli.data.raw import Task
from modelopt_cli.distillation.combining import combined
from modelopt_cli.distillation.teacher_criterion import TeacherCriterion
from modelopt_cli.distillation.teacher_outputs import TeacherOutput
from tests.support.teaching_fakes import criterion, differ, teacher, trained, trainer


def teacher_outputs(count: int, seed: int = 0) -> list[TeacherOutput]:
    generator = torch.Generator().manual_seed(seed)
    return [
        TeacherOutput(3 * torch.randn(7, 4, generator=generator), {"a": torch.randn(7, 2, generator=generator)})
        for _ in range(count)
    ]


def targets_of(task: Task) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    if task == "classification":
        return torch.randint(4, (7,), generator=generator)
    drawn = torch.randn(7, 4, generator=generator)
    return drawn if task == "regression" else (drawn > 0).float()


def values(spoken: list[TeacherOutput]) -> np.ndarray:
    return np.stack([one.outputs.double().numpy() for one in spoken])


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities() -> None:
    given = teacher_outputs(3)
    joined = combined(given, "mean", [5.0, 1.0, 1.0], targets_of("classification"), "classification")
    assert np.allclose(joined.outputs, values(given).mean(0), atol=1e-6)
    geometric = np.exp(np.log(softmax(values(given), -1)).mean(0))
    assert np.allclose(softmax(joined.outputs, -1), geometric / geometric.sum(-1, keepdims=True), atol=1e-6)
    assert joined.features is given[0].features


def test_weights_are_shares() -> None:
    given = teacher_outputs(3)
    for weights in ([1.0, 2.0, 5.0], [0.1, 0.2, 0.5]):
        joined = combined(given, "weighted", weights, targets_of("classification"), "classification")
        assert np.allclose(joined.outputs, np.average(values(given), axis=0, weights=weights), atol=1e-6)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("count", [2, 3])
def test_confidence_is_equation_3_of_ca_mkd(task: Task, count: int) -> None:
    given, targets = teacher_outputs(count), targets_of(task)
    outputs = values(given)
    if task == "classification":
        losses = -np.take_along_axis(log_softmax(outputs, -1), targets.numpy()[None, :, None], -1)[..., 0]
    elif task == "multilabel":
        truth = targets.numpy()[None]
        losses = (np.logaddexp(0, outputs) - truth * outputs).mean(-1)
    else:
        losses = ((outputs - targets.double().numpy()) ** 2).mean(-1)
    shares = (1 - np.exp(losses) / np.exp(losses).sum(0)) / (count - 1)
    assert np.allclose(shares.sum(0), 1)
    joined = combined(given, "confidence", [], targets, task)
    assert np.allclose(joined.outputs, (shares[..., None] * outputs).sum(0), atol=1e-5)
    best = losses.argmin(0)
    assert bool((shares.argmax(0) == best).all()), "who knows the target best has the largest share"


def test_soft_targets_have_a_confidence_too() -> None:
    given, hard = teacher_outputs(2), targets_of("classification")
    soft = torch.nn.functional.one_hot(hard, 4).float()
    one, other = (combined(given, "confidence", [], targets, "classification") for targets in (hard, soft))
    torch.testing.assert_close(one.outputs, other.outputs)


def test_one_teacher_is_itself() -> None:
    [given] = teacher_outputs(1)
    assert combined([given], "confidence", [2.0], targets_of("classification"), "classification") is given


def test_several_teachers_in_a_training() -> None:
    both = [teacher(5), teacher(6)]
    mean = trained(criterion(*both))
    assert differ(mean, trained(criterion(both[0])))
    assert differ(mean, trained(criterion(*both, combine="confidence")))
    weighted = criterion(*both, combine="weighted")
    weighted._weights = [1e-9, 1e9]  # private: weights that no validation gives
    alone = trained(criterion(both[1]))
    learnt = trained(weighted)
    for name, tensor in alone.items():
        torch.testing.assert_close(learnt[name], tensor, rtol=1e-4, atol=1e-5)


def test_teachers_learn_nothing_and_no_gradient_reaches_them() -> None:
    both = [teacher(5), teacher(6)]
    before = [{name: tensor.clone() for name, tensor in one.state_dict().items()} for one in both]
    losses = [{"type": "soft_targets"}, {"type": "fitnets", "taps": ["0"]}]
    for cache in ("none", "memory"):
        trained(criterion(*both, losses=losses, combine="confidence", cache={"where": cache}))
    for one, old in zip(both, before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in one.state_dict().items())
        assert all(parameter.grad is None for parameter in one.parameters())


@pytest.mark.parametrize("outputs", [3, 1, 5])
def test_other_numbers_of_outputs_are_never_broadcast(outputs: int) -> None:
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, outputs))
    with pytest.raises(
        UsageError, match=rf"the teacher 2 gives \({outputs},\) outputs for a sample, but the student 4"
    ):
        trainer(criterion(teacher(), other))
    with pytest.raises(UsageError, match="the teacher gives"):
        trainer(criterion(other))


def test_a_criterion_of_no_weights_shares_alike() -> None:
    joined = criterion(teacher(5), teacher(6), combine="weighted")
    assert isinstance(joined, TeacherCriterion)
    assert joined._weights == [1.0, 1.0]  # private: what weights are before any validation
