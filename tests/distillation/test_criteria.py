"""Guides against loops written by hand, weights that change over the steps, and exact resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.distillation.moving_average import MovingAverageCriterion
from modelopt_cli.distillation.mutual import MutualCriterion
from modelopt_cli.training.criterion import Criterion
from modelopt_cli.training.settings import TrainingSettings
from tests.support.teaching_fakes import (
    JITTER,
    SAMPLES,
    assert_same,
    criterion,
    differ,
    forget,
    guidance,
    images,
    network,
    student,
    teacher,
    through_pickle,
    trained,
    trainer,
)

PLAIN: dict[str, Any] = {"optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9, "foreach": False, "fused": False}}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget()
    yield
    forget()


def batches(seed: int, epochs: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(epoch, inputs, targets) as the trainer takes them; seeds what dropout draws from."""
    data = images().train
    inputs, targets = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    for epoch in range(1, epochs + 1):
        torch.manual_seed(derive(seed, "epoch", epoch))
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(derive(seed, "shuffle", epoch)))
        for rows in order.split(8):
            yield epoch, inputs[rows], targets[rows]


def kd(own: Tensor, taught: Tensor, temperature: float = 4.0) -> Tensor:
    """T² KL(teacher || student), sum over classes and mean over the batch, by torch's own."""
    divergence = F.kl_div(
        F.log_softmax(own / temperature, 1), F.log_softmax(taught / temperature, 1), log_target=True, reduction="sum"
    )
    return temperature**2 * divergence / len(own)


def sgd(module: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, foreach=False)


def assert_close(learnt: dict[str, Tensor], module: nn.Module) -> None:
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(learnt[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_a_teacher_equals_a_loop_written_by_hand() -> None:
    learnt = trained(criterion(cache={"where": "none"}), **PLAIN)
    module, taught = student(), teacher()
    optimizer = sgd(module)
    module.train()
    for _, inputs, targets in batches(3, 4):
        optimizer.zero_grad()
        with torch.no_grad():
            answers = taught(inputs)
        outputs = module(inputs)
        (0.9 * kd(outputs, answers) + 0.1 * F.cross_entropy(outputs, targets)).backward()
        optimizer.step()
    assert_close(learnt, module)
    assert differ(learnt, trained(None, **PLAIN))


def test_labels_are_the_training_sections_own_loss() -> None:
    """Smoothing and class weights included; and a weight of zero is no loss at all."""
    options: dict[str, Any] = {"label_smoothing": 0.2, "class_weights": "balanced", **PLAIN}
    losses = [{"type": "labels"}, {"type": "soft_targets", "weight": 0.0}]
    assert_same(trained(criterion(losses=losses), **options), trained(None, **options))


def test_clipping_is_of_student_and_projectors_together() -> None:
    losses = [{"type": "labels"}, {"type": "fitnets", "taps": ["0"], "weight": 10.0}]
    seen: list[float] = []

    class Watching(type(criterion())):  # type: ignore[misc]
        def after_backward(self) -> None:
            seen.append(float(torch.stack([one.grad.norm() for one in self.parameters()]).norm()))

        def after_step(self) -> None:
            assert float(torch.stack([one.grad.norm() for one in self.parameters()]).norm()) <= 0.0101

    chosen = criterion(losses=losses)
    chosen.__class__ = Watching
    trained(chosen, clip_norm=0.01)
    assert min(seen) > 0.1


def test_weights_follow_their_schedules() -> None:
    """A linear warm-up over half of the steps, against the loop by hand."""
    warm = {"type": "warmup", "epochs": 2, "start": 0.0, "then": "constant"}
    losses: list[dict[str, Any]] = [{"type": "labels", "schedule": {"type": "step", "step_size": 1, "gamma": 0.5}}]
    losses += [{"type": "soft_targets", "weight": 0.9, "schedule": warm}]
    chosen = criterion(losses=losses, cache={"where": "none"})
    learnt = trained(chosen, **PLAIN)
    schedules = [loss.schedule for loss in guidance(losses).losses]
    module, taught = student(), teacher()
    optimizer = sgd(module)
    module.train()
    factors = []
    for step, (_, inputs, targets) in enumerate(batches(3, 4)):
        first, second = (schedule.factor(step, 16, 4) for schedule in schedules)
        factors.append((first, second))
        optimizer.zero_grad()
        with torch.no_grad():
            answers = taught(inputs)
        outputs = module(inputs)
        (second * 0.9 * kd(outputs, answers) + first * F.cross_entropy(outputs, targets)).backward()
        optimizer.step()
    assert_close(learnt, module)
    assert [round(first, 6) for first, _ in factors[::4]] == [1.0, 0.5, 0.25, 0.125]
    seconds = [second for _, second in factors]
    assert seconds[:8] == sorted(seconds[:8])
    assert len(set(seconds[:8])) == 8
    assert seconds[8:] == [1.0] * 8


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_a_moving_average_equals_one_written_by_hand(decay: float) -> None:
    """The decay is less in the first steps; buffers are the student's; the teacher is what it was before the step."""
    chosen = MovingAverageCriterion(guidance(), "classification", decay)
    learnt = trained(chosen, **PLAIN)
    module = student()
    average = deepcopy(module).eval()
    optimizer = sgd(module)
    module.train()
    decays = []
    for step, (_, inputs, targets) in enumerate(batches(3, 4)):
        optimizer.zero_grad()
        with torch.no_grad():
            answers = average(inputs)
        outputs = module(inputs)
        (0.9 * kd(outputs, answers) + 0.1 * F.cross_entropy(outputs, targets)).backward()
        optimizer.step()
        now = min(decay, (1 + step) / (10 + step))
        decays.append(now)
        with torch.no_grad():
            for own, new in zip(average.parameters(), module.parameters(), strict=True):
                own.copy_(now * own + (1 - now) * new)
            for kept, current in zip(average.buffers(), module.buffers(), strict=True):
                kept.copy_(current)
    assert_close(learnt, module)
    assert decays[0] == 0.1
    assert (decays[-1] == 0.3) == (decay == 0.3)
    state = chosen.state()["average"]
    assert state["steps"] == 16
    assert_close(state["module"], average)


def peers_of(count: int) -> list[nn.Module]:
    return [network(2 + number, 20 + number, dropout=0.1) for number in range(count)]


def mutual(count: int = 1) -> MutualCriterion:
    return MutualCriterion(guidance(), peers_of(count), "classification")


@pytest.mark.parametrize("count", [1, 2])
def test_mutual_learning_equals_a_loop_written_by_hand(count: int) -> None:
    options: dict[str, Any] = {**PLAIN, "schedule": "cosine", "clip_norm": 0.5}
    chosen = mutual(count)
    learnt = trained(chosen, **options)
    modules = [student(), *peers_of(count)]
    schedule = TrainingSettings.model_validate({"schedule": "cosine"}).schedule
    optimizers = [sgd(module) for module in modules]
    for step, (_, inputs, targets) in enumerate(batches(3, 4)):
        answers = [module.train()(inputs) for module in modules]
        for number, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * schedule.factor(step, 16, 4)
            others = torch.stack([answer.detach() for at, answer in enumerate(answers) if at != number]).mean(0)
            optimizer.zero_grad()
            (0.9 * kd(answers[number], others) + 0.1 * F.cross_entropy(answers[number], targets)).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            optimizer.step()
    assert_close(learnt, modules[0])
    for peer, module in zip(chosen.peers, modules[1:], strict=True):
        assert_close(peer.state_dict(), module)


FEATURES = [{"type": "labels", "weight": 0.5}, {"type": "soft_targets", "weight": 0.5}]
CRITERIA: dict[str, Callable[[], Criterion]] = {
    "teacher": criterion,
    "two teachers": lambda: criterion(teacher(5), teacher(6), combine="confidence", cache={"views": 2}),
    "average": lambda: MovingAverageCriterion(guidance(), "classification", 0.9),
    "average with taps": lambda: MovingAverageCriterion(
        guidance([*FEATURES, {"type": "fitnets", "taps": ["0"]}]), "classification", 0.9
    ),
    "mutual": lambda: mutual(2),
    "mutual by adam": mutual,
    "crd": lambda: criterion(losses=[*FEATURES, {"type": "crd", "taps": ["0", "2"], "negatives": 8}]),
    "review_kd": lambda: criterion(losses=[*FEATURES, {"type": "review_kd", "taps": ["0", "2"]}]),
    "vid": lambda: criterion(losses=[*FEATURES, {"type": "vid", "taps": ["0"], "weight": 0.1}]),
}


@pytest.mark.slow
@pytest.mark.parametrize("augment", [(), JITTER], ids=["as they are", "augmented"])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(name: str, augment: Any) -> None:
    options: dict[str, Any] = {"augment": augment, "schedule": "cosine", "epochs": 5}
    if name == "mutual by adam":
        options["optimizer"] = {"type": "adam", "lr": 0.01}
    whole = trainer(CRITERIA[name](), **options)
    whole.advance(5)
    first = trainer(CRITERIA[name](), **options)
    first.advance(2)
    state = through_pickle(first.state())
    first.advance(5)
    second = trainer(CRITERIA[name](), student(seed=77), **options)
    second.load_state(state)
    reports = second.advance(5)
    for other in (first, second):
        assert_same(other.module.state_dict(), whole.module.state_dict())
        assert_equal(other.state(), whole.state())
    assert [epoch for epoch, _ in reports] == [3, 4, 5]


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


def test_the_seed_decides_on_what_losses_train_and_nothing_else_does() -> None:
    def projector(seed: int, noise: int) -> Tensor:
        torch.manual_seed(noise)
        chosen = criterion(losses=[{"type": "fitnets", "taps": ["0"]}])
        module = student()
        before = torch.get_rng_state()
        trainer(chosen, module, seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        return next(iter(chosen.parameters())).detach().clone()

    assert torch.equal(projector(1, 5), projector(1, 6))
    assert not torch.equal(projector(1, 5), projector(2, 5))


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_learn_from_their_teachers(task: Any) -> None:
    data = images(task)
    losses: Any = [{"type": "mse" if task == "regression" else "soft_targets"}]

    def chosen(prepared_one: Any) -> Any:
        prepared_one._task = task  # private: no option makes a criterion of another task
        return prepared_one

    weights = trained(chosen(criterion(losses=losses)), data=data, epochs=20)
    module = student()
    module.load_state_dict(weights)
    module.eval()
    inputs = torch.from_numpy(data.train.inputs)
    with torch.no_grad():
        gap = [(teacher()(inputs) - one(inputs)).square().mean() for one in (student().eval(), module)]
    assert gap[1] < 0.5 * gap[0]


@pytest.mark.parametrize(
    ("task", "loss", "remedy"),
    [("regression", "soft_targets", "mse"), ("regression", "dkd", "mse"), ("multilabel", "dist", "soft_targets")],
)
def test_a_loss_for_another_task_is_refused(task: Any, loss: str, remedy: str) -> None:
    chosen = criterion(losses=[{"type": loss}], task=task)
    with pytest.raises(UsageError, match=rf"the distillation loss {loss} is made for .*, but the task is {task}; use"):
        trainer(chosen, data=images(task))


def test_standardised_logits_are_of_classes() -> None:
    chosen = criterion(losses=[{"type": "soft_targets", "standardize": True}], task="multilabel")
    with pytest.raises(UsageError, match=r"soft_targets\.standardize is about the logits of classes"):
        trainer(chosen, data=images("multilabel"))


def test_features_need_a_teacher_with_features() -> None:
    settings = guidance([{"type": "soft_targets"}, {"type": "fitnets", "taps": ["0"]}])
    chosen = MutualCriterion(settings, peers_of(1), "classification")
    with pytest.raises(UsageError, match="fitnets compares features, but there is no teacher with any"):
        trainer(chosen)


def test_an_optimizer_that_looks_twice_at_a_step() -> None:
    """The closure of LBFGS asks the criterion several times for the same batch."""
    learnt = trained(criterion(), optimizer={"type": "lbfgs", "lr": 0.1, "max_iter": 3}, epochs=1)
    assert all(bool(tensor.isfinite().all()) for tensor in learnt.values())
