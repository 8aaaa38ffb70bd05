"""A script as a run: started in a process group of its own, its metrics read as JSON lines.

The script knows nothing of modelopt. Each line of its standard output, or of the file that the environment variable
MODELOPT_METRICS names, that is a JSON object with numbers counts: with a `step` it is a report (a point of the curve),
without one it adds to the metrics of the next report, or of the end. A script runs ahead of who reads its reports: what
it wrote after the last one that was read counts for nothing where it is stopped there, so a stopped trial is the same
however late its script died. Every other line is ordinary output (script_lines.py). MODELOPT_SEED holds the trial's
seed, MODELOPT_TRIAL_DIR a folder of its own. All that it writes goes into its log (script_log.py).

Nothing here imports torch, so a search's worker processes start at once, and one that keeps a suspended script holds
little memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from modelopt_cli.core.errors import StorageError, TrialError, UsageError
from modelopt_cli.core.processes.supervised import Supervised, signal_name
from modelopt_cli.core.references import redacted
from modelopt_cli.results.trial_files import TrialFiles
from modelopt_cli.tuning.objective import Folders, Objective, Run, StepReport
from modelopt_cli.workflows.runs.script_lines import Lines, metrics_of
from modelopt_cli.workflows.runs.script_log import ScriptLog

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.trials.trial import Params

_POLL = 0.02  # seconds between looks at the script
_PATIENCE = 0.25  # `advance` returns at least this often, so that whoever calls it can stop or time out
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL, and for what is still in a pipe when the script has ended
_LOOKS = 2  # of the reader at the pipes in that time, at least: this process may stand still for longer than it lasts
_AT_ONCE = 65_536  # bytes that are read at once
_MOST_AHEAD = 10_000  # reports that nobody has asked for yet; then the script waits, as at any full pipe
_MOST_METRICS = 1_000  # names of metrics
_MOST_OF_FILE = 4 * 2**20  # bytes of the metrics file in one look
_END_OF_FILE = 2**30  # what comes after so many bytes of it is not read

Pause = Literal["suspend", "restart"]


def program(words: Sequence[str]) -> list[str]:
    """The words of a command as they are started: `python` is the interpreter that runs modelopt."""
    return [sys.executable if words[0] == "python" else words[0], *words[1:]]


def _read(descriptor: int) -> bytes:
    """What there is; nothing at the end, or where no more can be read."""
    try:
        return os.read(descriptor, _AT_ONCE)
    except OSError:
        return b""


def _arrived(selector: selectors.BaseSelector, patience: float) -> list[tuple[selectors.SelectorKey, bytes]]:
    """What the streams hold, the first registered first; nothing after `patience` seconds of silence.

    Two pipes do not say which was written to first. The errors are read first and put last: what was printed before
    an error has arrived by then, so an error never stands before it.
    """
    selector.select(patience)
    arrived = []
    for key in reversed(list(selector.get_map().values())):
        if any(ready is key for ready, _ in selector.select(0)):
            arrived.append((key, _read(key.fd)))
    return arrived[::-1]


class _Ahead(NamedTuple):
    """A report that nobody has asked for yet, and what was said without a step since the report before."""

    step: int
    values: dict[str, float]
    beside: dict[str, float]


class ScriptRun(Run):
    """A script under way. How many steps it takes is known when it has ended; `steps` is what the user says."""

    leaps = True

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: str,
        seed: int,
        steps: int | None = None,
        timeout: float | None = None,
        pause: Pause = "suspend",
        log: Path | None = None,
        trial_dir: Path | None = None,
    ) -> None:
        """`timeout`: seconds that it may compute. `pause`: what `suspend` does. `log`: file for what it writes.

        `trial_dir`: a folder of its own, which is there; None: one that goes with the run.
        """
        self.total = sys.maxsize
        self._steps, self._timeout, self._may_suspend = steps, timeout, pause == "suspend"
        self._ahead: list[_Ahead] = []
        self._beside: dict[str, float] = {}  # without a step, since the last report
        self._metrics: dict[str, float] = {}  # of the reports that were taken; at its end, of all it said
        self._names: set[str] = set()  # of all metrics it named
        self._tail: deque[str] = deque(maxlen=20)
        self._changed = threading.Condition()  # of the five above
        self._closing = False
        self._over = math.inf  # when what is still in the pipes of an ended script is waited for no more
        self._ended: float | None = None  # when its end was seen
        self._looks, self._looks_before = 0, 0  # of the reader at the pipes: all, and before the end was seen
        self._computed, self._since = 0.0, time.monotonic()
        self._suspended = False
        self._scratch = tempfile.TemporaryDirectory(prefix="modelopt-", ignore_cleanup_errors=True)
        self._file, self._offset, self._file_lines = Path(self._scratch.name, "metrics.jsonl"), 0, Lines()
        self._file.touch()
        self._trial_dir = trial_dir or Path(self._scratch.name, "trial_dir")
        if trial_dir is None:
            self._trial_dir.mkdir()
        self._process = self._start(list(argv), folder, seed)
        self._log, self._log_path = ScriptLog(log), log
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _start(self, argv: list[str], folder: str, seed: int) -> Supervised:
        environment = {
            **os.environ,
            "MODELOPT_METRICS": str(self._file),
            "MODELOPT_SEED": str(seed),
            "MODELOPT_TRIAL_DIR": str(self._trial_dir),
        }
        environment.setdefault("PYTHONUNBUFFERED", "1")  # reports must arrive as they are made
        try:
            return Supervised(
                argv, grace=_GRACE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL character among the arguments
            self._scratch.cleanup()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(
                f"cannot start {argv[0]!r}: {why}. Rule: command.argv[0] is a program on the PATH or a path from "
                f"{folder}."
            ) from None

    @property
    def known_total(self) -> int | None:
        """See the base class."""
        return self._steps if self.total == sys.maxsize else self.total

    def _listen(self) -> None:
        """Read what it writes, until it ends or nobody listens any more: the pipes never fill up."""
        streams = [stream for stream in (self._process.stdout, self._process.stderr) if stream is not None]
        with selectors.DefaultSelector() as selector, contextlib.closing(self._log) as log:
            for stream in streams:
                selector.register(stream.fileno(), selectors.EVENT_READ, (Lines(), stream is streams[0]))
            late = False
            while selector.get_map() and not late:
                # Asked before the look: what is in the pipes then is still read.
                ending, late = self._over < math.inf, time.monotonic() >= self._over
                arrived = _arrived(selector, 0.0 if late else _PATIENCE)
                if not arrived:
                    log.flush()
                    if ending:
                        break
                for key, data in arrived:
                    lines, metrics = key.data
                    log.write(key.fd, data)
                    if not data:
                        selector.unregister(key.fd)
                    for line in lines.cut(data) if data else lines.last():
                        if not self._closing:
                            self._note(line, metrics)
                self._looks += 1
        for stream in streams:
            stream.close()

    def _note(self, line: bytes, metrics: bool) -> None:
        """Take a line over: of metrics, where it may be one."""
        parsed = metrics_of(line) if metrics else None
        with self._changed:
            if parsed is None or len(self._names | parsed[1].keys()) > _MOST_METRICS:
                text = redacted(line.decode("utf-8", "replace")).strip()
                if text:
                    self._tail.append(text[:500])
                return
            step, values = parsed
            self._names |= values.keys()
            if step is None:
                self._beside.update(values)
                return
            if self._ahead and self._ahead[-1].step == step:
                self._ahead[-1].values.update(values)
                return
            if metrics and threading.current_thread() is self._reader:
                self._changed.wait_for(lambda: len(self._ahead) < _MOST_AHEAD or self._closing)
            self._ahead.append(_Ahead(step, values, self._beside))
            self._beside = {}

    def _read_file(self, *, last: bool) -> bool:
        """New lines of the metrics file, to which the script may do what it likes; whether these were all."""
        data = b""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NONBLOCK)  # a fifo in its place must not block
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and self._offset < _END_OF_FILE:
                    data = os.pread(descriptor, _MOST_OF_FILE, self._offset)
            finally:
                os.close(descriptor)
        self._offset += len(data)
        for line in self._file_lines.cut(data):
            self._note(line, metrics=True)
        if len(data) == _MOST_OF_FILE and self._offset < _END_OF_FILE:
            return False
        for line in self._file_lines.last() if last else ():
            self._note(line, metrics=True)
        return True

    def advance(self, until: int) -> list[StepReport]:
        """New reports, up to the first at `until` or beyond; returns early, perhaps with none, so that the caller may
        stop or time out."""
        if self._suspended:
            self._suspended, self._since = False, time.monotonic()
            self._process.go_on()
        deadline = time.monotonic() + _PATIENCE
        while True:
            drained = self._is_drained()
            read = self._read_file(last=drained)
            new = self._take(until)
            with self._changed:
                is_over = drained and read and not self._ahead
            if is_over and not (new and self._problem()):  # what it reported before it failed is told first
                self._finish()
            if new or is_over or time.monotonic() > deadline:
                return new
            self._check_time()
            time.sleep(_POLL)

    def _is_drained(self) -> bool:
        """Whether it has ended and all it wrote was read; whoever else holds its pipe is waited for a moment only."""
        if self._process.poll() is None:
            return False
        if self._ended is None:
            self._ended, self._looks_before = time.monotonic(), self._looks
        if not self._reader.is_alive():
            return True
        return time.monotonic() - self._ended > _GRACE and self._looks >= self._looks_before + _LOOKS

    def _check_time(self) -> None:
        computed = self._computed + time.monotonic() - self._since
        if self._timeout is not None and computed > self._timeout and self._ended is None:
            raise TrialError("timeout", f"took longer than command.timeout ({self._timeout:g} s)")

    def _take(self, until: int) -> list[StepReport]:
        with self._changed:
            first = next((i for i, ahead in enumerate(self._ahead) if ahead.step >= until), len(self._ahead))
            taken, self._ahead = self._ahead[: first + 1], self._ahead[first + 1 :]
            for _, values, beside in taken:
                self._metrics |= beside | values
            self._changed.notify_all()
        new: list[StepReport] = [(ahead.step, ahead.values) for ahead in taken]
        self.step = max([self.step, *(step for step, _ in new)])
        return new

    def _problem(self) -> TrialError | None:
        """What is wrong with how it ended."""
        code = self._process.returncode
        last = f"; it printed last: {self._tail[-1]}" if self._tail else ""
        if code < 0:
            return TrialError("crash", f"the script was killed by {signal_name(-code)}{last}")
        if code > 0:
            return TrialError("error", f"the script ended with exit code {code}{last}")
        if not self._names:
            return TrialError(
                "error", f'the script reported no metrics (print a JSON line such as {{"loss": 0.5}}){last}'
            )
        return None

    def _finish(self) -> None:
        """The script has ended and all it reported was taken: is what it left usable?"""
        problem = self._problem()
        if problem is not None:
            raise problem
        with self._changed:
            self._metrics |= self._beside
        self.step = self.total = max(self.step, 1)

    def metrics(self) -> Mapping[str, float]:
        """The last value of every metric in the reports that were taken; at the script's end, of all it said."""
        with self._changed:
            return dict(self._metrics)

    @property
    def warnings(self) -> Sequence[str]:
        """Where its log ends early."""
        if not self._log.problem:
            return ()
        return (f"the log of the script ends early: {self._log_path} cannot be written ({self._log.problem})",)

    def suspend(self) -> bool:
        """Stop the script's process group where it is, with all it has in memory."""
        if not self._may_suspend:
            return False
        self._suspended = self._process.poll() is not None or self._process.suspend()
        self._computed += time.monotonic() - self._since
        return self._suspended

    def close(self) -> None:
        """End the script and all it started: SIGTERM, and SIGKILL for what is left after two seconds.

        What it still writes meanwhile goes into its log alone.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._process.end()
        self._over = time.monotonic() + _GRACE
        for _ in range(round(_GRACE / _PATIENCE) + 2):  # so many looks: one is over at once where we stood still
            self._reader.join(_PATIENCE)
        self._scratch.cleanup()


def open_script(experiment: Experiment, seed: int, files: TrialFiles, number: int = 0) -> Run:
    """The experiment's command, started; what it leaves lies among `files` by this number."""
    command = experiment.require_command()
    folder = Path(experiment.folder, command.cwd)
    if not folder.is_dir():
        raise StorageError(f"command.cwd: {folder} is no folder; the script is started in it")
    files.prepare(number)
    trial_dir = files.trial_dir(number)
    return ScriptRun(
        program(command.words(str(trial_dir))),
        folder=str(folder),
        seed=seed,
        steps=command.steps,
        timeout=command.timeout,
        pause=command.pause,
        log=files.log(number),
        trial_dir=trial_dir,
    )


class CommandObjective(Objective):
    """Starts the experiment's script with a trial's values."""

    device = "auto"  # it may use a GPU where there is one

    def __init__(self, experiment: Experiment, files: TrialFiles) -> None:
        self._experiment, self._files = experiment, files

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        """Of no trial in particular."""
        return self.open_trial(0, params, seed, state)

    def folders(self) -> Folders:
        """The folder that scripts start in and the experiment's; what they leave, by the trial's number."""
        needed = (*self._experiment.files, Path(self._experiment.folder, self._experiment.require_command().cwd))
        return Folders(tuple(dict.fromkeys(needed)), *self._files.patterns())

    def open_trial(self, number: int, params: Params, seed: int, state: Any = None) -> Run:
        """The script under way."""
        return open_script(self._experiment.with_values(params), seed, self._files, number)
