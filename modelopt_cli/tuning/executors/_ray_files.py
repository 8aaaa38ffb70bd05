"""Files for machines that do not see those of this one: what trials find is sent to each of them once, and what a
trial leaves comes back when it has ended. They lie under the same paths there, so that nothing must know of it.

On a machine nothing is overwritten: a file that is there with the same content serves, with another it is an error.
What was put there is removed in the end, by the last worker that uses it, or before the next search where a machine
was lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from modelopt_cli.core.errors import InputError, StorageError, UsageError
from modelopt_cli.tuning.objective import Folders

MOST = 2 * 2**30
"""Bytes that are sent."""
_LEFT_OUT = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints"}
)
_OF_A_SEARCH = "study.sqlite"  # folders with this in them are earlier searches, and this one


def packed(folders: Folders, most: int = MOST) -> bytes:
    """All that trials find, for `Copies`. Raises UsageError for more than `most` bytes, InputError for what cannot be
    read."""
    stream, size = io.BytesIO(), 0
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted({path for root in folders.found for path in _files(root)}):
            try:
                size += path.stat().st_size
                if size > most:
                    listed = ", ".join(map(str, folders.found))
                    raise UsageError(
                        f"what trials find on disk ({listed}) is more than {most / 2**30:.3g} GiB, which is not sent "
                        "to machines that do not see it; put it on a file system that all of them see under the same "
                        "path, or the experiment file into a folder of its own"
                    )
                archive.add(path, arcname=str(path).lstrip("/"), recursive=False)
            except OSError as error:
                raise InputError(f"'{path}' cannot be sent to other machines: {error.strerror or error}") from None
    return stream.getvalue()


def _files(root: Path) -> Iterator[Path]:
    """Files of a folder (or the file itself) with their real content; without what no trial needs."""
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root):
        if _OF_A_SEARCH in names and Path(folder) != root:
            folders.clear()
            continue
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        yield from (path for name in names if (path := Path(folder, name)).is_file() and not path.is_symlink())


def put_back(data: bytes, folders: Folders) -> None:
    """Write what a trial has left elsewhere. Raises StorageError where that cannot be."""
    homes = [Path(pattern).parent for pattern in folders.left]
    with tarfile.open(fileobj=io.BytesIO(data), mode="r") as archive:
        for member in archive:
            path = Path("/", member.name)
            if not member.isfile() or ".." in path.parts or not any(path.is_relative_to(home) for home in homes):
                continue
            try:
                _write(archive, member, path)
            except OSError as error:
                raise StorageError(f"{path} cannot be written ({error.strerror or error})") from None


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Whole or not at all."""
    content = archive.extractfile(member)
    assert content is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        scratch.write_bytes(content.read())
        scratch.chmod(member.mode & 0o777)
        os.utime(scratch, (member.mtime, member.mtime))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


class Copies:
    """What was sent to this machine, as one of its workers sees it."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        name = hashlib.sha256("\n".join(map(str, folders.found)).encode()).hexdigest()[:16]
        self._base = Path(tempfile.gettempdir(), f"modelopt-sent-{os.getuid()}-{name}")
        self._users = -1  # a lock that every worker of this machine shares
        self._sent: dict[Path, tuple[int, int]] = {}  # file -> what it was like when it was sent back

    def receive(self, data: bytes) -> None:
        """Put all where it belongs, unless another worker of this machine has. Raises UsageError, StorageError."""
        with self._alone():
            self._users = os.open(self._base.with_suffix(".users"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # others use it
                fcntl.flock(self._users, fcntl.LOCK_SH)
                return
            self._remove_made()  # of a search that could not
            self._unpack(data)
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def _unpack(self, data: bytes) -> None:
        made: list[str] = []
        record = self._base.with_suffix(".json")
        try:
            for pattern in self._folders.left:
                self._make_folder(Path(pattern).parent, made)
            with tarfile.open(fileobj=io.BytesIO(data), mode="r") as archive:
                for member in archive:
                    self._place(archive, member, made)
        except OSError as error:
            raise StorageError(
                f"{error.filename or 'a file'} cannot be written ({error.strerror or error}), so that the experiment's "
                "files cannot be put there; use a folder that can be made on all machines, or that all of them see"
            ) from None
        finally:
            record.write_text(json.dumps(made), encoding="utf-8")

    def _place(self, archive: tarfile.TarFile, member: tarfile.TarInfo, made: list[str]) -> None:
        path = Path("/", member.name)
        if not member.isfile() or ".." in path.parts:
            return
        if path.exists():
            content = archive.extractfile(member)
            assert content is not None
            if not path.is_file() or path.read_bytes() != content.read():
                raise UsageError(
                    f"{path} is there with another content than where the search was started; make them equal, or "
                    "remove it there"
                )
            return
        self._make_folder(path.parent, made)
        _write(archive, member, path)
        made.append(str(path))

    def _make_folder(self, folder: Path, made: list[str]) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            made.append(str(each))

    def changed(self, patterns: Sequence[str], number: int, seed: int) -> bytes:
        """What a trial has left, as far as it is new; nothing where there is nothing new."""
        stream = io.BytesIO()
        count = 0
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path in self._left(patterns, number, seed):
                with contextlib.suppress(OSError):  # it may go at any time
                    status = path.stat()
                    seen = (status.st_mtime_ns, status.st_size)
                    if self._sent.get(path) != seen:
                        archive.add(path, arcname=str(path).lstrip("/"), recursive=False)
                        self._sent[path] = seen
                        count += 1
        return stream.getvalue() if count else b""

    def _left(self, patterns: Sequence[str], number: int, seed: int) -> Iterator[Path]:
        for pattern in patterns:
            path = Path(pattern.format(number=number, seed=seed))
            for entry in sorted(path.parent.glob(path.name)):
                for folder, _, names in os.walk(entry):
                    yield from (each for name in names if not (each := Path(folder, name)).is_symlink())
                if entry.is_file():
                    yield entry

    def close(self) -> None:
        """Let go; whoever is the last of this machine removes what was put there, and what trials left."""
        if self._users < 0:
            return
        with self._alone():
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_made()
                self._base.with_suffix(".users").unlink(missing_ok=True)
            except BlockingIOError:
                pass
            os.close(self._users)
            self._users = -1

    def _remove_made(self) -> None:
        record = self._base.with_suffix(".json")
        try:
            made = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        homes = {str(Path(pattern).parent) for pattern in self._folders.left}
        for name in reversed(made):
            path = Path(name)
            with contextlib.suppress(OSError):
                if not path.is_dir():
                    path.unlink(missing_ok=True)
                elif name in homes:
                    shutil.rmtree(path)
                else:  # unless somebody else has put something there
                    shutil.rmtree(path / "__pycache__", ignore_errors=True)
                    path.rmdir()
        record.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One worker of this machine at a time."""
        with self._base.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
