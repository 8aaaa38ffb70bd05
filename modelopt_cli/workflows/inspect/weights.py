"""Looking into a file of weights: every tensor's shape, dtype, zeros and how its values are spread.

Where the module can be built, also what a forward pass costs: MACs, and measured latency, beside that of a baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import ModeloptError, UsageError
from modelopt_cli.models.files.masked_pairs import MaskedPairs
from modelopt_cli.models.files.sizes import estimated, quick_sizes
from modelopt_cli.models.files.state_files import StateFile, open_state
from modelopt_cli.results.details import InspectionDetails
from modelopt_cli.results.report import Cell, Report, Table
from modelopt_cli.workflows.shared.latencies import TimingOptions, measured
from modelopt_cli.workflows.shared.module_of_file import build, shape_text
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.architectures import Shapes

BINS = 16
_SECONDS = 3.0  # that each batch size is measured


@one_run()
def run(
    path: Path,
    *,
    experiment: Path | None = None,
    baseline: Path | None = None,
    measure: bool = False,
    timing: TimingOptions | None = None,
    key: str | None = None,
    trust: bool = False,
    trust_code: bool = False,
) -> Report:
    """A row for every tensor; `details.histograms` has counts in 16 equal bins from -|w|max to |w|max.

    With `experiment`, `baseline`, `measure` or `timing` also MACs (of a sample) and latency (milliseconds), and the
    baseline's. `timing`: how, where it is to be other than the experiment (evaluation.latency) or the usual has it.
    The module is that of a model.pt of modelopt, or what the `model:` and `data:` sections of the experiment file say.
    `key`: the part of the file that holds the weights; `trust` runs code that a pickle names, `trust_code` what code a
    model.pt names. Raises InputError or UsageError (exit 2), or RefusedError (exit 5).
    """
    from modelopt_cli.models.measure import count

    reporting = Reporting(None, name=path.name)
    with reporting.log.recording():
        file = open_state(path, trust=trust, key=key)
        tensors = MaskedPairs(file.tensors)
        layers, histograms = _layers(file, tensors)
        plain, packed = quick_sizes(path)
        size = {"model.size_bytes": float(plain), "model.compressed_bytes": float(packed)}
        details: InspectionDetails = {
            "kind": file.kind,
            "note": "; ".join(filter(None, (file.note, tensors.note))),
            "histograms": histograms,
            "compressed_estimated": estimated(path),
        }
        outcome = Outcome({**count(tensors.values()), **size}, {"layers": layers}, details)
        if experiment is not None or baseline is not None or measure or timing is not None:
            files = [file] if baseline is None else [file, open_state(baseline)]
            outcome = _measured(outcome, files, experiment, timing or TimingOptions(), trust_code)
    return reporting.report("inspection", "inspect", outcome)


def _measured(
    outcome: Outcome, files: Sequence[StateFile], path: Path | None, timing: TimingOptions, trust_code: bool
) -> Outcome:
    """The outcome with what forward passes cost. `path`: of the experiment. A second file is the baseline."""
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.measure import count, example, macs

    experiment = None if path is None else Experiment.load(path)
    settings, runtimes = timing.over(None if experiment is None else experiment.evaluation.latency, _SECONDS)
    device, modules, shapes = _ready(files, experiment, trust_code)
    samples = example(shapes, max(settings.batch_sizes))
    names = [f"{file.path.name}{' (baseline)' * number}" for number, file in enumerate(files)]
    with _user_errors(names, shapes):
        macs_of = [macs(module.to(device), samples[:1]) for module in modules]
        models = dict(zip(names, modules, strict=True))
        latencies = measured(models, samples, settings, runtimes, baseline=names[-1])
    about = latencies.details
    for file, cost in zip(files[1:], macs_of[1:], strict=True):
        about["baseline"] = {"file": str(file.path), "model.macs": cost[""], **count(file.tensors.values())}
    metrics = {"model.macs": float(macs_of[0][""]), "model.flops": 2.0 * macs_of[0][""]}
    tables = {"macs": _macs_table(modules[0], macs_of[0]), "latency": latencies.table()}
    return replace(
        outcome,
        metrics={**outcome.metrics, **metrics, **latencies.metrics(names[0])},
        tables={**outcome.tables, **tables},
        details={**outcome.details, "measured": about},
        warnings=latencies.warnings,
    )


def _ready(
    files: Sequence[StateFile], experiment: Experiment | None, trust_code: bool
) -> tuple[str, list[nn.Module], Shapes]:
    """The device to measure on, the modules that are not on it yet, and the shapes that they share."""
    from modelopt_cli.core.device import choose

    if experiment is not None:
        experiment.require("model", "data")
    device = choose("auto" if experiment is None else experiment.device)
    built = [build(file, experiment, trust_code=trust_code) for file in files]
    first, last = built[0][1], built[-1][1]
    if (first.inputs, first.tokens) != (last.inputs, last.tokens):
        raise UsageError(
            f"a sample for {files[0].path} has shape {first.inputs}, but for {files[-1].path} {last.inputs}; "
            "name a baseline that takes the same inputs"
        )
    return device, [module for module, _ in built], first


@contextmanager
def _user_errors(names: Sequence[str], shapes: Shapes) -> Iterator[None]:
    """What a model's own code raises, as UsageError; not a lack of memory."""
    from modelopt_cli.core.imports import describe_user_error
    from modelopt_cli.tuning.trials.failures import classify

    try:
        yield
    except Exception as error:
        if isinstance(error, ModeloptError) or classify(error)[0] == "memory":
            raise
        raise UsageError(
            f"{' or '.join(names)} fails on samples of shape {shapes.inputs}: {describe_user_error(error)}"
        ) from error


def _macs_table(module: nn.Module, macs_of: Mapping[str, int]) -> Table:
    """A row for each module that computes something; the outermost one's own share has no name."""
    own = macs_of[""] - sum(macs for name, macs in macs_of.items() if name)
    parts = {name: macs for name, macs in macs_of.items() if name} | ({"": own} if own else {})
    rows = [[name, type(module.get_submodule(name)).__name__, macs] for name, macs in parts.items()]
    return Table(columns=["module", "kind", "macs"], rows=rows)


def _layers(file: StateFile, tensors: MaskedPairs) -> tuple[Table, dict[str, list[int]]]:
    """A row for every tensor, of a masked weight as it is with its mask; histograms of floating-point numbers."""
    from modelopt_cli.models.duplicates import memory_of

    first: dict[tuple[object, ...], str] = {}
    rows: list[list[Cell]] = []
    histograms: dict[str, list[int]] = {}
    for name, tensor in file.tensors.items():
        tied = first.setdefault(memory_of(tensor), name)
        weight = tensors[name] if name in tensors.mask_of else tensor
        rows.append([name, shape_text(tensor), *_row(weight), None if tied == name else tied])
        if tensor.is_floating_point() and tensor.numel():
            histograms[name] = _histogram(weight)
    columns = ["tensor", "shape", "dtype", "values", "zeros", "sparsity", "mean", "deviation", "largest", "tied to"]
    return Table(columns=columns, rows=rows), histograms


def _row(tensor: Tensor) -> list[Cell]:
    """dtype, values, zeros, sparsity; mean, deviation and largest magnitude of what is finite."""
    import torch

    from modelopt_cli.models.measure import zeros

    dtype = str(tensor.dtype).removeprefix("torch.")
    count, zero = tensor.numel(), zeros(tensor)
    known = tensor.layout == torch.strided and not tensor.is_nested and tensor.is_floating_point()
    values = _finite(tensor) if known else torch.empty(0)
    if not values.numel():
        return [dtype, count, zero, zero / count if count else 0.0, None, None, None]
    moments = [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
    return [dtype, count, zero, zero / count, *moments]


def _histogram(tensor: Tensor) -> list[int]:
    import torch

    if tensor.layout != torch.strided or tensor.is_nested:
        return [0] * BINS
    values = _finite(tensor)
    if not values.numel():
        return [0] * BINS
    bound = float(values.abs().max()) or 1.0
    places = ((values / bound + 1.0) * (BINS / 2)).long().clamp_(0, BINS - 1)
    return [int(count) for count in torch.bincount(places, minlength=BINS)]


def _finite(tensor: Tensor) -> Tensor:
    values = tensor.detach().reshape(-1).double()
    return values[values.isfinite()]
