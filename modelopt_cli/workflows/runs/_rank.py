"""One process of a training that several share: started by torchrun with the group's folder, see _rank_group.py."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.work import listening
from modelopt_cli.workflows.runs._rank_group import JOB, PROGRESS, answered, asked, failed, failure_of, read, write

if TYPE_CHECKING:
    from modelopt_cli.workflows.runs.distributed import Job
    from modelopt_cli.workflows.runs.torch import TorchRun

_POLL = 0.02  # seconds between looks for the next question
_TOLD_EVERY = 0.2  # seconds between two notes of how far an epoch has come


def main() -> None:
    """Join the group, then answer questions until the launcher ends."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    try:
        _serve(folder, rank)
    except BaseException as error:
        write(folder / failed(rank), failure_of(error))
        raise


def _serve(folder: Path, rank: int) -> None:
    launcher, run, number = os.getppid(), _joined(read(folder / JOB)), 0
    while os.getppid() == launcher:
        path = folder / asked(number + 1)
        if not path.exists():
            time.sleep(_POLL)
            continue
        number += 1
        listener = _noted(folder / PROGRESS) if rank == 0 else None
        with listening(listener) if listener is not None else nullcontext():
            answer = _answer(run, *read(path))
        if rank == 0:
            write(folder / answered(number), answer)


def _joined(job: Job) -> TorchRun:
    """This process' part of the training."""
    import torch
    import torch.distributed as dist

    from modelopt_cli.core.device import choose
    from modelopt_cli.training.ranks import Ranks
    from modelopt_cli.workflows.runs.torch import TorchRun

    experiment = job.experiment
    settings = experiment.require_training().distributed
    assert settings is not None
    on_gpu = choose(experiment.device).startswith("cuda")
    if on_gpu:
        local = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(local)
        experiment = experiment.with_values({"device": f"cuda:{local}"})
    backend = settings.backend if settings.backend != "auto" else "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend)
    monitor = list(job.monitor)
    return TorchRun(experiment, job.prepared, seed=job.seed, monitor=monitor, state=job.state, ranks=Ranks())


def _answer(run: TorchRun, what: str, until: int = 0) -> Any:
    if what == "state":
        return run.state()
    reports = run.advance(until)
    return reports, run.step, run.total, list(run.warnings)


def _noted(path: Path) -> Callable[[str, int, int | None], None]:
    """A listener that notes how far the work has come, now and then."""
    last = time.monotonic()

    def note(what: str, done: int, of: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > _TOLD_EVERY:
            last = time.monotonic()
            write(path, (what, done, of))

    return note


if __name__ == "__main__":
    main()
