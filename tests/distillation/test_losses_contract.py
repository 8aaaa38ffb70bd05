"""What every distillation loss promises: finite, reproducible, and a gradient for the student and the state alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.data.raw import Task
from modelopt_cli.distillation.loss_inputs import LossInputs
from modelopt_cli.distillation.losses import DistillationLoss, OutputLoss
from tests.support.loss_cases import (
    CLASSES,
    FEATURE_CASES,
    KINDS,
    NAMES,
    ON_FEATURES,
    drawn,
    inputs_of,
    loss_of,
    random,
    state_of,
)

# (name, kind): a task for losses on outputs, a kind of features for the others
OUTPUT_CASES = [(name, task) for name in NAMES if name not in ON_FEATURES for task in loss_of(name).tasks]
CASES = [*OUTPUT_CASES, *FEATURE_CASES]
STATEFUL = {"fitnets", "vid", "crd", "review_kd"}
# Those in which samples depend on each other; `review_kd` by its batch normalisation.
RELATIONAL = {"dist", "similarity_preserving", "rkd", "review_kd", "labels"}


def inputs_for(
    name: str, kind: str, batch: int = 5, seed: int = 0, weights: Tensor | None = None
) -> tuple[LossInputs, list[Tensor]]:
    """A batch, and what of it the student may learn from."""
    outputs, teacher = random(batch, CLASSES, seed=seed), random(batch, CLASSES, seed=seed + 30)
    if name in ON_FEATURES:
        students, teachers = drawn(KINDS[kind][0], batch, seed), drawn(KINDS[kind][1], batch, seed + 50)
        leaves = [one.requires_grad_() for one in students]
        return inputs_of(outputs, teacher, weights=weights, students=students, teachers=teachers), leaves
    outputs.requires_grad_()
    task: Task = kind  # type: ignore[assignment]
    return inputs_of(outputs, teacher, task=task, weights=weights), [outputs]


def changed(inputs: LossInputs, student: object, teacher: object) -> tuple[LossInputs, list[Tensor]]:
    """The same batch with its outputs and features made by two functions."""
    students = tuple(student(one.detach()).requires_grad_() for one in (inputs.student, *inputs.student_features))  # type: ignore[operator]
    teachers = tuple(teacher(one.detach()) for one in (inputs.teacher, *inputs.teacher_features))  # type: ignore[operator]
    seen = inputs_of(
        students[0], teachers[0], task=inputs.task, targets=inputs.targets, students=students[1:], teachers=teachers[1:]
    )
    return seen, list(students[1:]) or [students[0]]


def value_and_gradients(
    loss: DistillationLoss, inputs: LossInputs, leaves: list[Tensor], state: nn.Module | None, *, autocast: bool = False
) -> list[Tensor]:
    torch.manual_seed(0)
    parameters = [] if state is None else list(state.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss.loss(inputs, state)
    return [value.detach(), *torch.autograd.grad(value, [*leaves, *parameters])]


def variants(name: str) -> list[DistillationLoss]:
    plain = [loss_of(name)]
    return [*plain, loss_of(name, standardize=True)] if isinstance(plain[0], OutputLoss) else plain


MAKERS = {
    "zeros": torch.zeros_like,
    "ones": lambda one: torch.full_like(one, 3.0),
    "one sample dead": lambda one: torch.cat([torch.zeros_like(one[:1]), one[1:]]),
    "huge": lambda one: 1e4 * one,
    "tiny": lambda one: 1e-4 * one,
    "huge signs": lambda one: 1e4 * one.sign(),
    "random": lambda one: one,
}


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_values_and_gradients_are_finite(name: str, kind: str, batch: int) -> None:
    for loss in variants(name):
        state = state_of(loss, kind)
        for (of_student, student), (of_teacher, teacher) in (
            (one, other) for one in MAKERS.items() for other in MAKERS.items()
        ):
            inputs, leaves = changed(inputs_for(name, kind, batch)[0], student, teacher)
            computed = value_and_gradients(loss, inputs, leaves, copy.deepcopy(state))
            assert computed[0].shape == ()
            assert computed[0].dtype == torch.float32
            what = f"{loss}: student {of_student}, teacher {of_teacher}"
            assert all(bool(one.isfinite().all()) for one in computed), what
            assert all(bool((one.abs() < 1e9).all()) for one in computed[1:]), f"{what}: the gradient is thrown far"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_low_precision_is_accepted_and_compared_in_float32(name: str, kind: str) -> None:
    loss = loss_of(name)
    state = state_of(loss, kind)
    low, low_leaves = changed(inputs_for(name, kind)[0], torch.Tensor.bfloat16, torch.Tensor.bfloat16)
    full, leaves = changed(low, torch.Tensor.float, torch.Tensor.float)
    if name == "labels":
        assert loss.loss(low, None).isfinite()
        return
    expected = value_and_gradients(loss, full, leaves, copy.deepcopy(state))
    narrow = value_and_gradients(loss, low, low_leaves, copy.deepcopy(state), autocast=True)
    assert torch.equal(narrow[0], expected[0])
    for one, other in zip(narrow, expected, strict=True):
        assert torch.equal(one, other.to(one.dtype))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_teacher_gets_no_gradient(name: str, kind: str) -> None:
    loss = loss_of(name)
    inputs, _ = inputs_for(name, kind)
    teachers = [inputs.teacher.requires_grad_(), *(one.requires_grad_() for one in inputs.teacher_features)]
    loss.loss(inputs, state_of(loss, kind)).backward()
    assert all(one.grad is None for one in teachers)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_student_and_the_whole_state_get_gradients(name: str, kind: str) -> None:
    loss = loss_of(name)
    state = state_of(loss, kind)
    assert (state is not None) == (name in STATEFUL)
    inputs, leaves = inputs_for(name, kind)
    loss.loss(inputs, state).backward()
    own = [] if state is None else list(state.parameters())
    for one in (*leaves, *own):
        assert one.grad is not None
        assert float(one.grad.abs().max()) > 0


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_same_seed_gives_the_same(name: str, kind: str) -> None:
    loss = loss_of(name)
    computed = []
    for _ in range(2):
        state = state_of(loss, kind, seed=3)
        steps = [value_and_gradients(loss, *inputs_for(name, kind, seed=step), state) for step in range(2)]
        computed.append([one for step in steps for one in step])
    assert all(torch.equal(one, other) for one, other in zip(*computed, strict=True))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in FEATURE_CASES if name in STATEFUL])
def test_states_are_saved_and_loaded_whole(name: str, kind: str) -> None:
    loss = loss_of(name)
    state, other = state_of(loss, kind, seed=1), state_of(loss, kind, seed=2)
    assert state is not None
    assert other is not None
    value_and_gradients(loss, *inputs_for(name, kind), state)  # so that what is remembered has changed
    other.load_state_dict(state.state_dict())
    later = [value_and_gradients(loss, *inputs_for(name, kind, seed=1), one) for one in (state, other)]
    assert all(torch.equal(one, two) for one, two in zip(*later, strict=True))


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in CASES if name not in RELATIONAL])
def test_a_sample_without_weight_makes_no_difference(name: str, kind: str) -> None:
    loss = loss_of(name)
    state = state_of(loss, kind)
    weights = torch.tensor([1.0, 2.0, 0.0, 0.5, 3.0])
    inputs, _ = inputs_for(name, kind, weights=weights)
    value_and_gradients(loss, *inputs_for(name, kind), state)  # a first batch sets what crd divides by

    def of(marred: int | None) -> float:
        torch.manual_seed(0)
        parts = [one.detach().clone() for one in (inputs.student, *inputs.student_features)]
        if marred is not None:
            for one in parts:
                one[marred] += 1.0 + one[marred].abs()
        other = inputs_of(
            parts[0],
            inputs.teacher,
            task=inputs.task,
            weights=weights,
            students=tuple(parts[1:]),
            teachers=inputs.teacher_features,
        )
        return float(loss.loss(other, copy.deepcopy(state)).detach())

    assert of(2) == of(None)
    assert of(1) != of(None)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in FEATURE_CASES if name != "review_kd"])
def test_losses_of_taps_are_added(name: str, kind: str) -> None:
    """But for those of knowledge review, which are one chain."""
    loss = loss_of(name)
    state = state_of(loss, kind)
    inputs, _ = inputs_for(name, kind)

    def of(*taps: int) -> float:
        torch.manual_seed(0)
        students, teachers = (
            [each[tap] for tap in taps] for each in (inputs.student_features, inputs.teacher_features)
        )
        part = None if state is None else nn.ModuleList(copy.deepcopy(state)[tap] for tap in taps)  # type: ignore[index]
        one = inputs_of(inputs.student, inputs.teacher, students=tuple(students), teachers=tuple(teachers))
        return float(loss.loss(one, part).detach())

    if name == "crd":  # each tap draws negatives of its own
        assert of(0, 1) > of(0) > 0
    else:
        assert of(0, 1) == pytest.approx(of(0) + of(1), rel=1e-5)
