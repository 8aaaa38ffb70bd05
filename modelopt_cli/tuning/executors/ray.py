"""Trials on the machines of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, final

from pydantic import AfterValidator, Field, field_validator

from modelopt_cli.core.errors import MissingExtraError, UsageError
from modelopt_cli.core.extras import require
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Positive, whole_or_part
from modelopt_cli.tuning.executors import NO_LIMITS, Executor, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective


class Resources(Settings):
    """What one trial takes of a machine."""

    cpu: Annotated[Positive, AfterValidator(whole_or_part)] = Field(
        1.0, description="Cores; a trial computes with so many threads, at least one."
    )
    gpu: Annotated[float, Field(ge=0.0), AfterValidator(whole_or_part)] = Field(
        0.0, description="GPUs; 0.25: four trials share one. At 0 a trial sees no GPU."
    )


@final
class Ray(Executor):
    """Runs trials on the machines of a Ray cluster; what was computed on a machine that is lost is computed again."""

    extra: ClassVar[str] = "ray"

    address: str = Field(
        "local",
        description="local: a cluster of this machine's own, for this search; auto: the one that runs already "
        "(RAY_ADDRESS, else of this machine); HOST:PORT: the one whose head node answers there.",
    )
    workers: Count | None = Field(
        None, description="Trials at a time; null: tuning.workers, else as many as the cluster has room for."
    )
    resources: Resources = Field(Resources(), description="What one trial takes of a machine.")

    @field_validator("address")
    @classmethod
    def _can_be_reached(cls, value: str) -> str:
        if value in ("local", "auto"):
            return value
        host, _, port = value.rpartition(":")
        if "://" in value or not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(
                f"address is '{value}', but must be local, auto, or HOST:PORT of the cluster's head node, such as "
                "10.0.0.1:6379 (the search runs on a machine of the cluster, so that a ray:// address is not needed)"
            )
        return value

    def problem(self, limits: Limits) -> str | None:
        """Ray must be installed."""
        try:
            require("ray", self.extra)
        except MissingExtraError as error:
            return str(error)
        return None

    def device_problem(self, device: str) -> str | None:
        """A GPU must be asked for."""
        if not device.startswith("cuda") or self.resources.gpu:
            return None
        return (
            f"device is {device}, but a trial is given no GPU (tuning.executor.resources.gpu is 0); "
            "set resources: {gpu: 1} or a share of it, or device: auto"
        )

    def places(self, workers: int | None, cores: int) -> int:
        """As many as are asked for, else as the cluster has room for. Raises UsageError where it has room for none."""
        from modelopt_cli.tuning.executors._ray_cluster import Cluster, local_room

        asked = self._asked(workers)
        if self.address == "local":
            return asked or local_room(self.resources.cpu, cores)
        require("ray", self.extra)
        with Cluster(self.address) as cluster:
            room = cluster.room(self.resources.cpu, self.resources.gpu)
        return asked or room

    def _asked(self, workers: int | None) -> int | None:
        if None not in (self.workers, workers) and self.workers != workers:
            raise UsageError(
                f"tuning.executor.workers is {self.workers}, but tuning.workers is {workers}; write one of them"
            )
        return self.workers or workers

    def open(
        self, objective: Objective, workers: int = 1, limits: Limits = NO_LIMITS, folder: Path | None = None
    ) -> Pool:
        """A pool of up to `workers` places on the cluster, which is connected to, or started, here.

        Raises UsageError for a cluster that cannot be reached or has no room for a trial, nodes without this package,
        and an objective that cannot be pickled.
        """
        require("ray", self.extra)
        from modelopt_cli.tuning.executors._processes import pickled_objective
        from modelopt_cli.tuning.executors._ray_cluster import Cluster
        from modelopt_cli.tuning.executors._ray_pool import RayPool

        pickled = pickled_objective(objective, "other machines")
        cluster = Cluster(self.address)
        try:
            return RayPool(
                cluster,
                pickled,
                workers,
                limits,
                cpu=self.resources.cpu,
                gpu=self.resources.gpu,
                folders=objective.folders(),
                folder=folder,
            )
        except BaseException:
            cluster.close()
            raise
