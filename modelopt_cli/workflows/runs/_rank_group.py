"""The processes of one training, started by torch's own launcher (torchrun), asked and answered through files.

They are asked one thing at a time, all the same; the first of them answers. Files lie in a folder that is theirs and
their parent's alone, so nothing is opened to the network but what torch opens on the loopback for itself.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modelopt_cli.core.errors import ModeloptError, TrialError
from modelopt_cli.core.processes.supervised import Supervised, signal_name
from modelopt_cli.core.work import tell
from modelopt_cli.results.files import write_whole

_POLL = 0.02  # seconds
_GRACE = 5.0  # seconds for the processes to end when they are asked to
_TAIL = 600  # characters of what they wrote, in an error
JOB, PROGRESS, LOG = "job", "progress", "log"


def asked(number: int) -> str:
    """The file of a question."""
    return f"asked-{number}"


def answered(number: int) -> str:
    """The file of its answer."""
    return f"answered-{number}"


def failed(rank: int) -> str:
    """The file of an error that a process ended with."""
    return f"failed-{rank}"


def write(path: Path, content: object) -> None:
    """Pickle it, whole or not at all. Only this user's own processes write there, and read it."""
    write_whole(path, lambda stream: pickle.dump(content, stream, protocol=5), durable=False)


def read(path: Path) -> Any:
    """What `write` wrote."""
    with path.open("rb") as stream:
        return pickle.load(stream)


class RankGroup:
    """`count` processes that run `modelopt_cli.workflows.runs._rank` on a job. They end with this process."""

    def __init__(self, count: int, job: object) -> None:
        """`job`: what they begin with, picklable."""
        self._folder = TemporaryDirectory(prefix="modelopt-ranks-")
        self.path, self._count, self._number = Path(self._folder.name), count, 0
        write(self.path / JOB, job)
        threads = str(max(1, len(os.sched_getaffinity(0)) // count))
        environment = {"OMP_NUM_THREADS": threads, **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        if sys.platform == "linux":
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine, and it may have no network
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        with (self.path / LOG).open("wb") as log:
            self._process = Supervised(
                [*launcher, "-m", "modelopt_cli.workflows.runs._rank", str(self.path)],
                grace=_GRACE,
                stdout=log.fileno(),
                stderr=log.fileno(),
                env=environment,
            )

    def ask(self, question: tuple[Any, ...]) -> Any:
        """Ask all, and wait for the answer. Raises what they failed with, TrialError where they just ended."""
        self._number += 1
        write(self.path / asked(self._number), question)
        answer = self.path / answered(self._number)
        try:
            self._wait(answer.exists)
        except BaseException:
            self.end()
            raise
        return read(answer)

    def _wait(self, over: Callable[[], bool]) -> None:
        shown: tuple[Any, ...] | None = None
        while not over():
            ended = self._process.poll()
            if ended is not None and not over():
                raise self._failure(ended)
            if (self.path / PROGRESS).exists():
                progress = read(self.path / PROGRESS)
                if progress != shown:
                    shown = progress
                    tell(*progress)
            time.sleep(_POLL)

    def _failure(self, code: int) -> ModeloptError:
        """Why they ended: what one of them knows of, else what all met with; else one of them has just vanished."""
        files = [self.path / failed(rank) for rank in range(self._count)]
        failures: list[ModeloptError] = [read(path) for path in files if path.exists()]
        known = next((one for one in failures if not (isinstance(one, TrialError) and one.kind == "error")), None)
        if known is not None:
            return known
        return failures[0] if len(failures) == self._count else TrialError("crash", self._end_in_words(code))

    def _end_in_words(self, code: int) -> str:
        how = f"were ended by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        tail = (self.path / LOG).read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
        return f"the {self._count} processes of the training {how}: {tail}"

    def end(self) -> None:
        """End them all; returns when nothing is left."""
        self._process.end()
        self._folder.cleanup()


def failure_of(error: BaseException) -> ModeloptError:
    """What a process tells of an error."""
    return error if isinstance(error, ModeloptError) else TrialError("error", f"{type(error).__name__}: {error}")
