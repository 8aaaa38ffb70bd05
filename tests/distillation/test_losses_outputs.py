"""Losses on outputs against references written from their formulas, and what leaves them as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from modelopt_cli.data.raw import Task
from modelopt_cli.distillation.losses.dist import correlation
from tests.support.loss_cases import NAMES, ON_FEATURES, inputs_of, loss_of, random

ON_OUTPUTS = [name for name in NAMES if name not in ON_FEATURES]
Reference = Callable[[Tensor, Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


def divergence(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def average(values: list[Tensor], weights: Tensor) -> Tensor:
    return (torch.stack(values) * weights).sum() / weights.sum()


def standardized(z: Tensor) -> Tensor:
    """Sun et al., algorithm 1: before the temperature; T² and all else stay."""
    return torch.stack([(row - row.mean()) / row.std() for row in z])


def of_soft_targets(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    t = o["temperature"]
    rows = zip(student, teacher, strict=True)
    return t**2 * average([divergence((b / t).softmax(0), (a / t).softmax(0)) for a, b in rows], weights)


def of_dkd(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    divergences = []
    for a, b, target in zip(student, teacher, targets, strict=True):
        q, p = (a / o["temperature"]).softmax(0), (b / o["temperature"]).softmax(0)
        others = torch.arange(len(a)) != target
        q_binary = torch.stack([q[target], q[others].sum()])
        p_binary = torch.stack([p[target], p[others].sum()])
        q_others, p_others = q[others] / q[others].sum(), p[others] / p[others].sum()
        divergences.append(o["alpha"] * divergence(p_binary, q_binary) + o["beta"] * divergence(p_others, q_others))
    return o["temperature"] ** 2 * average(divergences, weights)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    covariance = (a * b).mean() - a.mean() * b.mean()
    return covariance / (a.var(correction=0) * b.var(correction=0)).sqrt()


def of_dist(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    q, p = (student / o["temperature"]).softmax(1), (teacher / o["temperature"]).softmax(1)
    rows = average([1 - pearson(a, b) for a, b in zip(q, p, strict=True)], weights)
    columns = torch.stack([1 - pearson(a, b) for a, b in zip(q.T, p.T, strict=True)]).mean()
    return o["beta"] * rows + o["gamma"] * columns


def transformed(teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    powers = teacher.softmax(0) ** (1 / temperature)
    return powers / powers.sum(), powers.sum()


def of_ttm(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    rows = zip(student, teacher, strict=True)
    return average([divergence(transformed(b, o["temperature"])[0], a.softmax(0)) for a, b in rows], weights)


def of_wttm(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    divergences = []
    for a, b in zip(student, teacher, strict=True):
        p, power_sum = transformed(b, o["temperature"])
        divergences.append(power_sum * divergence(p, a.softmax(0)))
    return average(divergences, weights)


def of_mse_logits(student: Tensor, teacher: Tensor, targets: Tensor, weights: Tensor, o: dict[str, Any]) -> Tensor:
    return average([F.mse_loss(a, b) for a, b in zip(student, teacher, strict=True)], weights)


REFERENCES: dict[str, Reference] = {
    "soft_targets": of_soft_targets,
    "dkd": of_dkd,
    "dist": of_dist,
    "ttm": of_ttm,
    "wttm": of_wttm,
    "mse_logits": of_mse_logits,
    "mse": of_mse_logits,
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "soft_targets": [{"temperature": 4.0}, {"temperature": 0.7}],
    "dkd": [{"alpha": 1.0, "beta": 8.0, "temperature": 4.0}, {"alpha": 0.3, "beta": 0.7, "temperature": 1.5}],
    "dist": [{"beta": 1.0, "gamma": 1.0, "temperature": 1.0}, {"beta": 2.0, "gamma": 0.5, "temperature": 4.0}],
    "ttm": [{"temperature": 5.0}, {"temperature": 1.0}],
    "wttm": [{"temperature": 5.0}, {"temperature": 2.0}],
    "mse_logits": [{}],
    "mse": [{}],
}
CASES = [(name, options) for name, each in OPTIONS.items() for options in each]


def compared(
    name: str, shape: tuple[int, int], seed: int, prepare: Callable[[Tensor], Tensor] = lambda z: z, **options: Any
) -> None:
    """Value and gradient, with sample weights in every second seed."""
    batch, classes = shape
    student, teacher = 2 * random(batch, classes, seed=seed), 3 * random(batch, classes, seed=seed + 100)
    targets = random(batch, classes, seed=seed + 200).argmax(1)
    weights = torch.arange(1.0, batch + 1) if seed % 2 else torch.ones(batch)
    reference = {key: value for key, value in options.items() if key != "standardize"}

    exact = student.double().requires_grad_()
    expected = REFERENCES[name](prepare(exact), prepare(teacher.double()), targets, weights.double(), reference)
    student.requires_grad_()
    task: Task = "regression" if name == "mse" else "classification"
    inputs = inputs_of(student, teacher, task=task, targets=targets, weights=weights if seed % 2 else None)
    computed = loss_of(name, **options).loss(inputs, None)

    torch.testing.assert_close(computed.double(), expected.detach(), rtol=1e-4, atol=1e-6, check_dtype=False)
    gradients = torch.autograd.grad(computed, student)[0], torch.autograd.grad(expected, exact)[0]
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_losses_are_the_papers_formula(name: str, options: dict[str, Any], seed: int) -> None:
    # The correlation of one sample is not defined, that of two classes has no gradient.
    for shape in ((4, 3), (3, 4), (6, 10)) if name == "dist" else ((4, 2), (1, 3), (6, 10)):
        compared(name, shape, seed, **options)


@pytest.mark.parametrize("name", ["soft_targets", "dkd", "dist", "ttm", "wttm", "mse_logits"])
def test_standardized_losses_are_those_of_standardized_logits(name: str) -> None:
    for seed in (0, 1):
        compared(name, (5, 6), seed, standardized, standardize=True, **OPTIONS[name][0])


def test_every_loss_on_outputs_has_a_reference() -> None:
    assert set(ON_OUTPUTS) == {*REFERENCES, "labels"}


def test_labels_are_the_training_sections_loss() -> None:
    student = random(5, 3).requires_grad_()
    inputs = inputs_of(student, random(5, 3, seed=1))
    assert torch.equal(loss_of("labels").loss(inputs, None), F.cross_entropy(student, torch.tensor([0, 1, 2, 0, 1])))


def test_soft_targets_of_labels_are_the_divergences_of_bernoulli_distributions() -> None:
    student, teacher, t = random(4, 3).requires_grad_(), random(4, 3, seed=1), 2.5
    q, p = (student.double() / t).sigmoid(), (teacher.double() / t).sigmoid()
    expected = t**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean()
    computed = loss_of("soft_targets", temperature=t).loss(inputs_of(student, teacher, task="multilabel"), None)
    torch.testing.assert_close(computed, expected.float())
    gradients = [torch.autograd.grad(value, student)[0] for value in (computed, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_decoupled_parts_make_up_the_divergence() -> None:
    """Zhao et al.: KL = TCKD + (1 - p of the target) NCKD."""
    student, teacher, t = random(1, 5), random(1, 5, seed=1), 3.0
    inputs = inputs_of(student, teacher, targets=torch.tensor([2]))
    beta = 1 - float((teacher / t).softmax(1)[0, 2])
    computed = loss_of("dkd", alpha=1.0, beta=beta, temperature=t).loss(inputs, None)
    torch.testing.assert_close(computed, loss_of("soft_targets", temperature=t).loss(inputs, None))


def test_decoupled_parts_take_the_largest_share_of_soft_targets() -> None:
    student, teacher = random(3, 4), random(3, 4, seed=1)
    shares = torch.tensor([[0.1, 0.6, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.2, 0.0, 0.8]])
    mixed = loss_of("dkd").loss(inputs_of(student, teacher, targets=shares), None)
    assert mixed == loss_of("dkd").loss(inputs_of(student, teacher, targets=torch.tensor([1, 0, 3])), None)
    assert mixed != loss_of("dkd").loss(inputs_of(student, teacher, targets=torch.tensor([2, 0, 3])), None)


@pytest.mark.parametrize("name", ["soft_targets", "dkd", "dist", "ttm", "wttm", "mse_logits", "mse"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name: str) -> None:
    options = {"temperature": 1.0} if name in ("ttm", "wttm") else {}
    student = (3 * random(5, 4)).requires_grad_()
    task: Task = "regression" if name == "mse" else "classification"
    value = loss_of(name, **options).loss(inputs_of(student, student.detach().clone(), task=task), None)
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-5)
    assert float(torch.autograd.grad(value, student)[0].abs().max()) < 1e-5


def test_a_transformed_teacher_has_something_to_teach_a_student_as_sure_as_itself() -> None:
    logits = 3 * random(5, 4)
    assert float(loss_of("ttm", temperature=5.0).loss(inputs_of(logits, logits), None)) > 0.1
    assert float(loss_of("ttm", temperature=5.0).loss(inputs_of(logits / 5, logits), None)) == pytest.approx(
        0, abs=1e-6
    )


def test_a_student_of_constant_probabilities_is_not_thrown_far_by_correlation() -> None:
    """As from a head that starts from zeros: the gradient of a correlation has no bound there."""
    student = torch.zeros(4, 10, requires_grad=True)
    value = loss_of("dist").loss(inputs_of(student, random(4, 10)), None)
    gradient = torch.autograd.grad(value, student)[0]
    assert 0 < float(gradient.abs().max()) < 1


@pytest.mark.parametrize("name", ["soft_targets", "dkd", "dist", "ttm", "wttm", "mse_logits"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4])
def test_a_student_of_constant_logits_is_not_thrown_far_by_standardizing(name: str, constant: float) -> None:
    student = torch.full((4, 10), constant, requires_grad=True)
    value = loss_of(name, standardize=True).loss(inputs_of(student, random(4, 10)), None)
    gradient = torch.autograd.grad(value, student)[0]
    assert 1e-3 < float(gradient.abs().max()) < 10


shifts = st.lists(st.floats(-50, 50), min_size=3, max_size=3).map(lambda values: torch.tensor(values).unsqueeze(1))
scales = st.lists(st.floats(0.01, 100), min_size=3, max_size=3).map(lambda values: torch.tensor(values).unsqueeze(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_targets", "dkd", "dist", "ttm", "wttm"])
@given(of_student=shifts, of_teacher=shifts)
def test_what_is_added_to_all_logits_of_a_sample_makes_no_difference(
    name: str, of_student: Tensor, of_teacher: Tensor
) -> None:
    student, teacher, loss = random(3, 5), random(3, 5, seed=1), loss_of(name)
    moved = loss.loss(inputs_of(student + of_student, teacher + of_teacher), None)
    torch.testing.assert_close(moved, loss.loss(inputs_of(student, teacher), None), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_targets", "dkd", "dist", "ttm", "wttm", "mse_logits"])
@given(shift=shifts, scale=scales)
def test_standardized_logits_have_no_scale_and_no_mean(name: str, shift: Tensor, scale: Tensor) -> None:
    student, teacher, loss = random(3, 5), random(3, 5, seed=1), loss_of(name, standardize=True)
    expected = loss.loss(inputs_of(student, teacher), None)
    for inputs in (inputs_of(scale * (student + shift), teacher), inputs_of(student, scale * (teacher + shift))):
        torch.testing.assert_close(loss.loss(inputs, None), expected, rtol=1e-3, atol=1e-4)


@given(shift=shifts, scale=scales)
def test_correlation_has_no_scale_and_no_mean(shift: Tensor, scale: Tensor) -> None:
    a, b = random(3, 6), random(3, 6, seed=1)
    torch.testing.assert_close(correlation(scale * a + scale * shift, b), correlation(a, b), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(correlation(b, -scale * a), -correlation(a, b), rtol=1e-3, atol=1e-4)
