"""The trainer against loops written by hand, and its promises: exact resume, streaming, early stopping, errors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.raw import Task
from modelopt_cli.training import inference
from modelopt_cli.training.trainer import Trainer
from tests.support.training_fakes import held, mlp, prepared, settings


def trainer(module: nn.Module | None = None, data: Any = None, seed: int = 1, **given: Any) -> Trainer:
    options = {key: given.pop(key) for key in ("augment", "monitor", "extra_metrics") if key in given}
    return Trainer(module or mlp(), settings(**given), data or prepared(), seed=seed, device="cpu", **options)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def orders(seed: int, count: int, epochs: int) -> list[torch.Tensor]:
    generators = [torch.Generator().manual_seed(derive(seed, "shuffle", epoch)) for epoch in range(1, epochs + 1)]
    return [torch.randperm(count, generator=generator) for generator in generators]


def test_equals_a_loop_written_by_hand() -> None:
    data = prepared()
    optimizer = {"type": "sgd", "lr": 0.1, "momentum": 0.9, "foreach": False, "fused": False}
    tried = trainer(data=data, optimizer=optimizer, clip_norm=0.5, clip_value=0.1, label_smoothing=0.1)
    reports = tried.advance(3)
    module = mlp()
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, foreach=False)
    inputs, targets = torch.from_numpy(data.train.inputs), torch.from_numpy(data.train.targets)
    for order in orders(1, 60, 3):
        total = 0.0
        for rows in order.split(16):
            sgd.zero_grad()
            loss = F.cross_entropy(module(inputs[rows]), targets[rows], label_smoothing=0.1)
            loss.backward()
            nn.utils.clip_grad_value_(module.parameters(), 0.1)
            nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            sgd.step()
            total += loss.item() * len(rows)
    assert_same(weights(tried.module), weights(module))
    assert reports[-1][1]["train.loss"] == pytest.approx(total / 60)
    valid = held(data.validation)
    with torch.no_grad():
        plain = F.cross_entropy(module(torch.from_numpy(valid.inputs)), torch.from_numpy(valid.targets))
    assert reports[-1][1]["validation.loss"] == pytest.approx(float(plain))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES["optimizers"].names())
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(name: str) -> None:
    optimizer = {"type": name, "lr": 0.01}
    if name == "sgd":
        optimizer["momentum"] = 0.9

    def fresh() -> Trainer:
        module: nn.Module = mlp(norm=True, dropout=0.3)
        if name == "sparse_adam":
            return trainer(sparse(), tokens(), optimizer=optimizer, epochs=6, schedule="cosine", patience=4)
        return trainer(module, optimizer=optimizer, epochs=6, schedule="cosine", patience=4)

    whole = fresh()
    reports = whole.advance(6)
    first = fresh()
    begun = first.advance(3)
    state = pickle.loads(pickle.dumps(first.state()))
    first.advance(6)  # what goes on does not change the state that was taken
    second = fresh()
    second.load_state(state)
    assert begun + second.advance(6) == reports
    third = fresh()
    third.load_state(state)  # nor does who went on from it
    assert third.advance(6) == reports[3:]
    for other in (first, second, third):
        assert_same(weights(other.module), weights(whole.module))
        other.finish()
    whole.finish()
    assert_same(weights(second.module), weights(whole.module))
    assert second.best_epoch == whole.best_epoch


def sparse() -> nn.Module:
    torch.manual_seed(0)
    return nn.EmbeddingBag(10, 3, mode="mean", sparse=True)


def tokens() -> Any:
    data = prepared()
    rng = np.random.default_rng(0)
    for part in (data.train, held(data.validation), held(data.test)):
        object.__setattr__(part, "inputs", rng.integers(0, 10, (len(part.targets), 4)))
    return data


def test_streamed_data_give_what_resident_data_give(monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(weighted=True)
    resident = trainer(mlp(dropout=0.5), data)
    monkeypatch.setattr("modelopt_cli.training.batches._CHUNK_NUMBERS", 200)  # several chunks an epoch
    streamed = trainer(mlp(dropout=0.5), data, data_on_device=False)
    assert streamed.advance(5) == resident.advance(5)
    assert_same(weights(streamed.module), weights(resident.module))
    assert streamed.evaluate("test") == resident.evaluate("test")


def test_results_do_not_depend_on_and_do_not_change_the_callers_generator() -> None:
    results = []
    for seed in (3, 4):
        module = mlp(dropout=0.5)
        tried = trainer(module)
        torch.manual_seed(seed)
        expected = torch.rand(3)
        torch.manual_seed(seed)
        results.append(tried.advance(2))
        assert torch.equal(torch.rand(3), expected)
    assert results[0] == results[1]


def test_seed_decides_the_order_and_shuffle_off_keeps_it() -> None:
    assert trainer(seed=1).advance(1) != trainer(seed=2).advance(1)
    assert trainer(seed=1, shuffle=False).advance(1) == trainer(seed=2, shuffle=False).advance(1)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_every_task_is_learnt_and_judged(task: Task) -> None:
    data = prepared(task, outputs=2, weighted=True)
    tried = trainer(mlp(outputs=2), data, epochs=60, optimizer={"type": "adam", "lr": 0.02})
    tried.advance(60)
    metrics = tried.evaluate("test")
    assert metrics["test.r2" if task == "regression" else "test.accuracy"] > 0.75
    outputs = inference.predict(tried.module, held(data.test).inputs, data.preprocessing)
    assert outputs.shape == (20, 2)
    if task == "regression":  # in the targets' own units
        error = np.average(np.abs(outputs - held(data.test).targets), axis=0, weights=held(data.test).weights).mean()
        assert metrics["test.mae"] == pytest.approx(error, rel=1e-5)
        scaled = error_in_deviations(data, outputs)
        assert metrics["test.loss"] == pytest.approx(scaled, rel=1e-4)


def error_in_deviations(data: Any, outputs: np.ndarray) -> float:
    error = (outputs - held(data.test).targets) / data.preprocessing.target_std
    return float(np.average((error**2).mean(1), weights=held(data.test).weights))


def test_a_sample_of_weight_two_counts_as_two_samples() -> None:
    data = prepared(counts=(6, 4, 0))
    doubled = prepared(counts=(6, 4, 0))
    part = data.train
    object.__setattr__(part, "weights", np.array([2, 1, 1, 2, 1, 1], np.float32))
    twice = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    for field in ("inputs", "targets", "indices"):
        object.__setattr__(doubled.train, field, getattr(doubled.train, field)[twice])
    extras: tuple[dict[str, Any], ...] = ({}, {"class_weights": [1, 2, 3]})
    for extra in extras:
        first = trainer(data=data, batch_size=6, **extra)
        second = trainer(data=doubled, batch_size=8, **extra)
        assert first.advance(4)[-1][1] == pytest.approx(second.advance(4)[-1][1], rel=1e-5)


def test_balanced_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    data = prepared()
    ratio = compute_class_weight("balanced", classes=np.arange(3), y=data.train.targets)
    assert trainer(data=data, class_weights="balanced").advance(2) == (
        trainer(data=data, class_weights=list(map(float, ratio))).advance(2)
    )


def test_patience_stops_keeps_the_best_weights_and_can_be_undone() -> None:
    tried = trainer(epochs=200, patience=3, optimizer={"type": "sgd", "lr": 3.0}, monitor="validation.accuracy")
    reports = tried.advance(200)
    losses = [metrics["validation.loss"] for _, metrics in reports]
    best = int(np.argmin(losses)) + 1
    assert tried.stopped_early
    assert len(reports) == tried.epoch == best + 3
    assert tried.best_epoch == best
    assert all("validation.accuracy" in metrics for _, metrics in reports)
    last = weights(tried.module)
    tried.finish()
    tried.finish()
    assert tried.evaluate("validation")["validation.loss"] == pytest.approx(losses[best - 1])
    tried.state()
    assert_same(weights(tried.module), last)
    assert tried.advance(200) == []


def test_keep_last_with_patience_and_keep_best_without() -> None:
    last = trainer(epochs=200, patience=2, keep="last", optimizer={"type": "sgd", "lr": 3.0})
    last.advance(200)
    before = weights(last.module)
    last.finish()
    assert_same(weights(last.module), before)
    assert last.best_epoch is None
    best = trainer(epochs=5, keep="best", monitor=None, optimizer={"type": "sgd", "lr": 3.0})
    losses = [metrics["validation.loss"] for _, metrics in best.advance(5)]
    assert best.epoch == 5
    assert best.best_epoch == int(np.argmin(losses)) + 1


def test_min_delta_and_a_maximised_monitor() -> None:
    tried = trainer(epochs=50, patience=2, min_delta=10.0, optimizer={"type": "sgd", "lr": 0.1})
    tried.advance(50)
    assert tried.epoch == 3
    data = prepared()
    by_accuracy = Trainer(mlp(), settings(epochs=9, patience=9, monitor="validation.f1"), data, seed=0, device="cpu")
    values = [metrics["validation.f1"] for _, metrics in by_accuracy.advance(9)]
    assert by_accuracy.best_epoch == int(np.argmax(values)) + 1


def test_evaluate_every_and_monitored_metrics_equal_the_full_evaluation() -> None:
    names = ["validation.accuracy", "validation.f1", "train.accuracy"]
    tried = trainer(epochs=5, evaluate_every=2, monitor=names)
    reports = dict(tried.advance(5))
    assert [epoch for epoch, metrics in reports.items() if "validation.loss" in metrics] == [2, 4, 5]
    full = {**tried.evaluate("validation"), **tried.evaluate("train")}
    for name in [*names, "validation.loss"]:
        assert reports[5][name] == pytest.approx(full[name])


def half(targets: np.ndarray, predictions: np.ndarray) -> float:
    return 0.5


def test_own_metrics_are_reported_and_may_be_monitored() -> None:
    tried = trainer(extra_metrics=(half,), monitor="validation.half")
    assert tried.advance(1)[0][1]["validation.half"] == 0.5
    assert tried.evaluate("test")["test.half"] == 0.5


@pytest.mark.parametrize("optimizer", [{"type": "sgd", "lr": 1e12}, {"type": "adam", "lr": 1e30}])
def test_a_diverging_loss_ends_the_trial_with_its_epoch_and_rate(optimizer: dict[str, Any]) -> None:
    with pytest.raises(TrialError, match=r"became (NaN|infinite) in epoch \d \(lr 1e\+") as caught:
        trainer(optimizer=optimizer).advance(5)
    assert caught.value.kind == "nan"


@pytest.mark.parametrize(("count", "sizes"), [(33, [16, 17]), (34, [16, 16, 2]), (32, [16, 16])])
def test_a_last_batch_of_one_joins_the_one_before_under_batch_normalisation(count: int, sizes: list[int]) -> None:
    data = prepared(counts=(count, 10, 0))
    tried = trainer(mlp(norm=True), data)
    assert tried.batches.sizes == sizes
    tried.advance(1)
    assert trainer(data=data).batches.sizes == [16, 16, *([count - 32] if count > 32 else [])]
    assert trainer(data=data, drop_last=True).batches.sizes == [16, 16]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 61}, "training.batch_size is 61, but the train split has 60 samples; set it to 60 or less"),
        ({"loss": "mse"}, "the task is classification; use auto or one of: cross_entropy"),
        ({"class_weights": [1.0]}, "has 1 numbers, but there are 3 classes"),
        ({"monitor": "validation.acuracy"}, "Did you mean 'accuracy'"),
        ({"monitor": "test.accuracy"}, "judged on train and validation only"),
        ({"module": mlp(outputs=4)}, r"gives \(1, 4\) for one sample, but the data need \(1, 3\)"),
        ({"module": nn.Flatten()}, r"gives \(1, 5\)"),
        ({"data": prepared(counts=(60, 0, 0)), "patience": 2}, "validation split is empty"),
        ({"data": prepared("regression", outputs=3), "label_smoothing": 0.1}, "the task is regression"),
        ({"data": prepared("regression", outputs=3), "class_weights": "balanced"}, "the task is regression"),
        ({"module": mlp(norm=True), "batch_size": 1}, "batch_size above 1"),
    ],
)
def test_unfit_settings_are_usage_errors(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trainer(**given).advance(1)


def test_a_model_without_parameters_and_an_empty_split_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no parameters to train"):
        trainer(nn.Identity(), prepared(features=3))
    with pytest.raises(UsageError, match="the test split is empty"):
        trainer(data=prepared(counts=(60, 30, 0))).evaluate("test")


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Linear(5, 3), error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise self.error
        return self.layer(inputs)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "memory", "lower training.batch_size"),
        (MemoryError(), "memory", "MemoryError"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory", "can't allocate"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore"), "error", "test_trainer.py:.*cannot be mul"),
    ],
)
def test_what_a_module_raises_becomes_a_trial_error(error: Exception, kind: str, message: str) -> None:
    with pytest.raises(TrialError, match=message) as caught:
        trainer(Failing(error)).advance(1)
    assert caught.value.kind == kind
    assert "\n" not in caught.value.reason


def test_lazy_layers_and_double_precision_modules_are_trained() -> None:
    module = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3)).double()
    tried = trainer(module)
    tried.advance(1)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_bfloat16_autocast_learns_about_the_same() -> None:
    full, half_precision = trainer(epochs=20), trainer(epochs=20, precision="bfloat16")
    first, second = full.advance(20)[-1][1], half_precision.advance(20)[-1][1]
    assert first["train.loss"] != second["train.loss"]
    assert first["train.loss"] == pytest.approx(second["train.loss"], abs=0.05)
    assert inference.predict(half_precision.module, held(prepared().test).inputs).dtype == np.float32


def test_lbfgs_on_the_full_batch_reaches_the_optimum_of_a_linear_model() -> None:
    """Least squares in closed form."""
    data = prepared("regression", counts=(60, 0, 0), outputs=1)
    tried = trainer(
        nn.Linear(5, 1), data, epochs=5, batch_size=60, optimizer={"type": "lbfgs", "line_search_fn": "strong_wolfe"}
    )
    tried.advance(5)
    design = np.c_[data.train.inputs, np.ones(60)]
    solution = design @ np.linalg.lstsq(design, data.train.targets, rcond=None)[0]
    assert np.allclose(inference.predict(tried.module, data.train.inputs, data.preprocessing), solution, atol=0.05)


def test_read_only_arrays_are_taken_as_they_are() -> None:
    data = prepared()
    data.train.inputs.flags.writeable = False
    trainer(data=data).advance(1)
