"""A smaller model quantized as the last step: the int8 file's own figures, in place of the float model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelopt_cli.training.evaluation import evaluate
from modelopt_cli.workflows.compression.target.demands import Demands, is_latency
from modelopt_cli.workflows.quantization.run import QuantizeRun

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.training.metrics.answers import Keep
    from modelopt_cli.workflows.compression.target.timing import Times
    from modelopt_cli.workflows.pruning.run import PruneRun

Timed = Callable[["nn.Module | bytes"], "Times"]


@dataclass(frozen=True)
class Int8:
    """A quantized model beside the float one that it was made of. `metrics`: on validation."""

    run: QuantizeRun
    prepared: Prepared
    own: Sequence[Any]
    metrics: Mapping[str, float]
    costs: Mapping[str, float]

    def judge(self, split: str, keep: Keep | None = None) -> dict[str, float]:
        """Every metric of the file's own answers on a split; empty without it."""
        return _judged(self.run, self.prepared, split, self.own, keep)

    @property
    def content(self) -> nn.Module | bytes:
        """What is timed: an ONNX file as it is, else the module that runs the file."""
        return _timed(self.run)

    def write(self, path: Path) -> dict[str, str]:
        """Write the int8 file beside `path`, under the suffix of its kind."""
        return {"int8": next(iter(self.run.write_program(path).values()))}


def quantized(
    experiment: Experiment, prepared: Prepared, run: PruneRun, dense: nn.Module, demands: Demands, timing: Timed
) -> Int8:
    """The model of a finished pruning as int8, recovered by the dense one where its section says so."""
    from modelopt_cli.models.files.packed import unpack_masks

    masks = unpack_masks(run.checkpoint({}).extra.get("masks", {}), dict(run.module.named_parameters()))
    quantizing = QuantizeRun(experiment, prepared, seed=experiment.seed, module=run.module, dense=dense, masks=masks)
    quantizing.advance(quantizing.total)
    while quantizing.step < quantizing.total:  # a recovery that turned out to be needed
        quantizing.advance(quantizing.total)
    costs = dict(quantizing.costs({}))
    if any(map(is_latency, demands.costs)):
        costs |= timing(_timed(quantizing))[1]
    own = experiment.evaluation.own
    return Int8(quantizing, prepared, own, _judged(quantizing, prepared, "validation", own), costs)


def _timed(run: QuantizeRun) -> nn.Module | bytes:
    made = run.quantized
    assert made is not None
    return made.content if made.suffix == ".onnx" else made.module


def _judged(
    run: QuantizeRun, prepared: Prepared, split: str, own: Sequence[Any], keep: Keep | None = None
) -> dict[str, float]:
    made = run.quantized
    assert made is not None
    return evaluate(made.module, prepared, split, "cpu", own, keep)


def better(
    demands: Demands,
    int8: Int8,
    metrics: Mapping[str, float],
    costs: Mapping[str, float],
    given: Mapping[str, float],
    beside: Mapping[str, float],
) -> bool:
    """Whether the int8 file is to be the model: unless the float one alone is what is asked for."""

    def fits(own: Mapping[str, float], price: Mapping[str, float]) -> bool:
        return demands.allowed(own, given) and demands.met({**costs, **price}, beside)

    return fits(int8.metrics, int8.costs) or not fits(metrics, costs)
