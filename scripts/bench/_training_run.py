"""Real training for search_training.py: small networks on digits and on MNIST, as a run that can be paused.

One plain loop for all contenders. Ranges are wide, so that most settings are poor. A network after some epochs is the
same however often its run was paused: its state holds that of the random numbers, too.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.data.idx_files import read_folder
from modelopt_cli.tuning.objective import Objective, Run, StepReport

EPOCHS = 27
Data = tuple[Tensor, Tensor, Tensor, Tensor]  # train inputs (N, D) and targets, validation inputs (M, D) and targets


def space(batch_sizes: tuple[int, int]) -> dict[str, Any]:
    return {
        "optimizer": {"choice": ["sgd", "adam"]},
        "learning_rate": {"float": [1e-5, 1.0], "log": True},
        "momentum": {"float": [0.0, 0.99]},  # Adam's first beta
        "weight_decay": {"float": [1e-7, 0.1], "log": True},
        "batch_size": {"int": list(batch_sizes), "log": True},
        "layers": {"int": [1, 4]},
        "units": {"int": [8, 128], "log": True},
        "dropout": {"float": [0.0, 0.8]},
    }


def digits() -> Data:
    """scikit-learn's bundled 1,797 images of 8x8: 1,197 to train, 600 to validate."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    inputs, targets = load_digits(return_X_y=True)
    x, v, y, w = train_test_split(inputs / 16, targets, test_size=600, random_state=0, stratify=targets)
    return _centred(x, y, v, w)


def mnist(folder: Path, images: int) -> Data:
    """`images` of its training images to train, the next 2,000 of them to validate."""
    files = read_folder(folder)  # those of the train files come first
    labels, x = files.labels, files.images.reshape(len(files.images), -1) / 255
    return _centred(x[:images], labels[:images], x[images : images + 2000], labels[images : images + 2000])


def _centred(x: np.ndarray, y: np.ndarray, v: np.ndarray, w: np.ndarray) -> Data:
    mean, deviation = x.mean(), x.std()
    inputs = [torch.as_tensor((part - mean) / deviation, dtype=torch.float32) for part in (x, v)]
    return inputs[0], torch.as_tensor(y, dtype=torch.int64), inputs[1], torch.as_tensor(w, dtype=torch.int64)


class SpentError(Exception):
    """The budget is used up, or what was sought is found."""


class Meter:
    """What a search has spent and reached: CPU seconds of this process, epochs, the best validation accuracy so far.

    It is over after `most` epochs, or once `target` is reached (None: never).
    """

    def __init__(self, most: int, target: float | None) -> None:
        self.most, self.target = most, target
        self.epochs, self.best = 0, 0.0
        self.seconds = 0.0  # until the last epoch was over
        self.rises: list[tuple[float, int, float]] = []  # (seconds, epochs, best), whenever best rose
        self._start = time.process_time()

    @property
    def over(self) -> bool:
        return self.epochs >= self.most or (self.target is not None and self.best >= self.target)

    def check(self) -> None:
        """Before an epoch. Raises SpentError when it is over."""
        if self.over:
            raise SpentError

    def epoch(self, accuracy: float) -> None:
        """After an epoch."""
        self.epochs += 1
        self.seconds = time.process_time() - self._start
        if accuracy > self.best:
            self.best = accuracy
            self.rises.append((self.seconds, self.epochs, accuracy))


class Training(Run):
    """A network being trained."""

    total = EPOCHS

    def __init__(self, data: Data, params: Mapping[str, Any], seed: int, meter: Meter, state: Any = None) -> None:
        self._data, self._params, self._meter = data, params, meter
        torch.manual_seed(seed)
        self._model = _network(data[0].shape[1], params)
        self._steps = _optimizer(self._model, params)
        self._accuracy = 0.0
        if state is not None:
            self.step, self._accuracy, model, steps, random = state
            self._model.load_state_dict(model)
            self._steps.load_state_dict(steps)
            torch.set_rng_state(random)
        self._random = torch.get_rng_state()

    def advance(self, until: int) -> list[StepReport]:
        """Epochs, each with its validation accuracy."""
        torch.set_rng_state(self._random)
        reports: list[StepReport] = []
        while self.step < until:
            self._meter.check()
            self._accuracy = _epoch(self._model, self._steps, self._data, self._params["batch_size"])
            self.step += 1
            self._meter.epoch(self._accuracy)
            reports.append((self.step, self.metrics()))
        self._random = torch.get_rng_state()
        return reports

    def metrics(self) -> Mapping[str, float]:
        return {"accuracy": self._accuracy}

    def state(self) -> Any:
        return self.step, self._accuracy, self._model.state_dict(), self._steps.state_dict(), self._random


def _network(inputs: int, params: Mapping[str, Any]) -> nn.Module:
    layers: list[nn.Module] = []
    widths = [inputs, *[params["units"]] * params["layers"]]
    for width, after in itertools.pairwise(widths):
        layers += [nn.Linear(width, after), nn.ReLU(), nn.Dropout(params["dropout"])]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def _optimizer(model: nn.Module, params: Mapping[str, Any]) -> torch.optim.Optimizer:
    rate, momentum, decay = params["learning_rate"], params["momentum"], params["weight_decay"]
    if params["optimizer"] == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
    return torch.optim.Adam(model.parameters(), lr=rate, betas=(momentum, 0.999), weight_decay=decay)


def _epoch(model: nn.Module, steps: torch.optim.Optimizer, data: Data, batch_size: int) -> float:
    """Train on all, in a new order; validation accuracy."""
    x, y, v, w = data
    model.train()
    for batch in torch.split(torch.randperm(len(x)), batch_size):
        steps.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
        steps.step()
    model.eval()
    with torch.inference_mode():
        return float((model(v).argmax(1) == w).float().mean())


class Recorded(Run):
    """Costs nothing: what a search has to import is imported by searching this once, before anything is measured."""

    total = EPOCHS

    def __init__(self, params: Mapping[str, Any], meter: Meter, step: int) -> None:
        self._params, self._meter, self.step = params, meter, step

    def advance(self, until: int) -> list[StepReport]:
        reports: list[StepReport] = []
        while self.step < until:
            self._meter.check()
            self.step += 1
            self._meter.epoch(self.metrics()["accuracy"])
            reports.append((self.step, self.metrics()))
        return reports

    def metrics(self) -> Mapping[str, float]:
        return {"accuracy": (1 - self._params["dropout"]) * self.step / (self.step + 3)}

    def state(self) -> Any:
        return self.step


class Trainings(Objective):
    """Opens trainings on `data` (None: recorded ones), all of which `meter` counts."""

    def __init__(self, data: Data | None, meter: Meter) -> None:
        self._data, self._meter = data, meter

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        if self._data is None:
            return Recorded(params, self._meter, state or 0)
        return Training(self._data, params, seed, self._meter, state)


Search = Callable[[dict[str, Any], Trainings, Meter, int], None]  # over a space, until the meter is over; a seed


def epochs(run: Run) -> Iterator[tuple[int, float]]:
    """(epoch, accuracy) until the run is complete."""
    while run.step < run.total:
        for step, metrics in run.advance(run.step + 1):
            yield step, metrics["accuracy"]
