"""A Ray cluster of several nodes on this machine: raylets of their own, each with CPUs that it only claims to have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

_STORE = 80 * 2**20  # bytes, near the least that Ray takes
_SYSTEM = {
    # A node that is killed shall be missed within two seconds, as on a real cluster within half a minute; one that is
    # slow, since the machine is busy, shall not.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 30_000,
    "health_check_failure_threshold": 3,
    "memory_monitor_refresh_ms": 0,  # tests of other programs fill this machine
}


class Nodes:
    """The head has no CPU, so that every trial runs on one of the nodes that are added."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        # Its agents have 30 s to begin, which is not enough on a machine that others keep busy.
        options = {"num_cpus": 0, "num_gpus": 0, "object_store_memory": _STORE, "_system_config": _SYSTEM}
        try:
            self._cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
        except Exception as error:  # Ray has no class of its own for it
            pytest.skip(f"Ray cannot be started here: {error}")
        self.address = str(self._cluster.address)
        self._added: list[Any] = []

    def add(self, cpus: int = 1, gpus: int = 0, environment: Mapping[str, str] | None = None) -> Any:
        """A node more; its handle."""
        node = self._cluster.add_node(
            num_cpus=cpus, num_gpus=gpus, object_store_memory=_STORE, env_vars=dict(environment or {})
        )
        self._added.append(node)
        return node

    def add_blind(self, folder: Path, cpus: int = 1) -> subprocess.Popen[bytes]:
        """A node that does not see this folder, as another machine would not: it has an empty one in its place.

        To be ended by whoever asked for it. Raises OSError where this process may make no namespaces.
        """
        ray = Path(sys.executable).with_name("ray")
        start = f"{ray} start --block --address={self.address} --num-cpus={cpus} --object-store-memory={_STORE}"
        hide = f"mount -t tmpfs none {folder} && cd / && exec {start}"
        before = self.alive()
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", hide],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self.alive() - before:
            if process.poll() is not None:
                raise OSError("a node without our files cannot be started: no mount namespaces, or no time")
            time.sleep(0.1)
        return process

    def alive(self) -> set[str]:
        """Which nodes there are."""
        return {str(node["NodeID"]) for node in self._cluster.global_state.node_table() if node["Alive"]}

    def processes(self) -> list[str]:
        """Command lines of what runs on the nodes beside Ray's own: workers, and what trials have started."""
        raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in self._added]
        lines = []
        for process in [child for raylet in raylets for child in raylet.children(recursive=True)]:
            with suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return [line for line in lines if "RayWorker" in line or "executors._worker" in line or "program.py" in line]

    def kill(self, node: Any) -> None:
        """SIGKILL to its raylet: what a machine that loses power looks like to the others."""
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self._added.remove(node)

    def oldest(self) -> Any:
        """Of the nodes that were added."""
        return self._added[0]

    def only(self, count: int) -> list[Any]:
        """Nodes of one CPU each, so many; whatever else was added goes."""
        while len(self._added) > count:
            self._cluster.remove_node(self._added.pop())
        while len(self._added) < count:
            self.add()
        return list(self._added)

    def close(self) -> None:
        """End all."""
        self._cluster.shutdown()


@contextmanager
def connected(nodes: Nodes) -> Iterator[None]:
    """This process connected to the cluster, as a notebook may be: pools use that, and leave it."""
    import ray

    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
