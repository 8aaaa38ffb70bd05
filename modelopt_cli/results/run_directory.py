"""A run's own folder, `runs/<name>/<number>/`: numbered without races, locked while written, every file whole.

The lock is the kernel's (flock), so a process that died leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Self, TypeVar

from modelopt_cli.core.errors import GateError, InterruptedRunError, ModeloptError, StorageError, UsageError
from modelopt_cli.core.processes.interrupts import from_outside
from modelopt_cli.core.references import digest, redacted, without_values
from modelopt_cli.results.environment import environment
from modelopt_cli.results.files import write_json, write_text
from modelopt_cli.results.report import Report, Table, kind_of
from modelopt_cli.results.tables import as_csv, as_json

T = TypeVar("T")

LOCK = ".lock"
MARKS = ("experiment.yaml", "report.json", "study.sqlite", LOCK)  # a folder that holds one of these is a run of ours
_HEADER = "# Written by modelopt. Run it with: modelopt {command} {path}\n"


class RunDirectory:
    """A folder that this process may write. A context manager; leaving it lets go of the lock.

    Raises StorageError (exit 6) when the folder cannot be written or another process has it.
    """

    workflow: str = ""
    """What is run in it; set by whoever runs it, for the report of a run that fails."""

    def __init__(self, path: Path, *, made: bool = False) -> None:
        """`made`: the folder was made for this run, so that it goes again when nothing comes of it."""
        self.path, self._made = path.absolute(), made
        self._experiment: Mapping[str, Any] | None = None  # what is run, once it has begun
        self._started, self._clock = datetime.now(UTC).astimezone(), time.perf_counter()
        self._lock = _lock(path)
        self._identity = self.path.stat()

    def check(self) -> None:
        """Raise StorageError when the folder was removed, renamed or replaced since."""
        try:
            there = os.path.samestat(self.path.stat(), self._identity)
        except OSError:
            there = False
        if not there:
            raise StorageError(
                f"{self.path} was removed, renamed or replaced while the run went on, so that nothing more can be kept "
                "in it; start a new run, or put it back and go on with --resume"
            )

    @classmethod
    def create(cls, root: Path, name: str) -> RunDirectory:
        """`root/name/<number>` with the next free number."""
        parent = root / name
        _guard(parent, lambda: parent.mkdir(parents=True, exist_ok=True))
        number = max((int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()), default=0) + 1
        while True:
            path = parent / str(number)
            try:
                _guard(path, path.mkdir)
            except FileExistsError:
                number += 1  # another process took it just now
                continue
            return cls(path, made=True)

    @classmethod
    def create_at(cls, path: Path, *, resume: bool = False, workflow: str = "") -> RunDirectory:
        """That very folder. A folder with anything in it is refused, unless `resume` and it is a run of ours.

        `workflow`: what goes on in it; a run of another one is refused.
        """
        ours = any((path / mark).exists() for mark in MARKS)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out names the folder for the run's results")
        filled = path.is_dir() and any(entry.name != LOCK for entry in path.iterdir())  # a run that never began
        if resume and not ours:
            raise UsageError(f"{path} holds no run to resume; leave out --resume, or name the run's folder with --out")
        if filled and not resume:
            hint = "go on with it by --resume, or name a new folder" if ours else "name a new folder"
            raise UsageError(f"{path} is not empty, and earlier results are never overwritten; {hint}")
        other = workflow_of(path) if resume else ""
        if workflow and other not in ("", workflow):
            raise UsageError(
                f"{path} is a run of modelopt {other}, which modelopt {workflow} cannot go on with; name a run of its "
                "own with --out, or leave out --resume"
            )
        made = not path.exists()
        _guard(path, lambda: path.mkdir(parents=True, exist_ok=True))
        return cls(path, made=made)

    @classmethod
    def newest(cls, root: Path, name: str, workflow: str = "") -> RunDirectory:
        """The run of this name with the highest number, to go on with. Raises UsageError when there is none.

        `workflow`: runs that are known to be of another one are passed over.
        """
        parent = root / name
        numbers = [int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()] if parent.is_dir() else []
        for number in sorted(numbers, reverse=True):
            path = parent / str(number)
            if not workflow or workflow_of(path) in ("", workflow):
                return cls(path)
        by = f" by modelopt {workflow}" if numbers else ""
        raise UsageError(f"there is no run of '{name}'{by} under {root} to resume; leave out --resume to start one")

    def path_of(self, name: str) -> Path:
        """Where a file of this name lies, or will."""
        return self.path / name

    def write_experiment(self, experiment: Mapping[str, Any]) -> None:
        """experiment.yaml: the resolved experiment. From here on the run has begun; by an error it would fail."""
        self._experiment = experiment
        self._write_yaml("experiment.yaml", experiment, "tune" if experiment.get("tuning") else "train")

    def write_best(self, experiment: Mapping[str, Any], workflow: str = "train", comment: str = "") -> None:
        """best.yaml: the best setting, as a file that runs as it stands, by the workflow's command.

        `comment`: lines that begin with # and stand at its top.
        """
        self._write_yaml("best.yaml", experiment, workflow, comment)

    def write_environment(
        self,
        seed: int,
        device: str,
        variables: Mapping[str, str] = MappingProxyType({}),
        auto: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """environment.json. Of the environment variables that the experiment refers to, only digests are kept.

        `auto`: what was taken for options that the experiment leaves open, and why.
        """
        digests = {name: digest(value) for name, value in variables.items()}
        taken = {"auto": dict(auto)} if auto else {}
        write_json(self.path_of("environment.json"), {**environment(seed, device), "variables": digests, **taken})

    def write_report(self, report: Report, *, page: bool = False) -> Report:
        """report.json, and with `page` report.html; the report as it was written, which names the page.

        report.json is written first: a page that cannot be made or written, on a full disk say, is a warning in it, for
        the run has come to its result without one.
        """
        if not page:
            write_text(self.path_of("report.json"), report.to_json() + "\n")
            return report
        from modelopt_cli.results.page.page import render

        path = self.path_of("report.html")
        written = self.write_report(report.with_artefact("page", str(path)))
        try:
            write_text(path, render(written, self.path), durable=False)  # `modelopt report` makes it again
        except Exception as error:
            why = f"report.html could not be written ({type(error).__name__}: {error})"
            return self.write_report(report.with_warning(why))
        return written

    def write_table(self, name: str, table: Table) -> None:
        """NAME.csv and NAME.json (a list of records, a line each); saved_run.py reads them."""
        columns, rows = without_values([table.columns, table.rows])
        table = Table.model_construct(columns=columns, rows=rows)
        write_text(self.path_of(f"{name}.csv"), as_csv(table), durable=False)  # its JSON has it all
        write_text(self.path_of(f"{name}.json"), as_json(table))

    def _write_yaml(self, name: str, content: Mapping[str, Any], command: str, comment: str = "") -> None:
        from modelopt_cli.core.yaml_dumper import dump

        path = self.path_of(name)
        text = dump({key: _plain(value) for key, value in content.items()})
        write_text(path, _HEADER.format(command=command, path=path) + redacted(comment) + text)

    def _write_failed(self, error: BaseException) -> None:
        """report.json of a run that had begun and ended by `error`; a report that is complete stays."""
        if self._experiment is None or _completed(self.path_of("report.json")):
            return
        known = isinstance(error, ModeloptError)
        report = Report(
            kind=kind_of(self.workflow),
            workflow=self.workflow,
            name=str(self._experiment.get("name", "")),
            status="failed",
            reason=str(error) if known else f"{type(error).__name__}: {error}".rstrip(": "),
            seed=int(self._experiment.get("seed", 0)),
            started=self._started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - self._clock,
            artefacts={"directory": str(self.path)},
        )
        self.write_report(report, page=bool(self._experiment.get("report", True)))

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not from_outside(error) and not isinstance(error, GateError | InterruptedRunError):
            with contextlib.suppress(StorageError):  # the error that ended the run says more
                self._write_failed(error)
        with contextlib.suppress(OSError):  # the folder may be gone
            if self._made and error is not None and [entry.name for entry in self.path.iterdir()] == [LOCK]:
                (self.path / LOCK).unlink()  # the run was refused before it began
                self.path.rmdir()
        self.close()


def _plain(value: Any) -> Any:
    """Without tuples, so that no YAML tags are needed."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _completed(report: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(report.read_text(encoding="utf-8")).get("status") == "completed")
    return False


def workflow_of(path: Path) -> str:
    """The workflow that the run in `path` is of; empty where nothing in it tells."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return str(json.loads((path / "report.json").read_text(encoding="utf-8")).get("workflow", ""))
    return "tune" if (path / "study.sqlite").exists() else ""


def locked(path: Path) -> bool:
    """True while a process writes this run."""
    with contextlib.suppress(OSError), (path / LOCK).open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(path: Path) -> IO[str]:
    def open_lock() -> IO[str]:
        return (path / LOCK).open("a+")

    stream = _guard(path, open_lock)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if not isinstance(error, BlockingIOError):
            stream.close()
            raise StorageError(
                f"{path} cannot be locked ({error.strerror}), so two runs could write it at once; choose a folder on "
                "a file system with locks, by --out or $MODELOPT_RUNS"
            ) from None
        stream.seek(0)
        holder = stream.read().strip() or "another process"
        stream.close()
        raise StorageError(
            f"{path} is in use by {holder}; wait for it to end, or choose another folder with --out"
        ) from None
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {os.uname().nodename}")
    stream.flush()
    return stream


def _guard(path: Path, action: Callable[[], T]) -> T:
    """`action()`, its OSError told as a StorageError."""
    try:
        return action()
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}); choose another folder with --out, or make it writable"
        ) from None
