"""A logger's own process: reads records from standard input, a JSON document a line, and logs them.

What it has to say goes to what was standard output when it began, a line each: `{"warning": ...}`, `{"where": ...}`,
`{"handled": N}`. Whatever a package prints goes to standard error, which nobody reads but after a crash.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from modelopt_cli.results.deliveries.journal import Journal
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Logger, Points, Session

_GIVES_UP = 5  # failures in a row after which a logger is left alone
_AT_ONCE = 5000  # records that are taken together, so that the points of a run are one call
_LONGEST = 300  # characters of an error


def main() -> None:
    """Log until the records end. Ends by itself where its parent has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logger, location = _begin(json.loads(sys.stdin.readline()))
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, lines, logger.wait), daemon=True).start()
    Logging(logger, location, answers).follow(lines)
    answers.flush()
    os._exit(0)  # no package's last wishes: what it had to hand over was handed over by its session


def _begin(head: Mapping[str, Any]) -> tuple[Logger, Location]:
    made_of = importlib.import_module(head["module"])  # the parent has asked for consent to it, where it is not ours
    options = {key: value for key, value in head["options"].items() if key != "type"}
    logger: Logger = getattr(made_of, head["class"]).model_validate(options)
    folder, root = (None if head[key] is None else Path(head[key]) for key in ("folder", "root"))
    return logger, Location(head["name"], head["title"], folder, root)


def _read(stream: IO[str], lines: queue.SimpleQueue[dict[str, Any] | None], patience: float) -> None:
    parent = os.getppid()
    for line in stream:
        lines.put(json.loads(line))
    lines.put(None)
    while True:
        time.sleep(patience)
        if os.getppid() != parent:  # it has died; else it knows how long to wait
            os._exit(1)


class Logging:
    """Hands records to a session; what it raises becomes one warning."""

    def __init__(self, logger: Logger, location: Location, answers: IO[str]) -> None:
        self._logger, self._location, self._answers = logger, location, answers
        self._journal = Journal(logger, location.folder)
        self._session: Session | None = None
        self._failures, self._warned, self._given_up = 0, False, False
        self._open: dict[str, None] = {}  # runs that have begun here and not ended, in order
        self._steps: dict[str, int] = {}

    def follow(self, lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        """Log all that comes."""
        self._try("opened", self._start)
        over = False
        while not over:
            some = [lines.get()]
            while len(some) < _AT_ONCE and not lines.empty():
                some.append(lines.get())
            over = None in some
            records = [each for each in some if each is not None]
            self._take(records)
            self._answer({"handled": len(records)})
        for run in list(reversed(self._open)):  # the parent has died
            self._try("ended", self._end, Ended(run, "interrupted", "the process that ran it has ended"))
        if self._session is not None:
            self._try("closed", self._session.close)

    def _start(self) -> None:
        self._session = self._logger.open(self._location)
        self._answer({"where": self._session.where})

    def _take(self, records: list[dict[str, Any]]) -> None:
        """The points of a run are logged together, before it ends."""
        waiting: dict[str, list[tuple[int, dict[str, float]]]] = {}
        for record in records:
            run = record["run"]
            if "points" in record:
                waiting.setdefault(run, []).extend((step, metrics) for step, metrics in record["points"])
                continue
            if run in waiting:
                self._try("logged", self._log, run, waiting.pop(run))
            if "status" in record:
                self._try("ended", self._end, Ended(**record))
            else:
                self._try("begun", self._begin, Begun(**record))
        for run, points in waiting.items():
            self._try("logged", self._log, run, points)

    def _begin(self, begun: Begun) -> bool:
        run = begun.run
        if (run in self._journal.ended and run != OWN) or run in self._open:
            return False
        session = self._at_work()
        known = self._journal.ids.get(run)
        try:
            identifier = session.begin(begun, known)
        except Exception as error:
            if known is None:
                raise
            self._warn(f"what was logged before cannot be gone on with, so it begins anew: {_text(error)}")
            identifier = session.begin(begun, None)
        self._open[run] = None
        if identifier != known:
            self._journal.begun(run, identifier)
        return True

    def _log(self, run: str, points: list[tuple[int, dict[str, float]]]) -> bool:
        last = max(self._steps.get(run, -1), self._journal.steps.get(run, -1))
        new = [(step, metrics) for step, metrics in points if step > last]
        if not new or run not in self._open:
            return False
        self._at_work().log(Points(run, new))
        self._steps[run] = new[-1][0]
        return True

    def _end(self, ended: Ended) -> bool:
        run = ended.run
        if run not in self._open:
            return False
        self._at_work().end(ended)
        del self._open[run]
        if ended.status != "interrupted":
            self._journal.over(run)
        elif run in self._steps:
            self._journal.logged(run, self._steps[run])
        return True

    def _at_work(self) -> Session:
        assert self._session is not None
        return self._session

    def _try(self, what: str, action: Any, *arguments: Any) -> None:
        """`action`; a failure is told once, and after several in a row nothing more is tried.

        What gives False had nothing to do.
        """
        if self._given_up or (self._session is None and what != "opened"):
            return
        try:
            if action(*arguments) is not False:
                self._failures = 0
        except BaseException as error:
            self._failures += 1
            self._given_up = what == "opened" or self._failures >= _GIVES_UP
            if not self._warned:
                self._warned = True
                self._warn(f"the run could not be {what}: {_text(error)}. The run itself goes on")
            if self._given_up and what != "opened":
                self._warn(f"{self._failures} attempts failed one after the other, so nothing more is logged")

    def _warn(self, text: str) -> None:
        self._answer({"warning": text})

    def _answer(self, content: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(content) + "\n")


def _text(error: BaseException) -> str:
    """Its first line, without passwords in addresses."""
    text = f"{type(error).__name__}: {error}".strip().partition("\n")[0].rstrip(": .")
    return re.sub(r"//[^/@\s]+@", "//", text)[:_LONGEST]


if __name__ == "__main__":
    main()
