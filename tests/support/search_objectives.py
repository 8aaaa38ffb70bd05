"""Objectives for the tests of search and executors; a module of its own, so that worker processes can import it."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from modelopt_cli.core.errors import TrialError
from modelopt_cli.tuning.objective import Objective, Run, StepReport

_FOREVER = 3000.0  # seconds; what hangs does not end by itself in a test


class Curve(Run):
    """Loss x + 1/step over `total` steps."""

    def __init__(self, params: Mapping[str, Any], seed: int, total: int, step: int) -> None:
        self.params, self.seed, self.total, self.step = params, seed, total, step

    def advance(self, until: int) -> list[StepReport]:
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            self.step += 1
            self._misbehave(self.params.get("act", "run"))
            reports.append((self.step, {"loss": self.params["x"] + 1 / self.step}))
        return reports

    def _misbehave(self, act: str) -> None:
        if act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if act == "fell":  # the process that started this one's supervisor
            psutil.Process().parents()[1].kill()
            time.sleep(_FOREVER)
        if act == "hang":
            time.sleep(_FOREVER)
        if act == "raise":
            raise ValueError("no such luck\nsecond line")
        if act == "diverge":
            raise TrialError("nan", "loss became NaN in step 1")
        if act == "grow":
            self.ballast = bytearray(os.urandom(1)) * 600_000_000
            time.sleep(_FOREVER)

    def metrics(self) -> dict[str, float]:
        if self.params.get("act") == "nan":
            return {"loss": float("nan")}
        return {"loss": self.params["x"] + 1 / self.step, "seed": float(self.seed), "steps": float(self.step)}

    def state(self) -> Any:
        return self.step


class CurveObjective(Objective):
    def __init__(self, total: int = 4) -> None:
        self.total = total

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Curve(params, seed, self.total, state or 0)


class SlowToPrepare(CurveObjective):
    """Its imports take until somebody has answered: `begun` is there meanwhile, and `over` ends it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def prepare(self) -> None:
        self._folder.joinpath("begun").touch()
        while not self._folder.joinpath("over").exists():
            time.sleep(0.01)


class TensorCurve(Curve):
    """Its state is a tensor, as that of a torch training is."""

    def state(self) -> Any:
        import torch

        return torch.tensor([self.step])


class TensorObjective(CurveObjective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return TensorCurve(params, seed, self.total, 0 if state is None else int(state[0]))


class SlowCurve(Curve):
    """Its steps take a while, and its state is too large to be sent along with a message."""

    def advance(self, until: int) -> list[StepReport]:
        time.sleep(0.05 * (min(until, self.total) - self.step))
        return super().advance(until)

    def state(self) -> Any:
        return [self.step] * 100_000


class SlowObjective(CurveObjective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return SlowCurve(params, seed, self.total, 0 if state is None else int(state[0]))


class Descent(Run):
    """An error that shrinks by the rate and is raised by its noise: each step calls for a smaller rate than the last.

    `error` after a step: (1 - rate)^2 error + NOISE rate^2. The loss is the error; `evens`: at even steps alone.
    """

    NOISE = 0.1

    def __init__(self, params: Mapping[str, Any], seed: int, total: int, state: Any, evens: bool) -> None:
        self.rate, self.act, self.total, self.evens = params["rate"], params.get("act", "run"), total, evens
        self.error: float
        self.step, self.error = state or (0, 1.0)

    def advance(self, until: int) -> list[StepReport]:
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            if self.act == "raise" or (self.act == "raise copies" and self.step > 0):
                raise ValueError("no such luck")
            self.step += 1
            self.error = (1 - self.rate) ** 2 * self.error + self.NOISE * self.rate**2
            metrics_now = {} if self.evens and self.step % 2 else {"loss": self.error, "rate": self.rate}
            reports.append((self.step, metrics_now))
        return reports

    def metrics(self) -> dict[str, float]:
        return {"loss": self.error, "rate": self.rate}

    def state(self) -> Any:
        return self.step, self.error


class DescentObjective(Objective):
    def __init__(self, total: int = 20, evens: bool = False) -> None:
        self.total, self.evens = total, evens

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Descent(params, seed, self.total, state, self.evens)


def asked_more_than(count: int) -> Callable[[], bool]:
    """A flag that is down for so many looks: what a search is cut off by."""
    looks = itertools.count(1)
    return lambda: next(looks) > count


class OpenEnded(Curve):
    """As a script: nobody knows its length before its end, it cannot be gone on with elsewhere, and may report rarely.

    `x` decides how long it is where `total` is a pair: the shortest and the longest.
    """

    leaps = True

    def __init__(self, params: Mapping[str, Any], total: int | tuple[int, int], every: int, known: int | None) -> None:
        low, high = total if isinstance(total, tuple) else (total, total)
        super().__init__(params, 0, 10**15, 0)
        self._end, self._every, self._told = low + round(params["x"] * (high - low)), every, known

    def advance(self, until: int) -> list[StepReport]:
        if self.step >= self._end - self._end % max(self._every, 1) or not self._every:
            self.step = self.total = max(self.step, 1)
            return []
        self.step += self._every
        return [(self.step, {"loss": self.params["x"] + 1 / self.step})]

    @property
    def known_total(self) -> int | None:
        return self._told if self.total == 10**15 else self.total

    def metrics(self) -> dict[str, float]:
        return {"loss": self.params["x"] + 1 / max(self.step, 1)}

    def state(self) -> Any:
        return None

    def suspend(self) -> bool:
        return True


class OpenEndedObjective(Objective):
    """`every`: steps between reports; 0: it reports none."""

    def __init__(self, total: int | tuple[int, int] = 9, every: int = 1) -> None:
        self.total, self.every = total, every

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return OpenEnded(params, self.total, self.every, None)


class Messy(Run):
    """Where `x` is 0 it changes all that its process has once; else it measures what it finds there."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.surroundings: dict[str, float] = {}

    def advance(self, until: int) -> list[StepReport]:
        self.step = self.total
        if self.params["x"] == 0:
            _mess_up()
        self.surroundings = settings_seen()
        return []

    def metrics(self) -> Mapping[str, float]:
        return {"loss": self.params["x"], **self.surroundings}


class MessyObjective(Objective):
    def prepare(self) -> None:
        import torch  # noqa: F401

    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Messy(params)


def _mess_up() -> None:
    import random
    import sys
    import warnings

    import numpy as np
    import torch

    torch.set_grad_enabled(False)
    torch.inference_mode().__enter__()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(5)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    random.seed(5)
    np.random.seed(5)
    np.seterr(all="raise")
    os.chdir("/")
    os.environ["MESS"] = "1"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/mess")
    sys.setrecursionlimit(777)
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0o777)


def settings_seen() -> dict[str, float]:
    import random
    import sys
    import warnings

    import numpy as np
    import torch

    mask = os.umask(0)
    os.umask(mask)
    return {
        "grad": float(torch.is_grad_enabled()),
        "inference": float(torch.is_inference_mode_enabled()),
        "dtype": float(torch.get_default_dtype() is torch.float32),
        "device": float(torch.get_default_device().type == "cpu"),
        "threads": float(torch.get_num_threads()),
        "deterministic": float(torch.are_deterministic_algorithms_enabled()),
        "torch": float(torch.rand(1, device="cpu")),
        "benchmark": float(torch.backends.cudnn.benchmark),
        "random": random.random(),
        "numpy": float(np.random.random()),
        "errors": float(np.geterr()["divide"] == "raise"),
        "folder": float(str(Path.cwd()) == "/"),
        "mess": float("MESS" in os.environ),
        "home": float("HOME" in os.environ),
        "path": float("/mess" in sys.path),
        "recursion": float(sys.getrecursionlimit()),
        "filters": float(len(warnings.filters)),
        "terminate": float(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN),
        "mask": float(mask),
    }
