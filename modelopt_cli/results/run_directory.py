"""A run's own folder, `runs/<name>/<number>/`: numbered without races, locked while written, every file whole.

The lock is the kernel's (flock), so a process that died leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.results.environment import environment
from modelopt_cli.results.files import write_json, write_text
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.tables import as_csv, as_rows

T = TypeVar("T")

LOCK = ".lock"
MARKS = ("experiment.yaml", "report.json", "study.sqlite", LOCK)  # a folder that holds one of these is a run of ours
_HEADER = "# Written by modelopt. Run it with: modelopt {command} {path}\n"


class RunDirectory:
    """A folder that this process may write. A context manager; leaving it lets go of the lock.

    Raises StorageError (exit 6) when the folder cannot be written or another process has it.
    """

    def __init__(self, path: Path, *, made: bool = False) -> None:
        """`made`: the folder was made for this run, so that it goes again when nothing comes of it."""
        self.path, self._made = path, made
        self._lock = _lock(path)

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
    def create_at(cls, path: Path, *, resume: bool = False) -> RunDirectory:
        """That very folder. A folder with anything in it is refused, unless `resume` and it is a run of ours."""
        ours = any((path / mark).exists() for mark in MARKS)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; --out names the folder for the run's results")
        filled = path.is_dir() and any(entry.name != LOCK for entry in path.iterdir())  # a run that never began
        if resume and not ours:
            raise UsageError(f"{path} holds no run to resume; leave out --resume, or name the run's folder with --out")
        if filled and not resume:
            hint = "go on with it by --resume, or name a new folder" if ours else "name a new folder"
            raise UsageError(f"{path} is not empty, and earlier results are never overwritten; {hint}")
        made = not path.exists()
        _guard(path, lambda: path.mkdir(parents=True, exist_ok=True))
        return cls(path, made=made)

    @classmethod
    def newest(cls, root: Path, name: str) -> RunDirectory:
        """The run of this name with the highest number, to go on with. Raises UsageError when there is none."""
        parent = root / name
        numbers = [int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()] if parent.is_dir() else []
        if not numbers:
            raise UsageError(f"there is no run of '{name}' under {root} to resume; leave out --resume to start one")
        return cls(parent / str(max(numbers)))

    def path_of(self, name: str) -> Path:
        """Where a file of this name lies, or will."""
        return self.path / name

    def write_experiment(self, experiment: Mapping[str, Any]) -> None:
        """experiment.yaml: the resolved experiment."""
        self._write_yaml("experiment.yaml", experiment, "tune" if experiment.get("tuning") else "train")

    def write_best(self, experiment: Mapping[str, Any], workflow: str = "train", comment: str = "") -> None:
        """best.yaml: the best setting, as a file that runs as it stands, by the workflow's command.

        `comment`: lines that begin with # and stand at its top.
        """
        self._write_yaml("best.yaml", experiment, workflow, comment)

    def write_environment(self, seed: int, device: str) -> None:
        """environment.json."""
        write_json(self.path_of("environment.json"), environment(seed, device))

    def write_report(self, report: Report) -> None:
        """report.json."""
        write_text(self.path_of("report.json"), report.model_dump_json(indent=2) + "\n")

    def write_table(self, name: str, table: Table) -> None:
        """NAME.csv and NAME.json."""
        write_text(self.path_of(f"{name}.csv"), as_csv(table))
        write_json(self.path_of(f"{name}.json"), as_rows(table))

    def _write_yaml(self, name: str, content: Mapping[str, Any], command: str, comment: str = "") -> None:
        from modelopt_cli.core.yaml_dumper import dump

        path = self.path_of(name)
        text = dump(json.loads(json.dumps(content)))  # tuples become lists, so that no YAML tags are needed
        write_text(path, _HEADER.format(command=command, path=path) + comment + text)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._made and exc[0] is not None and [entry.name for entry in self.path.iterdir()] == [LOCK]:
            with contextlib.suppress(OSError):  # the run was refused before it began
                (self.path / LOCK).unlink()
                self.path.rmdir()
        self.close()


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
    except BlockingIOError:
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
