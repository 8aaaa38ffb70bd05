"""This process's end of a logger: takes records at once, and hands them to the logger's process from a thread."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict
from typing import IO, Any

from modelopt_cli.core.processes.watcher import VARIABLE
from modelopt_cli.results.loggers import Begun, Ended, Location, Logger, Points

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from modelopt_cli.results.deliveries.process import main; main()"
)
_MOST = 200_000  # records that may wait; from there on points are dropped
_GRACE = 1.0  # seconds that each has at the end of a run
_COMPUTING = 0.1  # seconds of computing time that tell work from waiting for a server
_AT_MOST = 10.0  # times `wait`, for a logger that is slow but at work when the run ends

Record = Begun | Points | Ended


class Delivery:
    """A logger at work. `put` never waits; `close` waits until all is logged, but not for one that does not answer."""

    def __init__(self, logger: Logger, location: Location) -> None:
        self.name, self.where = logger.name(), ""
        self.warnings: deque[str] = deque()  # not told yet; whoever tells them takes them out
        self._logger, self._location = logger, location
        self._records: deque[Record | None] = deque()
        self._put, self._handled, self._dropped = 0, 0, 0
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._closed, self._abandoned = False, False
        self._answered = self._busy_since = time.monotonic()
        self._computed = 0.0  # seconds of the process's computing time, when it was last looked at
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def put(self, record: Record) -> None:
        """Take a record."""
        with self._changed:
            if self._closed or self._abandoned:
                return
            if isinstance(record, Points) and len(self._records) >= _MOST:
                self._dropped += 1
                return
            if self._put == self._handled:
                self._busy_since = time.monotonic()
            self._records.append(record)
            self._put += 1
            self._changed.notify_all()

    def close(self, limit: float | None = None) -> None:
        """No record follows. Waits while the logger is at work, but at most `limit` seconds where that is given."""
        begun = time.monotonic()
        wait = self._logger.wait
        longest = _AT_MOST * wait if limit is None else limit
        with self._changed:
            self._closed = True
            self._records.append(None)
            self._changed.notify_all()
            while self._feeder.is_alive() and not self._abandoned:
                now = time.monotonic()
                if now - begun > longest or (now - self._silent_since() > wait and now - begun > _GRACE):
                    break
                self._changed.wait(0.1)
                self._look()
            self._abandoned = True
            left = self._put - self._handled
        if self._feeder.is_alive():
            self._kill()
            if left or limit is None:
                self.warnings.append(
                    f"it did not come to an end within {time.monotonic() - begun:.0f} s, so that {left} of {self._put} "
                    "records are not logged"
                )
        if self._dropped:
            self.warnings.append(f"it was too slow: {self._dropped} measurements were not logged")
        self._errors.close()

    def _silent_since(self) -> float:
        """Since when it has had something to do and has not answered."""
        return max(self._answered, self._busy_since)

    def _look(self) -> None:
        """A process that computes is at work, though it does not answer: a package is imported, a store is made."""
        import psutil

        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(self._process.pid).cpu_times()
                if times.user + times.system > self._computed + _COMPUTING:
                    self._computed = times.user + times.system
                    self._answered = time.monotonic()

    def _feed(self) -> None:
        """The feeder thread: start the process, write records, wait for its end."""
        try:
            self._process = process = self._start()
        except OSError as error:
            return self._give_up(f"its process cannot be started: {error}")
        reader = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        reader.start()
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: said below
            process.stdin.write(json.dumps(self._head()) + "\n")
            process.stdin.flush()
            while True:
                with self._changed:
                    while not self._records:
                        self._changed.wait()
                    some = [self._records.popleft() for _ in range(len(self._records))]
                for record in some:
                    if record is not None:
                        process.stdin.write(json.dumps(asdict(record)) + "\n")
                process.stdin.flush()
                if None in some:
                    break
        with contextlib.suppress(OSError):
            process.stdin.close()
        code = process.wait()
        reader.join()
        if code != 0 and not self._abandoned:
            return self._give_up(f"its process ended by itself ({_how(code)}){self._last_line()}")
        return None

    def _start(self) -> subprocess.Popen[str]:
        variables = self._logger.environment(os.environ)
        variables.pop(VARIABLE, None)  # it ends by itself when we do, after it has noted that
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=variables,
            start_new_session=True,  # Ctrl-C is for the run, which then says how it ended
        )

    def _head(self) -> dict[str, Any]:
        location = self._location
        paths = {"folder": location.folder, "root": location.root}
        return {
            "module": type(self._logger).__module__,
            "class": type(self._logger).__name__,
            "options": self._logger.model_dump(mode="json"),
            "name": location.name,
            "title": location.title,
            **{key: None if path is None else str(path) for key, path in paths.items()},
        }

    def _listen(self, answers: IO[str]) -> None:
        with answers:
            for line in answers:
                with contextlib.suppress(ValueError):
                    self._hear(json.loads(line))

    def _hear(self, answer: dict[str, Any]) -> None:
        with self._changed:
            self._answered = time.monotonic()
            self._handled += answer.get("handled", 0)
            self.where = answer.get("where", self.where)
            if "warning" in answer:
                self.warnings.append(answer["warning"])

    def _give_up(self, why: str) -> None:
        with self._changed:
            self._abandoned = True
            self._records.clear()
            self.warnings.append(f"{why}; nothing more is logged. The run itself goes on")

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        self._feeder.join(2.0)

    def _last_line(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            return f": {last[:300]}" if last else ""
        return ""


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
