"""The 20 trials of configs/digits_random.yaml in one process: `_digits_run.py modelopt|plain|optuna FILE`. Prints JSON.

modelopt: the whole tune workflow with its run directory, in this process (executor: serial); FILE is where its
trials.json goes. plain: the same settings, read from FILE, in a hand-written loop that gathers batches by index.
optuna: the same settings, enqueued; its tutorial's loop over DataLoaders. Seconds are counted after the imports of
torch and scikit-learn. All do the same work an epoch: SGD over shuffled batches, then loss and accuracy on validation.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 30
Setting = dict[str, Any]
Data = tuple[Tensor, Tensor, Tensor, Tensor]  # train inputs and targets, validation inputs and targets


def prepared() -> Data:
    """The experiment's splits in size and kind: 20% test, 20% validation, stratified; inputs scaled by train's."""
    inputs, targets = load_digits(return_X_y=True)
    rest, _, rest_y, _ = train_test_split(inputs, targets, test_size=0.2, random_state=0, stratify=targets)
    x, v, y, w = train_test_split(rest, rest_y, test_size=360, random_state=0, stratify=rest_y)
    mean, std = x.mean(), x.std()
    x, v = (torch.as_tensor((part - mean) / std, dtype=torch.float32) for part in (x, v))
    return x, torch.as_tensor(y), v, torch.as_tensor(w)


def network(setting: Setting) -> nn.Module:
    width = setting["model.hidden.0"]
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10))


def optimizer(model: nn.Module, setting: Setting) -> torch.optim.Optimizer:
    rate, momentum = setting["training.optimizer.lr"], setting["training.optimizer.momentum"]
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)


def by_index(setting: Setting, data: Data) -> float:
    """What a careful person writes by hand: tensors in memory, batches by index."""
    x, y, v, w = data
    model, accuracy = network(setting), 0.0
    steps = optimizer(model, setting)
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.split(torch.randperm(len(x)), setting["training.batch_size"]):
            steps.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            steps.step()
        model.eval()
        with torch.inference_mode():
            outputs = model(v)
            float(nn.functional.cross_entropy(outputs, w))
            accuracy = float((outputs.argmax(1) == w).float().mean())
    return accuracy


def by_loader(setting: Setting, data: Data, report: Callable[[float, int], None]) -> float:
    """What Optuna's PyTorch tutorial writes: a DataLoader for each split, a report each epoch."""
    x, y, v, w = data
    train = DataLoader(TensorDataset(x, y), batch_size=setting["training.batch_size"], shuffle=True)
    valid = DataLoader(TensorDataset(v, w), batch_size=setting["training.batch_size"])
    model, accuracy = network(setting), 0.0
    steps = optimizer(model, setting)
    for epoch in range(EPOCHS):
        model.train()
        for inputs, targets in train:
            steps.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            steps.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for inputs, targets in valid:
                right += int((model(inputs).argmax(1) == targets).sum())
        accuracy = right / len(v)
        report(accuracy, epoch)
    return accuracy


def with_modelopt(file: Path) -> list[float]:
    from modelopt_cli import load, tune

    config = Path(__file__).resolve().parents[2] / "configs" / "digits_random.yaml"
    with TemporaryDirectory() as folder:
        tune(load(config, ["tuning.executor=serial", "device=cpu"]), out=Path(folder, "run"))
        shutil.copy(Path(folder, "run", "trials.json"), file)
    return [trial["validation.accuracy"] for trial in json.loads(file.read_text(encoding="utf-8"))]


def with_plain(file: Path) -> list[float]:
    data = prepared()
    return [by_index(setting, data) for setting in json.loads(file.read_text(encoding="utf-8"))]


def with_optuna(file: Path) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data, settings = prepared(), json.loads(file.read_text(encoding="utf-8"))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    names = ("training.optimizer.lr", "training.optimizer.momentum", "training.batch_size", "model.hidden.0")
    for setting in settings:
        study.enqueue_trial({name: setting[name] for name in names})

    def objective(trial: Any) -> float:
        setting = {
            "training.optimizer.lr": trial.suggest_float("training.optimizer.lr", 1e-3, 1.0, log=True),
            "training.optimizer.momentum": trial.suggest_float("training.optimizer.momentum", 0.0, 0.95),
            "training.batch_size": trial.suggest_categorical("training.batch_size", [32, 64, 128]),
            "model.hidden.0": trial.suggest_int("model.hidden.0", 32, 256, log=True),
        }
        return by_loader(setting, data, trial.report)

    study.optimize(objective, n_trials=len(settings))
    return [trial.value for trial in study.trials if trial.value is not None]


def main() -> None:
    kind, file = sys.argv[1], Path(sys.argv[2])
    contenders = {"modelopt": with_modelopt, "plain": with_plain, "optuna": with_optuna}
    torch.manual_seed(0)
    start, start_cpu = time.perf_counter(), time.process_time()
    accuracies = contenders[kind](file)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "accuracies": accuracies, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
