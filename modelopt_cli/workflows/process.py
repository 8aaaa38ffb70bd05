"""A script as a run: started in a process group of its own, its metrics read as JSON lines.

The script knows nothing of modelopt. Each line of its standard output, or of the file that the environment variable
MODELOPT_METRICS names, that is a JSON object with numbers counts: with a `step` it is a report (a point of the curve),
without one it adds to the final metrics. Every other line is ordinary output. MODELOPT_SEED holds the trial's seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.tuning.objective import Report, Run

_POLL = 0.02  # seconds between looks at the script
_PATIENCE = 0.25  # `advance` returns at least this often, so that whoever calls it can stop or time out
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL


def parse_line(line: str) -> tuple[int | None, dict[str, float]] | None:
    """(step or None, metrics) when `line` is a JSON object with at least one number besides `step`, else None."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    metrics = {
        str(key): float(value)
        for key, value in found.items()
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }
    step = found.get("step")
    whole = isinstance(step, int | float) and not isinstance(step, bool) and step == int(step)
    return (int(step) if whole else None, metrics) if metrics else None


def fill(argv: Sequence[str], parameters: Mapping[str, Any]) -> list[str]:
    """`argv` with its `{name}` placeholders filled; no shell. `python` is the interpreter that runs modelopt."""
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    filled = [part.format_map(words) for part in argv]
    return [sys.executable if filled[0] == "python" else filled[0], *filled[1:]]


_LIBC = ctypes.CDLL(None)  # loaded before any fork


def _die_with_parent() -> None:
    """In the child, before exec: SIGKILL when the parent dies (Linux), so that no script outlives its search."""
    with contextlib.suppress(OSError, AttributeError):
        _LIBC.prctl(1, signal.SIGKILL)


class ScriptRun(Run):
    """A script under way. `total` is unknown until it ends."""

    def __init__(self, argv: Sequence[str], *, folder: str, seed: int) -> None:
        self.total = sys.maxsize
        self._reports: list[Report] = []
        self._metrics: dict[str, float] = {}
        self._lock = threading.Lock()
        self._tail: deque[str] = deque(maxlen=20)
        self._scratch = tempfile.TemporaryDirectory(prefix="modelopt-", ignore_cleanup_errors=True)
        self._file = Path(self._scratch.name, "metrics.jsonl")
        self._file.touch()
        self._offset = 0
        self._process = self._start(list(argv), folder, seed)
        self._readers = [
            threading.Thread(target=self._read, args=(stream, keep), daemon=True)
            for stream, keep in ((self._process.stdout, False), (self._process.stderr, True))
        ]
        for reader in self._readers:
            reader.start()

    def _start(self, argv: list[str], folder: str, seed: int) -> subprocess.Popen[str]:
        environment = {**os.environ, "MODELOPT_METRICS": str(self._file), "MODELOPT_SEED": str(seed)}
        environment.setdefault("PYTHONUNBUFFERED", "1")  # reports must arrive as they are made
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd=folder,
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            self._scratch.cleanup()
            raise UsageError(
                f"cannot start {argv[0]!r}: {error.strerror}. Rule: command.argv[0] is a program on the PATH or a path "
                f"from {folder}."
            ) from None

    def _read(self, stream: IO[str], keep: bool) -> None:
        for line in stream:
            self._note(line, keep)
        stream.close()

    def _note(self, line: str, keep: bool) -> None:
        parsed = None if keep else parse_line(line)
        with self._lock:
            if parsed is None:
                if line.strip():
                    self._tail.append(line.rstrip()[:500])
                return
            step, metrics = parsed
            self._metrics.update(metrics)
            if step is not None:
                self._reports.append((step, metrics))

    def _read_file(self) -> None:
        with self._file.open(errors="replace") as lines:
            lines.seek(self._offset)
            for line in iter(lines.readline, ""):
                if not line.endswith("\n") and self._process.poll() is None:
                    break  # half a line: the script is still writing it
                self._note(line, keep=False)
                self._offset = lines.tell()

    def advance(self, until: int) -> list[Report]:
        """New reports; returns early, perhaps with none, so that the caller may stop or time out."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            ended = self._process.poll() is not None
            if ended:
                for reader in self._readers:
                    reader.join(_GRACE)
            self._read_file()
            new = self._take(until)
            if ended and not self._reports:
                self._finish()
            if new or ended or time.monotonic() > deadline:
                return new
            time.sleep(_POLL)

    def _take(self, until: int) -> list[Report]:
        with self._lock:
            count = next((place for place, (step, _) in enumerate(self._reports) if step > until), len(self._reports))
            new, self._reports = self._reports[:count], self._reports[count:]
            held_back = bool(self._reports)
        self.step = until if held_back else max([self.step, *(step for step, _ in new)])
        return new

    def _finish(self) -> None:
        """The script has ended and all it reported was taken: is what it left usable?"""
        code = self._process.returncode
        last = f"; it printed last: {self._tail[-1]}" if self._tail else ""
        if code < 0:
            raise TrialError("crash", f"the script was killed by {signal.Signals(-code).name}{last}")
        if code > 0:
            raise TrialError("error", f"the script ended with exit code {code}{last}")
        if not self._metrics:
            raise TrialError(
                "error", f'the script reported no metrics (print a JSON line such as {{"loss": 0.5}}){last}'
            )
        self.step = self.total = max(self.step, 1)

    def metrics(self) -> Mapping[str, float]:
        """The last value of every metric the script has reported."""
        with self._lock:
            return dict(self._metrics)

    def close(self) -> None:
        """End the script's whole process group: SIGTERM, and SIGKILL for what is left after two seconds."""
        group = self._process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
            os.killpg(group, signal.SIGKILL)
        self._process.wait(_GRACE)
        for reader in self._readers:
            reader.join(_GRACE)
        self._scratch.cleanup()
