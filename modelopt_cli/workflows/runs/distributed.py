"""One training of a torch module in several processes, as a run. What it is worth is judged in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.workflows.runs._rank_group import RankGroup
from modelopt_cli.workflows.runs.torch import TorchRun, TorchState

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.settings import TrainingSection


@dataclass(frozen=True)
class Job:
    """What each process begins with."""

    experiment: Experiment
    prepared: Prepared
    seed: int
    monitor: Sequence[str]
    state: TorchState


class DistributedRun(TorchRun):
    """A TorchRun whose epochs `training.distributed.processes` compute together. They are started when it advances.

    This process holds the model as it was at the last `state`, and fetches what has been learnt when it is asked for.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        *,
        seed: int,
        monitor: Sequence[str] = (),
        state: TorchState | None = None,
        timed: bool = False,
    ) -> None:
        """Raises UsageError where there are fewer GPUs than processes."""
        check_devices(experiment)
        super().__init__(experiment, prepared, seed=seed, monitor=monitor, state=state, timed=timed)
        self._monitor_names = tuple(monitor)
        self._group: RankGroup | None = None
        self._behind = False  # what this process holds, behind what the others have learnt

    def advance(self, until: int) -> list[StepReport]:
        """Train up to epoch `until`, all processes together."""
        until = min(until, self.total)
        if until <= self.step:
            return []
        start = time.perf_counter()
        if self._group is None:
            self._group = self._started()
        reports, self.step, self.total, warnings = self._group.ask(("advance", until))
        self._log.add(warnings)
        self.seconds += time.perf_counter() - start
        self._behind = True
        if self.step >= self.total:
            self._settle()
            self.close()
        costs = {} if self.early_costs is None else self.early_costs.of(self.trainer.module)
        return [(step, {**metrics, **costs}) for step, metrics in reports]

    def _started(self) -> RankGroup:
        settings = self._experiment.require_training().distributed
        assert settings is not None
        job = Job(self._experiment, self._prepared, self._seed, self._monitor_names, super().state())
        return RankGroup(settings.processes, job)

    def _settle(self) -> None:
        """Take over what was learnt."""
        if self._behind:
            assert self._group is not None
            learnt: TorchState = self._group.ask(("state",))
            self.trainer.load_state(learnt["trainer"])
            self._behind = False

    def metrics(self) -> Mapping[str, float]:
        """See TorchRun."""
        self._settle()
        return super().metrics()

    def full_metrics(self) -> dict[str, float]:
        """See TorchRun."""
        self._settle()
        return super().full_metrics()

    def test_metrics(self) -> dict[str, float]:
        """See TorchRun."""
        self._settle()
        return super().test_metrics()

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """See TorchRun."""
        self._settle()
        return super().checkpoint(metrics)

    def state(self) -> TorchState:
        """See TorchRun."""
        self._settle()
        return super().state()

    def restore(self, trained: Checkpoint) -> None:
        """See TorchRun."""
        self.close()
        self._behind = False
        super().restore(trained)

    def close(self) -> None:
        """End the processes."""
        if self._group is not None:
            self._group.end()
            self._group = None


def torch_run(experiment: Experiment, prepared: Prepared, **options: Any) -> TorchRun:
    """The training of a torch module as a run, in as many processes as the file says. `options`: TorchRun's."""
    training: TrainingSection = experiment.require_training()
    kind = TorchRun if training.distributed is None else DistributedRun
    return kind(experiment, prepared, **options)


def check_devices(experiment: Experiment) -> None:
    """Raise UsageError where the processes that the file asks for cannot each have a device."""
    from modelopt_cli.core.device import choose

    settings = experiment.require_training().distributed
    device = choose(experiment.device)
    if settings is None:
        return
    where = f"{experiment.origin}: training.distributed"
    if device == "cpu":
        if settings.backend == "nccl":
            raise UsageError(f"{where}.backend is nccl, which is for GPUs, but the device is cpu; write auto or gloo")
        return
    import torch

    if ":" in device:
        raise UsageError(
            f"{where} gives each process its own GPU, but device is {experiment.device}; write device: cuda"
        )
    if settings.processes > torch.cuda.device_count():
        raise UsageError(
            f"{where}.processes is {settings.processes}, but this machine has {torch.cuda.device_count()} GPUs, and "
            "each process takes one; set fewer, or device: cpu"
        )
