"""Losses on features against references written from their formulas, and what leaves them as they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.distillation.loss_inputs import FeatureShapes
from modelopt_cli.distillation.losses import DistillationLoss, FeatureLoss
from modelopt_cli.distillation.losses._features import pooled
from tests.support.loss_cases import (
    FEATURE_CASES,
    KINDS,
    ON_FEATURES,
    SAMPLES,
    drawn,
    featured,
    loss_of,
    random,
    shapes_of,
    state_of,
)

Reference = Callable[[Tensor, Tensor, nn.Module], Tensor]


# References: one tap; features (B, C, H, W), where tokens are of width 1 and vectors of one position; (B,) or ()


def smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def of_fitnets(student: Tensor, teacher: Tensor, projector: Any) -> Tensor:
    student, teacher = smaller(student, teacher)
    projected = F.conv2d(student, projector.weight[:, :, None, None], projector.bias)
    return torch.stack([F.mse_loss(a, b) for a, b in zip(projected, teacher, strict=True)])


def of_attention_transfer(student: Tensor, teacher: Tensor, _: nn.Module) -> Tensor:
    student, teacher = smaller(student, teacher)
    q, p = (one.abs().pow(3).sum(1).flatten(1) for one in (student, teacher))
    return (q / q.norm(dim=1, keepdim=True) - p / p.norm(dim=1, keepdim=True)).pow(2).mean(1)


def of_similarity_preserving(student: Tensor, teacher: Tensor, _: nn.Module) -> Tensor:
    def similarity(feature: Tensor) -> Tensor:
        rows = [torch.stack([(a * b).sum() for b in feature]) for a in feature]
        return torch.stack([row / row.pow(2).sum().sqrt() for row in rows])

    return (similarity(teacher) - similarity(student)).pow(2).sum() / len(student) ** 2


def huber(a: Tensor, b: Tensor) -> Tensor:
    apart = (a - b).abs()
    return 0.5 * apart**2 if apart <= 1 else apart - 0.5


def of_rkd(student: Tensor, teacher: Tensor, _: nn.Module) -> Tensor:
    batch = range(len(student))

    def distance(feature: Tensor, i: int, j: int) -> Tensor:
        return (feature[i] - feature[j]).pow(2).sum().sqrt()

    def mean_distance(feature: Tensor) -> Tensor:
        return torch.stack([distance(feature, i, j) for i in batch for j in batch if i != j]).mean()

    def angle(feature: Tensor, i: int, j: int, k: int) -> Tensor:
        if j in (i, k):
            return torch.zeros((), dtype=feature.dtype)
        return ((feature[i] - feature[j]) * (feature[k] - feature[j])).sum() / (
            distance(feature, i, j) * distance(feature, k, j)
        )

    means = mean_distance(student), mean_distance(teacher)
    distances = [
        huber(distance(student, i, j) / means[0], distance(teacher, i, j) / means[1])
        for i, j in product(batch, batch)
        if i != j
    ]
    angles = [huber(angle(student, *ijk), angle(teacher, *ijk)) for ijk in product(batch, batch, batch)]
    return 25 * torch.stack(distances).sum() / len(student) ** 2 + 50 * torch.stack(angles).mean()


def of_vid(student: Tensor, teacher: Tensor, gaussian: Any) -> Tensor:
    student, teacher = smaller(student, teacher)
    first, second, third = (layer.weight[:, :, None, None] for layer in gaussian.mean if isinstance(layer, nn.Linear))
    mean = F.conv2d(F.conv2d(F.conv2d(student, first).relu(), second).relu(), third)
    variance = (1 + gaussian.scale.exp()).log() + 1e-5
    normal = torch.distributions.Normal(mean, variance.sqrt()[:, None, None])
    return (-normal.log_prob(teacher) - 0.5 * math.log(2 * math.pi)).mean((1, 2, 3))


def of_nst(student: Tensor, teacher: Tensor, _: nn.Module) -> Tensor:
    student, teacher = (one.flatten(2) for one in smaller(student, teacher))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([((x / x.norm()) @ (y / y.norm())) ** 2 for x in a for y in b]).mean()

    rows = zip(student, teacher, strict=True)
    return torch.stack([kernel(a, a) + kernel(b, b) - 2 * kernel(a, b) for a, b in rows])


REFERENCES: dict[str, Reference] = {
    "fitnets": of_fitnets,
    "attention_transfer": of_attention_transfer,
    "similarity_preserving": of_similarity_preserving,
    "rkd": of_rkd,
    "vid": of_vid,
    "nst": of_nst,
}
OPTIONS = {"attention_transfer": {"exponent": 3.0}}
CASES = [(name, kind) for name, kind in FEATURE_CASES if name in REFERENCES]


def as_maps(feature: Tensor) -> Tensor:
    if feature.ndim == 3:
        return feature.transpose(1, 2).unsqueeze(3)
    return feature[:, :, None, None] if feature.ndim == 2 else feature


def alike(computed: Tensor, expected: Tensor, leaves: list[Tensor], exact: list[Tensor]) -> None:
    """The same value, and the same gradients at leaves."""
    torch.testing.assert_close(computed.double(), expected.detach(), rtol=1e-4, atol=1e-6)
    both = torch.autograd.grad(computed, leaves), torch.autograd.grad(expected, exact)
    for one, other in zip(*both, strict=True):
        assert float(other.abs().max()) > 1e-7, "a gradient of zeros says nothing"
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-5 * max(1, float(other.abs().max())))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_losses_are_the_papers_formula(name: str, kind: str, seed: int) -> None:
    """The sum of two taps, value and gradients of features and state; with sample weights where they count."""
    loss = loss_of(name, **OPTIONS.get(name, {}))
    state = state_of(loss, kind, seed)
    students, teachers = drawn(KINDS[kind][0], seed=seed), drawn(KINDS[kind][1], seed=seed + 50)
    weights = torch.arange(1.0, 6.0) if seed else None
    exact = [one.double().requires_grad_() for one in students]
    parts: Any = copy.deepcopy(state).double() if state is not None else [nn.Identity(), nn.Identity()]
    values = [
        REFERENCES[name](as_maps(a), as_maps(b.double()), part)
        for a, b, part in zip(exact, teachers, parts, strict=True)
    ]
    expected = torch.stack([one if one.ndim == 0 else weighted(one, weights) for one in values]).sum()

    leaves = [one.requires_grad_() for one in students]
    computed = loss.loss(featured(tuple(leaves), teachers, weights), state)
    if state is not None:
        leaves, exact = [*leaves, *state.parameters()], [*exact, *parts.parameters()]
    alike(computed, expected, leaves, exact)


def weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def test_every_loss_on_features_has_a_reference() -> None:
    assert set(ON_FEATURES) == {*REFERENCES, "crd", "review_kd"}


# Contrastive representation distillation: batches, as the memory is part of it


class Contrast:
    """Tian et al. with probabilities as they stand: h = P / (P + K / N), P = exp(a·b / T) / Z."""

    def __init__(self, state: Any, temperature: float, momentum: float) -> None:
        self.state, self.temperature, self.momentum = state, temperature, momentum
        self.memory = list(state.memory.clone())  # of student, of teacher
        self.z: list[Tensor] = []

    def batch(self, student: Tensor, teacher: Tensor, numbers: Tensor, negatives: Tensor) -> Tensor:
        """Loss of each sample; `negatives` (B, K): sample numbers."""
        student, teacher = self.state.student(student), self.state.teacher(teacher)
        student, teacher = student / student.norm(dim=1, keepdim=True), teacher / teacher.norm(dim=1, keepdim=True)
        chosen = torch.cat([numbers.unsqueeze(1), negatives], 1)  # (B, 1 + K)
        total = torch.zeros(())
        for side, anchors in ((0, student), (1, teacher)):
            others = self.memory[1 - side][chosen]  # (B, 1 + K, D)
            exponentials = ((others * anchors.unsqueeze(1)).sum(2) / self.temperature).exp()
            if len(self.z) == side:
                self.z.append(exponentials.detach().mean() * SAMPLES)
            p = exponentials / self.z[side]
            noise = negatives.shape[1] / SAMPLES
            h = p / (p + noise)
            total = total - h[:, 0].log() - (1 - h[:, 1:]).log().sum(1)
        for side, fresh in ((0, student.detach()), (1, teacher.detach())):
            for row, number in zip(fresh, numbers, strict=True):
                mixed = self.momentum * self.memory[side][number] + (1 - self.momentum) * row
                self.memory[side][number] = mixed / mixed.norm()
        return total


def init(loss: DistillationLoss, shapes: FeatureShapes, seed: int) -> Any:
    """What a loss on features makes."""
    assert isinstance(loss, FeatureLoss)
    return loss.init(shapes, seed)


def negatives_of(counts: Tensor) -> Tensor:
    """(B, K) sample numbers, from how often each was drawn, (B, samples)."""
    return torch.stack([torch.arange(len(row)).repeat_interleave(row.long()) for row in counts])


@pytest.mark.parametrize("kind", list(KINDS))
def test_crd_is_the_papers_formula_over_several_batches(kind: str) -> None:
    loss = loss_of("crd", temperature=0.5, momentum=0.7)
    state: Any = state_of(loss, kind)
    part = state[0]
    exact_part = copy.deepcopy(part).double()
    reference = Contrast(exact_part, 0.5, 0.7)
    single = nn.ModuleList([part])
    for step in range(3):
        students, teachers = drawn(KINDS[kind][0][:1], seed=step), drawn(KINDS[kind][1][:1], seed=step + 50)
        leaf, exact = students[0].requires_grad_(), students[0].detach().double().requires_grad_()
        inputs = featured((leaf,), teachers, torch.arange(1.0, 6.0))
        torch.manual_seed(step)
        negatives = negatives_of(part._drawn(inputs.indices))  # private: the reference needs the same ones
        torch.manual_seed(step)
        computed = loss.loss(inputs, single)
        own, other = (as_maps(one).mean((2, 3)) for one in (exact, teachers[0].double()))
        expected = weighted(reference.batch(own, other, inputs.indices, negatives), inputs.weights)
        parameters = list(part.parameters()), list(exact_part.parameters())
        alike(computed, expected, [leaf, *parameters[0]], [exact, *parameters[1]])
        torch.testing.assert_close(part.memory.double(), torch.stack(reference.memory), rtol=1e-4, atol=1e-6)


def test_negatives_of_crd_are_of_other_classes_and_uniform() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([0, 1, 0, 2, 0, 1, 0, 0, 0, 2, 0, 1])
    loss = loss_of("crd", negatives=5000)
    shapes = shapes_of(((3,),), ((3,),), targets)
    part = init(loss, shapes, 0)[0]
    counts = part._drawn(shapes.indices)  # private: which negatives are drawn shows in no loss
    assert bool((counts.sum(1) == 5000).all())
    for target, row in zip(targets, counts, strict=True):
        others = shapes.indices[targets != target]
        absent = torch.ones(2 * SAMPLES, dtype=torch.bool)
        absent[others] = False
        assert float(row[absent].sum()) == 0
        expected = 5000 / len(others)
        assert float((row[others] - expected).abs().max()) < 5 * math.sqrt(expected), "five deviations"


def test_negatives_of_crd_are_all_others_where_targets_are_no_classes() -> None:
    shapes = shapes_of(((3,),), ((3,),), random(SAMPLES, 1))
    counts = init(loss_of("crd", negatives=500), shapes, 0)[0]._drawn(shapes.indices)  # private: as above
    for number, row in zip(shapes.indices, counts, strict=True):
        assert set(row.nonzero().flatten().tolist()) == {*shapes.indices.tolist()} - {int(number)}


def test_crd_refuses_samples_of_a_single_class() -> None:
    with pytest.raises(UsageError, match=r"all 12 train samples are of class 4; .*other classes.* use another loss"):
        init(loss_of("crd"), shapes_of(((3,),), ((3,),), torch.full((SAMPLES,), 4)), 0)


# Knowledge review: three taps, so that a fusion's outcome is fused again


def reviewed(state: Any, students: list[Tensor], teachers: list[Tensor]) -> Tensor:
    """Chen et al., functionally, from the parameters: (B,)."""

    def normed(maps: Tensor, norm: Any) -> Tensor:
        mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = (one[:, None, None] for one in (norm.weight, norm.bias))
        return (maps - mean) / (variance + 1e-5).sqrt() * scale + shift

    total: Tensor = torch.zeros(())
    residual: Tensor | None = None
    for level in reversed(range(len(students))):
        fusion, student, teacher = state.fusions[level], students[level], teachers[level]
        fused = normed(F.conv2d(student, fusion.enter[0].weight), fusion.enter[1])
        if residual is not None:
            residual = F.interpolate(residual, student.shape[2:], mode="nearest")
            attention = F.conv2d(torch.cat([fused, residual], 1), fusion.attend.weight, fusion.attend.bias).sigmoid()
            fused = fused * attention[:, 0].unsqueeze(1) + residual * attention[:, 1].unsqueeze(1)
        residual = F.interpolate(fused, teacher.shape[2:], mode="nearest")
        output = normed(F.conv2d(residual, fusion.leave[0].weight, padding=1), fusion.leave[1])
        levels = [side for side in (4, 2, 1) if side < min(teacher.shape[2:])]
        terms = [(output - teacher).pow(2).mean((1, 2, 3))]
        for level, side in enumerate(levels, 1):
            apart = F.adaptive_avg_pool2d(output, side) - F.adaptive_avg_pool2d(teacher, side)
            terms.append(apart.pow(2).mean((1, 2, 3)) / 2**level)
        total = total + torch.stack(terms).sum(0) / sum(0.5**level for level in range(len(terms)))
    return total


@pytest.mark.parametrize("last", [((4, 3, 3), (6, 2, 3)), ((4,), (6,))])
def test_review_is_the_papers_formula(last: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shapes = ((3, 9, 7), (5, 5, 5), last[0]), ((4, 10, 6), (3, 5, 3), last[1])
    loss = loss_of("review_kd")
    state = init(loss, shapes_of(*shapes), 0)
    for seed in (0, 1):
        students, teachers = drawn(shapes[0], seed=seed), drawn(shapes[1], seed=seed + 50)
        exact = [one.double().requires_grad_() for one in students]
        exact_state = copy.deepcopy(state).double()
        weights = torch.arange(1.0, 6.0)
        values = reviewed(exact_state, [as_maps(one) for one in exact], [as_maps(one.double()) for one in teachers])
        leaves = [one.requires_grad_() for one in students]
        computed = loss.loss(featured(tuple(leaves), teachers, weights), state)
        expected = weighted(values, weights)
        alike(computed, expected, [*leaves, *state.parameters()], [*exact, *exact_state.parameters()])


# What makes no difference


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (7, 6), (9, 11)])
def test_pooling_is_torchs(size: tuple[int, int]) -> None:
    maps = random(2, 3, 7, 6).double().requires_grad_()
    resized, expected = pooled(maps, size), F.adaptive_avg_pool2d(maps, size)
    torch.testing.assert_close(resized, expected)
    weights = random(*expected.shape).double()
    gradients = [torch.autograd.grad((one * weights).sum(), maps)[0] for one in (resized, expected)]
    torch.testing.assert_close(*gradients)


WITHOUT_STATE = ("attention_transfer", "similarity_preserving", "rkd", "nst")


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kind in FEATURE_CASES if name in WITHOUT_STATE])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name: str, kind: str) -> None:
    students = drawn(KINDS[kind][0])
    leaves = [one.clone().requires_grad_() for one in students]
    value = loss_of(name).loss(featured(tuple(leaves), students), None)
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-5)
    for gradient in torch.autograd.grad(value, leaves):
        assert float(gradient.abs().max()) < 1e-5


def rotated(vectors: Tensor, seed: int) -> Tensor:
    rotation = torch.linalg.qr(random(vectors.shape[1], vectors.shape[1], seed=seed).double()).Q
    return (vectors.double() @ rotation).float()


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_relations_have_no_direction_scale_and_place(seed: int, scale: float, shift: float) -> None:
    student, teacher, loss = random(4, 6), random(4, 3, seed=1), loss_of("rkd")
    expected = loss.loss(featured((student,), (teacher,)), None)
    computed = loss.loss(featured((scale * (rotated(student, seed) + shift),), (teacher,)), None)
    torch.testing.assert_close(computed, expected, rtol=1e-3, atol=1e-4)
    computed = loss.loss(featured((student,), (scale * (rotated(teacher, seed) + shift),)), None)
    torch.testing.assert_close(computed, expected, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_similarities_have_no_direction_and_scale(seed: int, scale: float) -> None:
    student, teacher, loss = random(4, 6), random(4, 3, seed=1), loss_of("similarity_preserving")
    expected = loss.loss(featured((student,), (teacher,)), None)
    computed = loss.loss(featured((scale * rotated(student, seed),), (scale * rotated(teacher, seed),)), None)
    torch.testing.assert_close(computed, expected, rtol=1e-3, atol=1e-5)


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=4), st.permutations(range(3)))
def test_attention_has_no_scale_in_a_sample_and_no_order_of_channels(scales: list[float], order: list[int]) -> None:
    student, teacher, loss = random(4, 3, 5, 5), random(4, 2, 5, 5, seed=1), loss_of("attention_transfer")
    changed = torch.tensor(scales)[:, None, None, None] * student[:, order]
    expected = loss.loss(featured((student,), (teacher,)), None)
    torch.testing.assert_close(loss.loss(featured((changed,), (teacher,)), None), expected, rtol=1e-4, atol=1e-6)


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), st.permutations(range(3)))
def test_selectivity_has_no_scale_in_a_channel_and_no_order_of_them(scales: list[float], order: list[int]) -> None:
    student, teacher, loss = random(4, 3, 5, 5), random(4, 2, 5, 5, seed=1), loss_of("nst")
    changed = (torch.tensor(scales)[:, None, None] * student)[:, order]
    expected = loss.loss(featured((student,), (teacher,)), None)
    torch.testing.assert_close(loss.loss(featured((changed,), (teacher,)), None), expected, rtol=1e-4, atol=1e-6)


# What cannot be compared


@pytest.mark.parametrize("name", ON_FEATURES)
def test_kinds_that_a_loss_cannot_compare_are_refused(name: str) -> None:
    loss = loss_of(name)
    assert isinstance(loss, FeatureLoss)
    for kind, (student, teacher) in KINDS.items():
        if (name, kind) in FEATURE_CASES:
            init(loss, shapes_of(student, teacher), 0)
        else:
            with pytest.raises(UsageError, match=rf"tap 1 of {name} gives \(.*; it takes .*: tap another module"):
                init(loss, shapes_of(student, teacher), 0)
    with pytest.raises(UsageError, match=rf"tap 1 of {name} gives \(2, 3, 4, 5\) in the student"):
        init(loss, shapes_of(((2, 3, 4, 5),), ((2, 3, 4, 5),)), 0)
    with pytest.raises(UsageError, match=rf"{name} has 2 taps of the student and 1 of the teacher; .*teacher_taps"):
        init(loss, shapes_of(((2, 3, 3), (2, 3, 3)), ((2, 3, 3),)), 0)


@pytest.mark.parametrize("name", ["fitnets", "attention_transfer", "nst", "vid", "review_kd"])
def test_losses_by_position_refuse_features_of_two_kinds(name: str) -> None:
    other = (2,) if name == "review_kd" else (9, 2)
    with pytest.raises(UsageError, match=r"tap 2 of .*\(2, 3, 3\) in the student.*; it compares features of one kind"):
        init(loss_of(name), shapes_of(((2, 4, 4), (2, 3, 3)), ((2, 4, 4), other)), 0)


@pytest.mark.parametrize("name", ["fitnets", "attention_transfer", "nst", "vid"])
def test_losses_by_position_refuse_other_numbers_of_tokens(name: str) -> None:
    with pytest.raises(UsageError, match=r"\(5, 2\) in the student and \(6, 2\).*token by token.*same number"):
        init(loss_of(name), shapes_of(((5, 2),), ((6, 2),)), 0)


@pytest.mark.parametrize("name", ["similarity_preserving", "rkd", "crd"])
def test_losses_by_sample_compare_features_of_two_kinds(name: str) -> None:
    loss = loss_of(name)
    state = init(loss, shapes_of(((2, 3, 3),), ((9, 2),)), 0)
    assert loss.loss(featured((random(5, 2, 3, 3),), (random(5, 9, 2),)), state).isfinite()
