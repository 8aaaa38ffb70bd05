"""What a process has once for all trials that it computes: put back before each, so that none sees what another left.

Random numbers begin anew from the trial's seed, so that a trial gives the same result alone and after any other. torch
and numpy are looked at only where they are there already: this module imports neither.
"""

from __future__ import annotations

import contextlib
import decimal
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)
_CUDNN = ("benchmark", "deterministic", "enabled")


class ProcessState:
    """The process as it was when this was made, or (of torch) when torch was first seen."""

    def __init__(self) -> None:
        self._folder = _folder()
        self._environment = dict(os.environ)
        self._path, self._arguments = list(sys.path), list(sys.argv)
        self._filters, self._show = list(warnings.filters), warnings.showwarning
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._recursion, self._decimal = sys.getrecursionlimit(), decimal.getcontext().copy()
        os.umask(mask := os.umask(0))
        self._mask = mask
        self._alarm = any(signal.getitimer(signal.ITIMER_REAL))
        self._random = random.getstate()
        self._numpy = self._numpy_settings()
        self._torch = self._torch_settings()
        self._inference: Any = None  # a guard that holds as long as it is kept

    def restore(self, seed: int | None = None) -> None:
        """All as it was; random numbers from `seed`, None: as they were, too."""
        with contextlib.suppress(OSError):
            os.chdir(self._folder)
        if dict(os.environ) != self._environment:
            for name in [name for name in os.environ if name not in self._environment]:
                del os.environ[name]
            os.environ.update(self._environment)
        sys.path[:], sys.argv[:] = self._path, self._arguments
        warnings.filters[:], warnings.showwarning = self._filters, self._show  # type: ignore[index]
        getattr(warnings, "_filters_mutated", lambda: None)()
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.setrecursionlimit(self._recursion)
        decimal.setcontext(self._decimal.copy())
        os.umask(self._mask)
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            if not self._alarm:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        if seed is None:
            random.setstate(self._random)
        else:
            random.seed(seed)
        self._restore_numpy(seed)
        self._restore_torch(seed)

    def _numpy_settings(self) -> dict[str, Any] | None:
        numpy = sys.modules.get("numpy")
        if numpy is None or not hasattr(numpy, "random"):
            return None
        return {"state": numpy.random.get_state(), "errors": numpy.geterr(), "print": numpy.get_printoptions()}

    def _restore_numpy(self, seed: int | None) -> None:
        numpy, before = sys.modules.get("numpy"), self._numpy or self._numpy_settings()
        if numpy is None or before is None:
            return
        self._numpy = before
        numpy.seterr(**before["errors"])
        numpy.set_printoptions(**before["print"])
        if seed is None:
            numpy.random.set_state(before["state"])
        else:
            numpy.random.seed(seed % 2**32)

    def _torch_settings(self) -> list[tuple[Callable[..., Any], Any]] | None:
        """Functions that set something, and what it is."""
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "get_default_device"):
            return None
        cudnn = torch.backends.cudnn
        return [
            (torch.set_grad_enabled, torch.is_grad_enabled()),
            (torch.set_default_dtype, torch.get_default_dtype()),
            (_set_default_device, _default_device()),
            (torch.set_num_threads, torch.get_num_threads()),
            (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision()),
            (_set_deterministic, _deterministic()),
            (torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled()),
            *((partial(setattr, cudnn, name), getattr(cudnn, name)) for name in _CUDNN),
            (torch.random.set_rng_state, torch.random.get_rng_state()),
        ]

    def _restore_torch(self, seed: int | None) -> None:
        torch, self._torch = sys.modules.get("torch"), self._torch or self._torch_settings()
        if torch is None or self._torch is None:
            return
        for put, value in self._torch:
            put(value)
        if torch.is_inference_mode_enabled():
            self._inference = torch.inference_mode(False)
            self._inference.__enter__()
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                torch.set_autocast_enabled(device, False)
        if seed is not None:
            torch.manual_seed(seed)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it is gone
        return os.sep


def _default_device() -> Any:
    import torch

    return torch.get_default_device()


def _set_default_device(device: Any) -> None:
    import torch

    if torch.get_default_device() != device:
        torch.set_default_device(None if str(device) == "cpu" else device)


def _deterministic() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(before: tuple[bool, bool]) -> None:
    import torch

    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
