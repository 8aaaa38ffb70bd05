"""What a model costs while it is trained, for the reports of a search's trials.

A stopper compares trials by all objectives at once, so a report without one of them decides nothing. Sizes and times
follow from a module's shape, so they are known before it is trained out; they are measured once for each shape.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from modelopt_cli.experiment.expected_metrics import EARLY_COSTS, is_latency

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment

_QUICK = 0.1  # seconds in which a module is timed at each batch size
_OPERATIONS = ("model.macs", "model.flops")


class EarlyCosts:
    """Costs of modules under way, of those that are asked for."""

    def __init__(self, experiment: Experiment, prepared: Prepared, wanted: Iterable[str] | None) -> None:
        """`wanted`: names of metrics; None: no report is compared with others, so none is measured."""
        self._experiment, self._prepared = experiment, prepared
        self._names = {name for name in wanted or () if name in EARLY_COSTS or is_latency(name)}
        self._shape, self._values = -1, dict[str, float]()

    def of(self, module: nn.Module) -> dict[str, float]:
        """Metrics of the module as it is."""
        if not self._names:
            return {}
        from modelopt_cli.models.summary import summarise

        sizes = summarise(module)
        shape = int(sizes["model.parameters"])
        if shape != self._shape:
            self._shape, self._values = shape, self._measured(module)
        return {name: value for name, value in {**self._values, **sizes}.items() if name in self._names}

    def _measured(self, module: nn.Module) -> dict[str, float]:
        from modelopt_cli.models.measure import device_of, example, macs
        from modelopt_cli.workflows.shared.costs import timing
        from modelopt_cli.workflows.shared.latencies import measured

        values: dict[str, float] = {}
        if self._names & {*_OPERATIONS}:
            operations = float(macs(module, example(self._prepared.shapes, 1).to(device_of(module)))[""])
            values = {"model.macs": operations, "model.flops": 2.0 * operations}
        if any(map(is_latency, self._names)):
            settings = timing(self._experiment).model_copy(update={"seconds": _QUICK, "runtime": "eager"})
            inputs = example(self._prepared.shapes, max(settings.batch_sizes))
            values |= measured({"now": module}, inputs, settings).metrics("now")
        return values
