"""Importing what an experiment file names: `target: my_package.models:build`.

The experiment file's folder goes on the path, as Python does it for a script. Errors in the user's code are told with
the file and line in it, never with a traceback of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import linecache
import re
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import AfterValidator

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.processes import family

_Content = tuple[int, int, str]
"""Size, time of change in ns, and SHA-256 of a source file."""

_NAME = r"[A-Za-z_]\w*"
_TARGET = re.compile(rf"^({_NAME}(?:\.{_NAME})*):({_NAME}(?:\.{_NAME})*)$")
_folders: dict[str, str] = {}  # top-level module imported for an experiment -> the folder it came from
_roots: set[str] = set()  # folders that modules were imported from for experiments
_sources: dict[str, tuple[ModuleType, str, Path, _Content]] = {}
# module of such a folder -> (itself, folder, file, the file's content when it was imported)


def check_target(target: str) -> str:
    """`target` itself when it reads `module:attribute`. Raises ValueError with the rule."""
    if not _TARGET.match(target) or ".py:" in target:
        hint = ""
        if re.fullmatch(rf"{_NAME}(\.{_NAME})+", target):
            hint = f" Did you mean '{':'.join(target.rsplit('.', 1))}'?"
        elif target.endswith(".py") or ".py:" in target or "/" in target:
            hint = " Write the module's import name, without folder and '.py'."
        raise ValueError(f"{target!r} is no target; write 'module:attribute', e.g. 'my_package.models:build'.{hint}")
    return target


Target = Annotated[str, AfterValidator(check_target)]
"""Field type of an import path; its form is checked without importing anything."""


def load_target(target: str, folder: str | None = None) -> Any:
    """The object that `module:attribute` names, imported with `folder` first on the path.

    Raises UsageError: not of that form, no such module or attribute (with the nearest name), or an error in the
    module's own code (with its file and line).
    """
    try:
        check_target(target)
    except ValueError as error:
        raise UsageError(str(error)) from None
    module_name, _, attribute = target.partition(":")
    module = load_module(module_name, f"target '{target}'", folder)
    target_object: Any = module
    for part in attribute.split("."):
        if not hasattr(target_object, part):
            names = [name for name in dir(target_object) if not name.startswith("__")]
            where = getattr(module, "__file__", None) or "built in"
            raise UsageError(
                f"target '{target}': {module_name} ({where}) has no attribute '{part}'.{did_you_mean(part, names)}"
            )
        target_object = getattr(target_object, part)
    return target_object


def load_module(name: str, what: str, folder: str | None = None) -> ModuleType:
    """The module, imported with `folder` first on the path. Raises UsageError, which begins with `what` needs it."""
    return _import(name, what, None if folder is None else str(Path(folder).resolve()))


def describe_user_error(error: BaseException) -> str:
    """`file.py:12: ValueError: message`: the innermost line outside modelopt and installed packages."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frame = user_frame(error)
    return text if frame is None else f"{frame.filename}:{frame.lineno}: {text}"


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line outside modelopt and installed packages that the error came through."""
    own = str(Path(__file__).resolve().parent.parent)
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _is_users(frame.filename, own)), None)


def forget_changed() -> None:
    """Unload the modules of an experiment's folder where one of their files has changed, so that it is imported anew.

    All of the folder, for they may hold what the changed one defined. Not those that a program imported by itself.
    """
    changed = {folder for _, folder, file, before in _sources.values() if _content(file) != before}
    for name in [name for name, (_, folder, _, _) in _sources.items() if folder in changed]:
        module, _, file, _ = _sources.pop(name)
        if sys.modules.get(name) is module:
            del sys.modules[name]
            _folders.pop(name, None)
        with contextlib.suppress(OSError, NotImplementedError):  # tells versions apart by size and whole seconds only
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    if changed:
        linecache.checkcache()
        importlib.invalidate_caches()


def remember_sources(before: Collection[str]) -> None:
    """Note the files of the modules that were loaded since `before` (names) from folders of experiments."""
    for name, module in [(name, module) for name, module in sys.modules.items() if name not in before]:
        if name in _sources and _sources[name][0] is module:
            continue
        file = getattr(module, "__file__", None)
        if not file or not str(file).endswith(".py") or name.partition(".")[0] == __name__.partition(".")[0]:
            continue
        path = Path(file)
        folder = next((root for root in _roots if path.is_relative_to(root)), None)
        content = _content(path) if folder is not None and "site-packages" not in path.parts else None
        if folder is not None and content is not None:
            _sources[name] = (module, folder, path, content)


def _content(file: Path) -> _Content | None:
    """None where it cannot be read any more."""
    try:
        status = file.stat()
        return status.st_size, status.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def _is_users(filename: str, own: str) -> bool:
    installed = "site-packages" in filename or "dist-packages" in filename or filename.startswith("<")
    library = filename.startswith((own, str(Path(traceback.__file__).parent)))
    return not installed and not library


def _import(name: str, what: str, folder: str | None) -> ModuleType:
    top = name.partition(".")[0]
    if folder is not None:
        _put_first(folder)
        _roots.add(folder)
        if _folders.get(top, folder) != folder:
            _forget(top)
    importlib.invalidate_caches()
    new, before = top not in sys.modules, frozenset(sys.modules)
    try:
        family.begin_watching()
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(f"{what}: no module '{error.name}'{_where(error.name, folder)}") from None
        raise UsageError(f"{what} cannot be imported: {describe_user_error(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what} cannot be imported: {describe_user_error(error)}") from error
    if folder is not None:
        remember_sources(before)
    if new and folder is not None and str(getattr(module, "__file__", None) or "").startswith(folder):
        _folders[top] = folder
    return module


def _put_first(folder: str) -> None:
    if not sys.path or sys.path[0] != folder:
        sys.path[:] = [folder, *(entry for entry in sys.path if entry != folder)]


def _forget(top: str) -> None:
    """Unload a module that another experiment's folder gave, so that this folder's one of the same name is found."""
    for name in [name for name in sys.modules if name == top or name.startswith(top + ".")]:
        del sys.modules[name]
        _sources.pop(name, None)
    del _folders[top]


def _where(missing: str, folder: str | None) -> str:
    if folder is None:
        return "; it must be installed."
    inside = Path(folder, *missing.split(".")[:-1])
    names: list[str] = []
    if inside.is_dir():
        names = [
            item.stem
            for item in inside.iterdir()
            if item.suffix == ".py" or (item.is_dir() and item.stem.isidentifier())
        ]
    return f" in {folder} or among the installed packages.{did_you_mean(missing.rpartition('.')[2], names)}"
