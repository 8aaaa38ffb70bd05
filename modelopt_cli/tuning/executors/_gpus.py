"""Which GPU each worker process of this machine sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from modelopt_cli.core import device
from modelopt_cli.core.errors import UsageError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def gpu_places(gpus: float | None, chosen: str) -> list[str]:
    """What a worker may see of the GPUs, a place each: "0" twice is a GPU that two share, "0,1" is two GPUs.

    `gpus`: of one trial; None: one, and more workers than GPUs share them. `chosen`: the device that trials compute on.
    Empty: workers see what this process sees. Raises UsageError where a trial asks for more GPUs than there are.
    """
    if gpus is None and (chosen == "cpu" or ":" in chosen):
        return []
    names = device.visible_gpus()
    if gpus is None:
        return names if len(names) > 1 else []
    if gpus > len(names):
        owned = "no GPU that torch can use" if not names else "1 GPU" if len(names) == 1 else f"{len(names)} GPUs"
        remedy = "leave it out" if not names else f"set it to {len(names)} or less"
        raise UsageError(f"tuning.executor.gpus_per_trial is {gpus:g}, but this machine has {owned}; {remedy}")
    if gpus < 1:
        return [name for _ in range(int(1 / gpus + 1e-9)) for name in names]
    each = int(gpus)
    return [",".join(names[first : first + each]) for first in range(0, len(names) - each + 1, each)]


def least_used(places: Sequence[str], used: Iterable[str]) -> str:
    """The place that the fewest have, of equal ones the first."""
    counts = Counter(used)
    shares = Counter(places)
    return min(dict.fromkeys(places), key=lambda seen: counts[seen] / shares[seen])
