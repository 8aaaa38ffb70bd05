"""What a model's forward passes take beside those of the model that it was made of, measured in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.workflows.shared import costs
from modelopt_cli.workflows.shared.latencies import joint_runtime, measured

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.experiment.evaluation import Runtime
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Table

Times = tuple[Mapping[str, float], Mapping[str, float]]
"""Metrics of the times of two models, such as `model.latency_ms`."""


class Timing:
    """Times smaller models beside the given one. `noise`: what made the last ones unsure; `table`: all of them."""

    def __init__(self, experiment: Experiment, inputs: Tensor, given: nn.Module) -> None:
        """`inputs`: (N, *inputs), as the models take them. Models run by ONNX Runtime where that is installed and the
        given one can be written for it, unless the file says by what.
        """
        self._inputs, self._given, self._settings = inputs, given, costs.timing(experiment)
        self._auto: Runtime = joint_runtime()
        self.noise: Sequence[str] = ()
        self.table: Table | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that there are."""
        return self._settings.metrics

    def __call__(self, smaller: nn.Module | bytes) -> Times:
        """Of the given model and of this one (a module, or the content of an ONNX file), for each batch size."""
        latencies = measured({"given": self._given, "smaller": smaller}, self._inputs, self._settings, auto=self._auto)
        if not (latencies.of("given") and latencies.of("smaller")) and self._auto != "eager":
            self._auto = "eager"  # it cannot be written as an ONNX file
            return self(smaller)
        self.noise, self.table = latencies.warnings, latencies.table()
        return latencies.metrics("given"), latencies.metrics("smaller")
