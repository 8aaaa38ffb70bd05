"""How long models take, side by side: as metrics, as a table, with what makes the figures unsure.

Every measurement of modelopt's is taken while no other one is: a lock in the folder for temporary files goes from
process to process, so that the trials of a search, or two runs on one machine, do not time each other.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from modelopt_cli.core.device import usable_cores
from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.readable import plural
from modelopt_cli.experiment.evaluation import LatencySettings, Runtime
from modelopt_cli.results.report import Cell, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from modelopt_cli.models.latency import Contender, Latency
    from modelopt_cli.results.details import Measured

COLUMNS = (
    "model",
    "batch size",
    "median ms",
    "low ms",
    "high ms",
    "samples per second",
    "threads",
    "runtime",
    "device",
    "relative to baseline",
)
"""Of the table `latency`: low and high are the 25% and 75% quantiles; relative: the median over the baseline's."""
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
WORDS: Mapping[Runtime, str] = {
    "eager": "eager",
    "compiled": "torch.compile",
    "onnxruntime": "ONNX Runtime",
}
"""What a runtime is called in sentences."""

_PATIENCE = 600.0  # seconds that another measurement is waited for
_LOOK = 0.05


@dataclass(frozen=True)
class TimingOptions:
    """What the command line says of how latency is measured; None or empty: as the file has it, else the usual."""

    runtimes: Sequence[Runtime] = ()  # the first gives the metrics
    threads: int | None = None
    batch_sizes: Sequence[int] = ()

    @classmethod
    def named(cls, runtimes: Sequence[str], threads: int | None, batch_sizes: Sequence[int]) -> TimingOptions:
        """With runtimes by their names. Raises UsageError for one that there is not."""
        known = {str(name): name for name in RUNTIMES}
        for name in runtimes:
            if name not in known:
                raise UsageError(
                    f"--runtime is '{name}', but must be one of: {', '.join(known)}.{did_you_mean(name, known)}"
                )
        return cls([known[name] for name in runtimes], threads, batch_sizes)

    def over(self, given: LatencySettings | None, seconds: float) -> tuple[LatencySettings, Sequence[Runtime]]:
        """(settings, runtimes) with these in place of the file's. `seconds`: for each batch size without a file.

        Raises UsageError for what the settings do not allow.
        """
        base = LatencySettings(seconds=seconds) if given is None else given
        own = {"threads": self.threads, "batch_sizes": self.batch_sizes or None}
        try:
            settings = LatencySettings.model_validate(
                {**base.model_dump(), **{name: value for name, value in own.items() if value is not None}}
            )
        except ValidationError as error:
            raise UsageError(_of_option(error)) from None
        return settings, tuple(dict.fromkeys(self.runtimes))


def _of_option(error: ValidationError) -> str:
    """The option, its value, and the rule."""
    first = error.errors()[0]
    option = "--" + str(first["loc"][0]).replace("batch_sizes", "batch-size")
    bounds = first.get("ctx", {})
    rules = [f"must be at {word} {bounds[key]}" for key, word in (("ge", "least"), ("le", "most")) if key in bounds]
    if rules:
        return f"{option} is {first['input']}, but {rules[0]}"
    return f"{option}: {first['msg'].removeprefix('Value error, ')}"


@dataclass(frozen=True)
class Latencies:
    """What was measured in one go, in turns. `baseline`: the model that the others are compared with."""

    baseline: str
    settings: LatencySettings
    measured: Mapping[tuple[str, Runtime], Sequence[Latency]]  # of each model in each runtime, a batch size each
    dtype: str = "float32"  # of the inputs
    warnings: Sequence[str] = ()

    def of(self, model: str, runtime: Runtime | None = None) -> Sequence[Latency]:
        """Those of a model, a batch size each, in this runtime (None: in that which compares it with the others)."""
        ways = [way for name, way in self.measured if name == model]
        chosen = runtime or (self.runtime if self.runtime in ways else next(iter(ways), None))
        return () if chosen is None else self.measured.get((model, chosen), ())

    @property
    def runtime(self) -> Runtime | None:
        """The one in which most models could be run, the first of several: figures of two runtimes do not compare."""
        ways = [way for _, way in self.measured]
        return max(ways, key=ways.count, default=None)

    def metrics(self, model: str, runtime: Runtime | None = None) -> dict[str, float]:
        """`model.latency_ms` (and `_N`): the medians of this model; empty where it was left out."""
        return {self.settings.metric(one.batch_size): one.median for one in self.of(model, runtime)}

    def relative(self, model: str, runtime: Runtime | None = None) -> dict[str, float]:
        """The same as shares of the baseline's medians: `model.latency_ms_ratio` and so on."""
        pairs = zip(self.of(model, runtime), self.of(self.baseline), strict=False)
        return {f"{self.settings.metric(one.batch_size)}_ratio": one.median / base.median for one, base in pairs}

    def table(self) -> Table:
        """A row for each batch size, runtime and model; relative to the baseline as `of` has it."""
        medians = {one.batch_size: one.median for one in self.of(self.baseline)} if len(self.measured) > 1 else {}
        rows: list[list[Cell]] = []
        for number in range(len(next(iter(self.measured.values()), ()))):
            for (name, runtime), latencies in self.measured.items():
                one = latencies[number]
                ratio = one.median / medians[one.batch_size] if medians else None
                figures = (one.median, *one.spread, one.samples_per_second)
                rows.append([name, one.batch_size, *figures, one.threads, runtime, one.device, ratio])
        return Table(columns=list(COLUMNS), rows=rows)

    @property
    def details(self) -> Measured:
        """For a report's details: devices, threads, dtype, calls of each batch size, runtimes."""
        every = [one for latencies in self.measured.values() for one in latencies]
        return {
            "device": ", ".join(dict.fromkeys(one.device for one in every)),
            "threads": self.settings.threads,
            "dtype": self.dtype,
            "runs": {str(one.batch_size): len(one.times) for one in every},
            "runtimes": list(dict.fromkeys(one.runtime for one in every)),
        }

    @property
    def told(self) -> dict[str, object]:
        """The detail of a report that says how it was measured."""
        return {"latency": self.how} if self.measured else {}

    @property
    def how(self) -> str:
        """In words, for a report: by which runtimes, on what, how often."""
        every = [one for latencies in self.measured.values() for one in latencies]
        if not every:
            return ""
        runtimes = list(dict.fromkeys(WORDS[one.runtime] for one in every))
        devices, counts = list(dict.fromkeys(one.device for one in every)), [len(one.times) for one in every]
        turns = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
        in_turns = " in turns" if len(self.measured) > 1 else ""
        return (
            f"{' and '.join(runtimes)} on {' and '.join(devices)}, {plural(every[0].threads, 'thread')}; medians of "
            f"{turns} calls{in_turns}, after a warm-up, while no other trial or run of modelopt measures"
        )


def measured(
    models: Mapping[str, nn.Module | bytes],
    inputs: Tensor,
    settings: LatencySettings,
    runtimes: Sequence[Runtime] = (),
    *,
    auto: Runtime = "eager",
    baseline: str | None = None,
) -> Latencies:
    """Measure the models in turns at every batch size, each in every runtime. `baseline`: None for the first model.

    A model is an nn.Module that takes `inputs` (N, *inputs), or the bytes of an ONNX file, which ONNX Runtime alone
    runs. `runtimes`: none for that of the settings (`auto` where they leave it open). What cannot be run in a way is
    left out, with the reason among the warnings; where `auto` left it open, all modules are run eagerly then.
    """
    from modelopt_cli.models.latency import latency, noise

    warnings: list[str] = []
    entrants = _entrants(models, inputs, settings, runtimes or (settings.run_by(auto),), warnings)
    if warnings and not runtimes and settings.runtime == "auto":
        entrants = _entrants(models, inputs, settings, ("eager",), [])
        warnings = [f"{text}; so all modules are timed as their own code runs them" for text in warnings]
    labels = {_label(key, entrants): key for key in entrants}
    if settings.threads > (cores := usable_cores()):
        warnings.append(
            f"evaluation.latency.threads is {settings.threads}, but there {'is' if cores == 1 else 'are'} "
            f"{plural(cores, 'core')} here: threads wait for each other, and the time is not what it would be elsewhere"
        )
    with _alone() as alone:
        latencies = latency(
            {label: entrants[key] for label, key in labels.items()},
            inputs,
            settings.batch_sizes,
            threads=settings.threads,
            seconds=settings.seconds,
            left_out=lambda label, reason: warnings.append(_left_out(*labels[label], reason)),
        )
    if not alone:
        warnings.append("latency was measured while another run of modelopt measured, too; measure again alone")
    by_model: dict[tuple[str, Runtime], list[Latency]] = {}
    for one in latencies:
        by_model.setdefault(labels[one.name], []).append(one)
    base = baseline or next(iter(models))
    results = Latencies(base, settings, by_model, str(inputs.dtype).removeprefix("torch."))
    compared = list(by_model.values())
    if len(compared) > 1:
        compared = [each for each in compared if each is not results.of(base)]
    noisy = [noise(*pair) for each in compared for pair in zip(each, results.of(base) or each, strict=True)]
    return replace(results, warnings=list(dict.fromkeys([*warnings, *_said_once(list(filter(None, noisy)))])))


def _said_once(noisy: list[str]) -> list[str]:
    """Of several times that are noisy the first stands for all."""
    if len(noisy) < 2:
        return noisy
    others = plural(len(noisy) - 1, "other time is", "other times are")
    return [f"{noisy[0]} ({others} noisy, too)"]


def _entrants(
    models: Mapping[str, nn.Module | bytes],
    inputs: Tensor,
    settings: LatencySettings,
    runtimes: Sequence[Runtime],
    warnings: list[str],
) -> dict[tuple[str, Runtime], Contender]:
    """(model, runtime) -> what is timed; why one is not goes to `warnings`."""
    entrants: dict[tuple[str, Runtime], Contender] = {}
    for runtime in runtimes:
        for name, model in models.items():
            way: Runtime = "onnxruntime" if isinstance(model, bytes) else runtime
            try:
                if (name, way) not in entrants:
                    entrants[name, way] = _contender(model, way, inputs, settings)
            except UsageError as error:
                warnings.append(_left_out(name, way, str(error)))
    return entrants


def _contender(model: nn.Module | bytes, runtime: Runtime, inputs: Tensor, settings: LatencySettings) -> Contender:
    from modelopt_cli.models import latency

    if isinstance(model, bytes):
        return latency.onnxruntime(model)
    if runtime == "eager":
        return latency.eager(model)
    if runtime == "compiled":
        return latency.compiled(model)
    return latency.onnxruntime(_as_onnx(model, inputs, settings.batch_sizes))


def _as_onnx(module: nn.Module, inputs: Tensor, batch_sizes: Sequence[int]) -> bytes:
    """The module as an ONNX file, bare: it takes what the module takes. Raises UsageError where that cannot be."""
    import torch

    from modelopt_cli.models.duplicates import duplicate
    from modelopt_cli.models.files.exporting import exported_bytes, format_of
    from modelopt_cli.models.latency import require_onnxruntime

    require_onnxruntime()
    suffix = format_of(Path("model.onnx"))
    size = max(2, batch_sizes[0] if len(batch_sizes) == 1 else 2)
    batch = inputs[torch.arange(size, device=inputs.device) % len(inputs)].cpu()
    content, dynamic = exported_bytes(duplicate(module).cpu(), batch, suffix)
    if not dynamic and tuple(batch_sizes) != (size,):
        raise UsageError("its code works for one batch size alone, so a file of it takes no other")
    return content


def require(settings: LatencySettings | None) -> None:
    """Raise MissingExtraError, before any work, where the file asks for a runtime that is not installed."""
    if settings is not None and settings.runtime == "onnxruntime":
        from modelopt_cli.models.files.exporting import format_of
        from modelopt_cli.models.latency import require_onnxruntime

        require_onnxruntime()
        format_of(Path("model.onnx"))


def joint_runtime() -> Runtime:
    """The runtime by which float and int8 models compare: ONNX Runtime where it is installed, else eager."""
    names = ("onnx", "onnxscript", "onnxruntime")
    return "onnxruntime" if all(find_spec(name) is not None for name in names) else "eager"


def _label(key: tuple[str, Runtime], keys: Iterable[tuple[str, Runtime]]) -> str:
    """The model's name; with the runtime where it is measured in several."""
    name, runtime = key
    return f"{name} ({runtime})" if sum(other == name for other, _ in keys) > 1 else name


def _left_out(name: str, runtime: Runtime, reason: str) -> str:
    return f"latency of {name} by {WORDS[runtime]} was not measured: {reason}"


@contextmanager
def _alone() -> Iterator[bool]:
    """While no other process of this user measures; False: that was waited for long enough."""
    path = Path(tempfile.gettempdir(), f"modelopt-measuring-{os.getuid()}.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:  # a folder that is not ours to write to
        yield True
        return
    try:
        until, mine = time.monotonic() + _PATIENCE, False
        while not mine:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except OSError:
                if time.monotonic() > until:
                    break
                time.sleep(_LOOK)
        yield mine
    finally:
        os.close(handle)
