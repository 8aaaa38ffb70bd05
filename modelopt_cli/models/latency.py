"""How long models take: measured in turns, on threads that are pinned, as they are run in practice.

A model is run as its code runs it (eager), compiled by torch.compile, or as an ONNX file by ONNX Runtime. Whoever is
compared takes turns, call by call, so that what else the machine does meets all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import MissingExtraError, UsageError
from modelopt_cli.models.measure import device_of
from modelopt_cli.models.modes import evaluating

if TYPE_CHECKING:
    from numpy.typing import NDArray

Runtime = Literal["eager", "compiled", "onnxruntime"]

COMPILE_SECONDS = 120.0
"""How long compiling a module for one batch size may take; then it is left out."""

_WARM_UP = 10  # turns before what is measured, ...
_WARM_UP_SHARE = 0.2  # ... or this share of the seconds
_NOISY = 0.5  # share of the median over which the middle half of the times may spread
_LEAST = 3  # turns that are measured, however slow
_BLOCKS = 8  # of turns, which tell how far off a ratio of least times may be
_SYSTEMATIC = 0.01  # share by which such a ratio differs between two measurements, however many turns there are

Call = Callable[[], object]
"""Answers one batch that lies ready, and returns when it is done (on a GPU: when it is queued)."""


@dataclass(frozen=True)
class Contender:
    """A model as it is run: made by `eager`, `compiled` or `onnxruntime`.

    `ready` takes a batch (B, *inputs) and a number of threads, and gives what answers that batch; all that is done once
    (compiling, opening a session, moving the batch to the device) is done there. It raises UsageError with the reason
    where the model cannot be run so. `module`: whose mode is evaluation while it is measured.
    """

    runtime: Runtime
    ready: Callable[[Tensor, int], Call]
    device: str = "cpu"
    module: nn.Module | None = None
    threads: int | None = None  # its own; None: those that are measured with


@dataclass(frozen=True)
class Latency:
    """How long a model's forward passes took, one after another."""

    name: str
    batch_size: int
    threads: int  # on the CPU
    device: str
    times: tuple[float, ...]  # (turns,) milliseconds for a batch, in the order measured
    runtime: Runtime = "eager"

    @property
    def median(self) -> float:
        """Milliseconds for a batch."""
        return float(np.median(self.times))

    @property
    def least(self) -> float:
        """Milliseconds for a batch when the machine does nothing else: what comes out again, whatever its load."""
        return float(np.min(self.times))

    @property
    def spread(self) -> tuple[float, float]:
        """25% and 75% quantile, in milliseconds for a batch."""
        low, high = np.quantile(self.times, [0.25, 0.75])
        return float(low), float(high)

    @property
    def samples_per_second(self) -> float:
        """At the median."""
        return 1000.0 * self.batch_size / self.median

    def relative_to(self, other: Latency) -> float:
        """The median over the turns of this one's time divided by the other's in the same turn."""
        return float(np.median(np.divide(self.times, other.times)))

    def least_of(self, other: Latency) -> tuple[float, float]:
        """The least time's ratio to the other's least, both measured in turns, and by what share it may be off."""
        turns = len(self.times)
        blocks = min(_BLOCKS, max(2, turns // 4))
        ends = np.linspace(0, turns, blocks + 1).astype(int)
        parts = [
            min(self.times[start:end]) / min(other.times[start:end]) for start, end in pairwise(ends) if end > start
        ]
        ratio = self.least / other.least
        return ratio, _SYSTEMATIC + 2.0 * float(np.std(parts)) / ratio / math.sqrt(len(parts))


def noise(one: Latency, other: Latency) -> str:
    """Why the two medians are not to be relied on, with figures; empty where they are.

    Where what else the machine does weighs more than the models: the middle half of the times spreads over more than
    half of the median, or the models' ratio within the turns is another one than that of the medians.
    """
    for each in (one, other):
        low, high = each.spread
        if high - low > _NOISY * each.median:
            return (
                f"the time for a batch of {each.batch_size} is noisy ({each.name}: half of the turns took {low:.3g} to "
                f"{high:.3g} ms); measure again when the machine does nothing else"
            )
    paired, medians = one.relative_to(other), one.median / other.median
    if max(paired / medians, medians / paired) > 1.0 + _NOISY / 2:
        return (
            f"the time for a batch of {one.batch_size} is noisy ({other.name} over {one.name}: {1.0 / medians:.3g} by "
            f"the medians, {1.0 / paired:.3g} turn by turn); measure again when the machine does nothing else"
        )
    return ""


def eager(module: nn.Module) -> Contender:
    """The module as its code runs it, on the device that it is on."""

    def ready(batch: Tensor, _: int) -> Call:
        return partial(module, batch.to(device_of(module)))

    return Contender("eager", ready, str(device_of(module)), module)


def compiled(module: nn.Module, *, seconds: float = COMPILE_SECONDS) -> Contender:
    """The module compiled by torch.compile, for each batch size anew, before anything is timed.

    Left out (UsageError from `ready`) where torch.compile fails, or takes more than `seconds` for a batch size.
    """

    def ready(batch: Tensor, _: int) -> Call:
        from modelopt_cli.models.compiling import compiled_for

        inputs = batch.to(device_of(module))
        return partial(compiled_for(module, inputs, seconds), inputs)

    return Contender("compiled", ready, str(device_of(module)), module)


def onnxruntime(content: bytes, threads: int | None = None) -> Contender:
    """An ONNX file of one input and any number of outputs, run by ONNX Runtime on the CPU.

    One session: `threads` of it (None: those that are measured with) share an operator's work, operators come one after
    another, and idle threads spin while the session runs and not between its calls, when it is another's turn. `ready`
    raises MissingExtraError where ONNX Runtime is not installed, UsageError where it does not run the file.
    """

    def ready(batch: Tensor, measured: int) -> Call:
        session = _session(content, threads or measured)
        inputs = {session.get_inputs()[0].name: _array(batch)}
        try:
            session.run(None, inputs)
        except Exception as error:
            raise UsageError(f"ONNX Runtime does not run it: {_first_line(error)}") from error
        return partial(session.run, None, inputs)

    return Contender("onnxruntime", ready, threads=threads)


def latency(
    contenders: Mapping[str, nn.Module | Contender],
    example: Tensor,
    batch_sizes: Sequence[int] = (1, 64),
    *,
    threads: int = 1,
    runs: int = 2000,
    seconds: float = 3.0,
    left_out: Callable[[str, str], None] | None = None,
) -> list[Latency]:
    """Latency of every contender at every batch size, on the device that it is on, in evaluation mode.

    The contenders take turns, run by run (A B, B A, ...), so that what else the machine does meets all of them; a
    module is run eagerly. `example` is (N, *inputs); its samples are repeated where a batch takes more. After a
    warm-up, a batch size gets `runs` turns, or those that fit in `seconds`, but at least three. torch's number of
    threads and the modules' modes are as before when it ends.

    `left_out(name, reason)` is told of a contender that cannot be run in its way, and the others are measured; without
    it, that is raised as UsageError.
    """
    entrants = {name: eager(one) if isinstance(one, nn.Module) else one for name, one in contenders.items()}
    modules = [one.module for one in entrants.values() if one.module is not None]
    before = torch.get_num_threads()
    latencies: list[Latency] = []
    try:
        torch.set_num_threads(threads)
        with evaluating(*dict.fromkeys(modules)), torch.inference_mode():
            calls = _calls(entrants, example, batch_sizes, threads, left_out)
            for size in batch_sizes:
                timed = {name: _timed(call[size], entrants[name].device) for name, call in calls.items()}
                _turns(timed, _WARM_UP, _WARM_UP_SHARE * seconds)
                times = _turns(timed, runs, seconds)
                for name in calls:
                    one = entrants[name]
                    used = one.threads or threads
                    latencies.append(Latency(name, size, used, one.device, tuple(times[name]), one.runtime))
    finally:
        torch.set_num_threads(before)
        if any(one.runtime == "compiled" for one in entrants.values()):
            from modelopt_cli.models.compiling import forget

            forget()
    return latencies


def _calls(
    entrants: Mapping[str, Contender],
    example: Tensor,
    batch_sizes: Sequence[int],
    threads: int,
    left_out: Callable[[str, str], None] | None,
) -> dict[str, dict[int, Call]]:
    """Of each contender that can be run: batch size -> what answers that batch."""
    calls: dict[str, dict[int, Call]] = {}
    for name, one in entrants.items():
        try:
            calls[name] = {size: one.ready(_batch(example, size), threads) for size in batch_sizes}
        except UsageError as error:
            if left_out is None:
                raise
            left_out(name, str(error))
    return calls


def _batch(example: Tensor, size: int) -> Tensor:
    """(size, *inputs), samples repeated where there are too few."""
    return example[torch.arange(size, device=example.device) % len(example)]


def _timed(call: Call, device: str) -> Callable[[], float]:
    """What runs a call, and gives the milliseconds it took."""
    cuda = device.startswith("cuda")

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize(device)

    def run() -> float:
        wait()
        start = perf_counter()
        call()
        wait()
        return 1000.0 * (perf_counter() - start)

    return run


def _turns(calls: Mapping[str, Callable[[], float]], most: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each contender in each turn; every second turn goes the other way round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, end = list(calls), perf_counter() + seconds
    for turn in range(most):
        if turn >= _LEAST and perf_counter() >= end:
            break
        for name in order if turn % 2 == 0 else reversed(order):
            times[name].append(calls[name]())
    return times


def require_onnxruntime() -> None:
    """Raise MissingExtraError where ONNX Runtime is not installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None


def _session(content: bytes, threads: int) -> Any:
    """An onnxruntime.InferenceSession of the file."""
    require_onnxruntime()
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # its warnings are about how it rewrites the graph
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UsageError(f"ONNX Runtime does not open it: {_first_line(error)}") from error


def _array(batch: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = np.ascontiguousarray(batch.detach().cpu().numpy())
    return array


def _first_line(error: BaseException) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
