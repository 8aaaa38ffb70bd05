"""Looking into a file of weights: every tensor's shape, dtype, zeros and how its values are spread.

Where the module can be built, also what a forward pass costs: MACs, and measured latency, beside that of a baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import InputError, ModeloptError, UsageError
from modelopt_cli.models.state_files import StateFile, open_state, sizes
from modelopt_cli.results.report import Report, Table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.measure import Latency

BINS = 16
BATCH_SIZES = (1, 64)
THREADS = 1


def run(path: Path, *, experiment: Path | None = None, baseline: Path | None = None, measure: bool = False) -> Report:
    """A row for every tensor; `details.histograms` has counts in 16 equal bins from -|w|max to |w|max.

    With `experiment`, `baseline` or `measure` also MACs (of a sample) and latency (milliseconds), and the baseline's.
    The module is that of a model.pt of modelopt, or what the `model:` and `data:` sections of the experiment file say.
    Raises InputError or UsageError (exit 2), or RefusedError (exit 5).
    """
    from modelopt_cli.models.measure import count

    file = open_state(path)
    layers, histograms = _layers(file)
    plain, packed = sizes(path)
    size = {"model.size_bytes": float(plain), "model.compressed_bytes": float(packed)}
    report = Report(
        workflow="inspect",
        name=path.name,
        metrics={**count(file.tensors.values()), **size},
        tables={"layers": layers},
        details={"kind": file.kind, "note": file.note, "histograms": histograms},
    )
    if experiment is None and baseline is None and not measure:
        return report
    return _measured(report, [file] if baseline is None else [file, open_state(baseline)], experiment)


def build(file: StateFile, experiment: Experiment | None) -> tuple[nn.Module, Shapes]:
    """The module, on the CPU, with the file's weights. What a bare state dict is of, `experiment` says.

    Raises UsageError without an experiment that says it, InputError where the weights do not fit the model.
    """
    import torch

    from modelopt_cli.models import checkpoints
    from modelopt_cli.workflows.stages import prepared_data

    if not file.bare:
        found = checkpoints.load(file.path)
        return found.model, found.shapes
    if experiment is None:
        raise UsageError(
            f"{file.path} does not say which model its weights are of, so it cannot be run; name an experiment file "
            "whose model: and data: sections say it, with --experiment FILE"
        )
    architecture = experiment.require_model()
    if architecture.framework != "torch":
        raise UsageError(
            f"{experiment.origin}: the model section names a scikit-learn estimator, but {file.path} holds the weights "
            "of a torch module; name that module in the model section"
        )
    shapes = prepared_data(experiment).shapes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        module = architecture.build(shapes, experiment.seed)
    load_weights(module, file.tensors, file.path)
    return module, shapes


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], origin: Path) -> None:
    """Load by name, into the module's dtypes; a `module.` before all names (DataParallel's) is left out.

    A weight may be absent where one that it is tied to is there; so may counters of batches. Raises InputError, with
    `origin` and some names, for weights that are not the module's.
    """
    from modelopt_cli.models.measure import place

    wrapped = all(name.startswith("module.") for name in tensors)
    state = {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in tensors.items()}
    own: dict[str, Tensor] = {name: item for name, item in module.state_dict().items() if hasattr(item, "shape")}
    there = {place(own[name]) for name in own if name in state} | {
        place(item) for name, item in own.items() if name.endswith("num_batches_tracked")
    }
    problems = {
        "missing": [name for name in own if place(own[name]) not in there],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} ({_shape(state[name])}, the model's {_shape(item)})"
            for name, item in own.items()
            if name in state and state[name].shape != item.shape
        ],
    }
    told = [f"{what}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in problems.items() if names]
    if told:
        raise InputError(
            f"the weights in {origin} are not those of the experiment's model ({'; '.join(told)}); write the model: "
            "and data: sections that they were trained with"
        )
    module.load_state_dict(state, strict=False)


def _measured(report: Report, files: Sequence[StateFile], experiment_file: Path | None) -> Report:
    """The report with what forward passes cost. A second file is the baseline."""
    from modelopt_cli.models.measure import count, example, latency, macs

    device, modules, shapes = _ready(files, experiment_file)
    samples = example(shapes, max(BATCH_SIZES))
    names = [f"{file.path.name}{' (baseline)' * place}" for place, file in enumerate(files)]
    with _told(names, shapes):
        found = [macs(module.to(device), samples[:1]) for module in modules]
        times = latency(dict(zip(names, modules, strict=True)), samples, BATCH_SIZES, threads=THREADS)
    measured: dict[str, Any] = {"device": device, "threads": THREADS}
    measured["dtype"] = str(samples.dtype).removeprefix("torch.")
    measured["runs"] = {str(one.batch_size): len(one.times) for one in times}
    for file, cost in zip(files[1:], found[1:], strict=True):
        measured["baseline"] = {"file": str(file.path), "model.macs": cost[""], **count(file.tensors.values())}
    metrics = {"model.macs": float(found[0][""]), "model.flops": 2.0 * found[0][""]}
    own = (one for one in times if one.name == names[0])
    metrics |= {"model.latency_ms" + f"_{one.batch_size}" * (one.batch_size > 1): one.median for one in own}
    tables = {"macs": _macs_table(modules[0], found[0]), "latency": _latency_table(times, names)}
    added = {"metrics": metrics, "tables": tables, "details": {"measured": measured}}
    return report.model_copy(update={name: getattr(report, name) | part for name, part in added.items()})


def _ready(files: Sequence[StateFile], experiment_file: Path | None) -> tuple[str, list[nn.Module], Shapes]:
    """The device to measure on, the modules that are not on it yet, and the shapes that they share."""
    from modelopt_cli.core.device import choose
    from modelopt_cli.experiment.experiment import Experiment

    experiment = None if experiment_file is None else Experiment.load(experiment_file)
    if experiment is not None:
        experiment.require("model", "data")
    device = choose("auto" if experiment is None else experiment.device)
    built = [build(file, experiment) for file in files]
    first, last = built[0][1], built[-1][1]
    if (first.inputs, first.tokens) != (last.inputs, last.tokens):
        raise UsageError(
            f"a sample for {files[0].path} has shape {first.inputs}, but for {files[-1].path} {last.inputs}; "
            "name a baseline that takes the same inputs"
        )
    return device, [module for module, _ in built], first


@contextmanager
def _told(names: Sequence[str], shapes: Shapes) -> Iterator[None]:
    """What a model's own code raises, as UsageError; not a lack of memory."""
    from modelopt_cli.core.imports import describe_user_error
    from modelopt_cli.tuning.failures import classify

    try:
        yield
    except Exception as error:
        if isinstance(error, ModeloptError) or classify(error)[0] == "memory":
            raise
        raise UsageError(
            f"{' or '.join(names)} fails on samples of shape {shapes.inputs}: {describe_user_error(error)}"
        ) from error


def _macs_table(module: nn.Module, found: Mapping[str, int]) -> Table:
    """A row for each module that computes something; the outermost one's own share has no name."""
    own = found[""] - sum(macs for name, macs in found.items() if name)
    parts = {name: macs for name, macs in found.items() if name} | ({"": own} if own else {})
    rows = [[name, type(module.get_submodule(name)).__name__, macs] for name, macs in parts.items()]
    return Table(columns=["module", "kind", "macs"], rows=rows)


def _latency_table(times: Sequence[Latency], names: Sequence[str]) -> Table:
    """Milliseconds for a batch: median, 25% and 75% quantile; relative: the median ratio of the same turn's times."""
    baseline = {one.batch_size: one for one in times if one.name in names[1:]}
    columns = ["model", "batch size", "median ms", "low ms", "high ms", "samples per second", "threads"]
    rows: list[list[Any]] = []
    for one in times:
        relative = one.relative_to(baseline[one.batch_size]) if baseline else None
        spread = (one.median, *one.spread)
        rows.append([one.name, one.batch_size, *spread, one.samples_per_second, one.threads, relative])
    return Table(columns=[*columns, "relative to baseline"], rows=rows)


def _layers(file: StateFile) -> tuple[Table, dict[str, list[int]]]:
    """A row for every tensor; histograms of those of floating-point numbers."""
    from modelopt_cli.models.measure import place

    first: dict[tuple[object, ...], str] = {}
    rows: list[list[Any]] = []
    histograms: dict[str, list[int]] = {}
    for name, tensor in file.tensors.items():
        tied = first.setdefault(place(tensor), name)
        rows.append([name, _shape(tensor), *_row(tensor), None if tied == name else tied])
        if tensor.is_floating_point() and tensor.numel():
            histograms[name] = _histogram(tensor)
    columns = ["tensor", "shape", "dtype", "values", "zeros", "sparsity", "mean", "deviation", "largest", "tied to"]
    return Table(columns=columns, rows=rows), histograms


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _row(tensor: Tensor) -> list[Any]:
    """dtype, values, zeros, sparsity; mean, deviation and largest magnitude of what is finite."""
    import torch

    from modelopt_cli.models.measure import zeros

    dtype = str(tensor.dtype).removeprefix("torch.")
    count, zero = tensor.numel(), zeros(tensor)
    known = tensor.layout == torch.strided and tensor.is_floating_point()
    values = _finite(tensor) if known else torch.empty(0)
    if not values.numel():
        return [dtype, count, zero, zero / count if count else 0.0, None, None, None]
    moments = [float(values.mean()), float(values.std(correction=0)), float(values.abs().max())]
    return [dtype, count, zero, zero / count, *moments]


def _histogram(tensor: Tensor) -> list[int]:
    import torch

    if tensor.layout != torch.strided:
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
