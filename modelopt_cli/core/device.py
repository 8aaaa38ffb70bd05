"""Which device computes: chosen once at the start of a run."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from modelopt_cli.core.errors import UsageError

_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_device(name: str) -> str:
    """`name` itself when it reads auto, cpu, cuda or cuda:N. Raises ValueError with the rule; imports no torch."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is no device; write auto, cpu, cuda or cuda:N")
    return name


def choose(name: str) -> str:
    """The torch device that `name` stands for; `auto` is cuda where there is one, else cpu.

    Raises UsageError when a CUDA device is asked for that this machine, or this build of torch, does not have.
    """
    try:
        check_device(name)
    except ValueError as error:
        raise UsageError(f"device: {error}") from None
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if count == 0:
        raise UsageError(f"device is '{name}', but {_why_no_cuda()}; set device: auto or device: cpu")
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        last = "cuda:0 only" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UsageError(f"device is '{name}', but this machine has {last}; set device: cuda or device: auto")
    return name


def usable_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has (taskset, SLURM)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none: there are none.

    torch is asked only where the machine has a GPU, since loading it takes seconds.
    """
    if (
        not any(Path("/dev").glob("nvidia[0-9]*"))
        and "CUDA_VISIBLE_DEVICES" not in os.environ
        and "torch" not in sys.modules
    ):
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def _why_no_cuda() -> str:
    import torch

    if torch.version.cuda is None:
        return "the installed torch was built without CUDA"
    return "torch finds no CUDA device (is there a GPU, and a driver that nvidia-smi can talk to?)"
