"""What was logged of a run, kept in its folder, so that `--resume` goes on with it and logs nothing twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from modelopt_cli.results.loggers import Logger

_NO_TARGET = ("wait", "artefacts")  # options that do not change where a logger logs to


class Journal:
    """A file of lines, one logger's: each run that it began, how far that was logged, and which ones have ended.

    Only appended to, so a process that is killed loses its last line at most.
    """

    def __init__(self, logger: Logger, folder: Path | None) -> None:
        """`folder`: the run's; None: nothing is kept. Another address in the file begins another journal."""
        options = {key: value for key, value in logger.model_dump(mode="json").items() if key not in _NO_TARGET}
        mark = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
        self._path = None if folder is None else folder / ".loggers" / f"{logger.name()}-{mark}.jsonl"
        self.ids: dict[str, str] = {}  # run -> what the package knows it by
        self.steps: dict[str, int] = {}  # run -> last step that was logged
        self.ended: set[str] = set()
        for line in self._lines():
            self._learn(line)

    def begun(self, run: str, identifier: str) -> None:
        """A run was begun in the package."""
        self._add({"run": run, "id": identifier})

    def logged(self, run: str, step: int) -> None:
        """All of a run up to this step was logged; noted where it may go on later."""
        self._add({"run": run, "step": step})

    def over(self, run: str) -> None:
        """A run has ended for good."""
        self._add({"run": run, "ended": True})

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        if self._path is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                for line in self._path.read_text(encoding="utf-8").splitlines():
                    with contextlib.suppress(ValueError):  # the last one of a process that was killed
                        content = json.loads(line)
                        if isinstance(content, dict) and isinstance(content.get("run"), str):
                            lines.append(content)
        return lines

    def _learn(self, line: dict[str, Any]) -> None:
        run = line["run"]
        if isinstance(line.get("id"), str):
            self.ids[run] = line["id"]
        if isinstance(line.get("step"), int):
            self.steps[run] = line["step"]
        if line.get("ended"):
            self.ended.add(run)

    def _add(self, line: dict[str, Any]) -> None:
        self._learn(line)
        if self._path is not None:
            self._path.parent.mkdir(exist_ok=True)
            with self._path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
