"""A Ray cluster that this process is connected to: one that runs already, or one of this machine for a search alone."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from modelopt_cli.core.errors import UsageError

_PATIENCE = 5.0  # seconds for a head node to answer
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would tell its makers of this use
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # workers set themselves which GPUs a trial sees
    "RAY_DEDUP_LOGS": "0",
}
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How an HTTP/2 connection begins (RFC 9113, section 3.4): the preface, and empty SETTINGS, which a server answers."""
_LAST_CLUSTER = "ray/ray_current_cluster"  # in the temporary folder: where `ray start` writes its address


class Cluster:
    """Connected when it is made. A context manager: leaving it disconnects, and ends a cluster that it has started.

    A process that is connected already, as a notebook may be, keeps its connection. Raises UsageError.
    """

    def __init__(self, address: str) -> None:
        """`address`: local, auto or HOST:PORT."""
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        import ray

        self._scratch: Path | None = None
        self._spoke: bool | None = None  # whether Ray told of errors on standard output before
        self._ours = not ray.is_initialized()
        if not self._ours:
            self.address = str(ray.get_runtime_context().gcs_address)
            if address not in ("local", "auto", self.address):
                raise UsageError(
                    f"this process is connected to the Ray cluster at {self.address}, so it cannot use the one at "
                    f"{address} (tuning.executor.address); write address: auto, or disconnect first (ray.shutdown())"
                )
        elif address == "local":
            self.address = address
            self._start()
        else:
            self.address = _resolved(address)
            _check_answers(self.address)
            self._connect()

    def _start(self) -> None:
        # Paths of sockets must be short, so that not every temporary folder will do.
        self._scratch = Path(tempfile.mkdtemp(prefix="modelopt-ray-", dir="/tmp"))
        with _signals_kept():
            self._init(
                address="local",
                include_dashboard=False,
                _temp_dir=str(self._scratch),
                _system_config={"memory_monitor_refresh_ms": 0},  # limits are ours: tuning.trial_memory
            )

    def _connect(self) -> None:
        with _signals_kept():
            self._init(address=self.address)

    def _init(self, **options: Any) -> None:
        import ray

        self._spoke = _told_on_stdout(False)
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # Ray has no class of its own for what goes wrong here
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self.close()
            raise UsageError(
                f"cannot begin to use the Ray cluster at '{self.address}': {why}. Rule: the search runs on a machine "
                "that is part of the cluster (ray start), with its versions of Ray and Python"
                if self.address != "local"
                else f"Ray cannot be started on this machine: {why}"
            ) from None

    def nodes(self) -> list[Mapping[str, float]]:
        """What each machine of the cluster that is alive has: CPU, GPU, ..."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def room(self, cpu: float, gpu: float) -> int:
        """How many trials fit in, others that use the cluster left out of account. Raises UsageError for none."""
        nodes = self.nodes()
        room = sum(_fitting(node, cpu, gpu) for node in nodes)
        if room:
            return room
        wanted = f"{cpu:g} CPUs" + (f" and {gpu:g} GPUs" if gpu else "")
        had = "; ".join(sorted({f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes}))
        if self.address == "local":
            raise UsageError(
                f"a trial takes {wanted} (tuning.executor.resources), but this machine has {had}; ask for less, or "
                "give the address of a cluster"
            )
        raise UsageError(
            f"a trial takes {wanted} (tuning.executor.resources), but no machine of the Ray cluster at "
            f"'{self.address}' has so many (there are: {had or 'none'}); ask for less, or add such machines first "
            "(ray start --address=...)"
        )

    def state_memory(self) -> int:
        """Bytes of the object stores of all machines together."""
        return int(sum(node.get("object_store_memory", 0.0) for node in self.nodes()))

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        import ray

        if self._ours and ray.is_initialized():
            with _signals_kept():
                ray.shutdown()
        if self._spoke is not None:
            _told_on_stdout(self._spoke)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _told_on_stdout(tells: bool) -> bool | None:
    """Let Ray tell of lost nodes on standard output, or not: there is our report, and it can be told otherwise by
    Ray's own modules alone. Whether it did before; None: this version has no such switch."""
    from ray._private import worker

    before: bool | None = getattr(worker, "_worker_logs_enabled", None)
    if before is not None:
        worker._worker_logs_enabled = tells
    return before


def local_room(cpu: float, cores: int) -> int:
    """How many trials a machine has room for. Raises UsageError for none."""
    if cpu > cores:
        raise UsageError(
            f"a trial takes {cpu:g} CPUs (tuning.executor.resources.cpu), but this machine has {cores}; ask for less, "
            "or give the address of a cluster"
        )
    return max(1, int(cores / cpu))


def _fitting(node: Mapping[str, float], cpu: float, gpu: float) -> int:
    """Trials that a machine has room for; Ray counts in parts of 1/10,000, and gives no trial parts of two GPUs."""
    by_cpu = int(node.get("CPU", 0.0) / cpu + 1e-4)
    if not gpu:
        return by_cpu
    gpus = int(node.get("GPU", 0.0) + 1e-4)
    by_gpu = gpus * int(1 / gpu + 1e-4) if gpu <= 1 else int(gpus / gpu)
    return min(by_cpu, by_gpu)


def _resolved(address: str) -> str:
    """HOST:PORT for `auto`, as Ray itself finds it. Raises UsageError where no cluster runs."""
    if address != "auto":
        return address
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto", "local"):
        return given
    written = Path(os.environ.get("RAY_TMPDIR", "/tmp"), _LAST_CLUSTER)
    with contextlib.suppress(OSError):
        return written.read_text(encoding="utf-8").strip()
    raise UsageError(
        "no Ray cluster runs on this machine (tuning.executor.address is auto, and RAY_ADDRESS is not set); start one "
        "(ray start --head), name one (HOST:PORT of its head node), or write address: local"
    )


def _check_answers(address: str) -> None:
    """Raise UsageError where no head node answers at HOST:PORT: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    remedy = "is the cluster up (ray status), and is that the address of its head node (ray start --head prints it)?"
    if "://" in address or not port.isdigit():
        raise UsageError(f"the address '{address}' of a Ray cluster (RAY_ADDRESS) is not HOST:PORT of its head node")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            connection.sendall(_GREETING)
            answer = connection.recv(4)
    except (OSError, OverflowError) as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        raise UsageError(f"no Ray cluster answers at {address} ({why}): {remedy}") from None
    if len(answer) < 4 or answer[3] != 4:  # the type of a SETTINGS frame
        raise UsageError(f"what answers at {address} is no head node of a Ray cluster: {remedy}")


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """What handles SIGINT and SIGTERM stays: Ray sets handlers of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
