"""Reading what torch.save wrote without running code from it: what a file claims and would call is looked at first.

What an archive's records hold is compared with their checksums while it is read.
"""

from __future__ import annotations

import mmap
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError
from modelopt_cli.core.zip_files import Record, without_checksums
from modelopt_cli.models.files import inert
from modelopt_cli.models.files.checked_stream import CheckedStream
from modelopt_cli.models.files.declared_sizes import Claims, OtherPickle, check_archive, look

_HARMLESS = ("torch.", "_codecs.encode", *(f"collections.{name}" for name in ("OrderedDict", "Counter")),
             *(f"builtins.{name}" for name in ("bytearray", "set", "complex")))  # fmt: skip
_SHARED = 1 << 26  # bytes that elements which share memory may take all together, where they are told apart
_MISSED = re.compile(r"(?:GLOBAL|reduce for unrecognized function|but got) (?:<(?:class|function) ')?([\w.]+)")


def read_pickle(path: Path, *, trust: bool = False) -> Any:
    """What torch.save wrote to `path`, in its zip or its older format: plain values and tensors (on the CPU).

    `trust` runs whatever code the file names, and so reads any Python object. Without it nothing is run. Raises
    InputError (exit 2) for a file that is missing, empty, truncated or damaged, RefusedError (exit 5) for one that
    would run code (its message says what) or claims more memory than it holds.
    """
    claims = Claims(path)
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on foreign pickles; what matters is told below
            if os.fstat(stream.fileno()).st_size == 0:
                raise InputError(f"{path} is empty")
            content = _trusted(stream, path) if trust else _plain(stream, claims)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; name a model.pt, e.g. runs/<name>/1/model.pt") from None
    except IsADirectoryError:
        near = path / "model.pt"
        hint = f"; name the model in it: {near}" if near.is_file() else ", not a model.pt"
        raise InputError(f"{path} is a folder{hint}") from None
    except ModeloptError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader do
        if not trust and (name := _foreign(claims, error)):
            raise RefusedError(_runs_code(path, name)) from None
        if isinstance(error, OtherPickle):
            raise InputError(
                f"{path} is a pickle, but none that torch.save wrote; save a dict of tensors: torch.save({{'weight': "
                "tensor}, ...)"
            ) from None
        if trust and isinstance(error, AttributeError | ImportError):
            raise InputError(
                f"{path} needs code that is not here ({error}); run this in the folder of the module that made it"
            ) from None
        raise InputError(
            f"{path} cannot be read as a model ({type(error).__name__}): it is truncated, damaged, or no model at all"
        ) from None
    check_tensors(content, path)
    return content


def write_pickle(content: Any, stream: IO[bytes], *, modern: bool = True) -> None:
    """torch.save, in its zip or its older format. A write that fails raises its OSError, which torch would hide."""
    import torch

    guarded = _Stream(stream)
    try:
        torch.save(content, guarded, _use_new_zipfile_serialization=modern)  # type: ignore[arg-type]
    except RuntimeError:
        if guarded.error is not None:
            raise guarded.error from None
        raise


class _Stream:
    """Keeps the error of a write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def check_tensors(content: Any, path: Path) -> None:
    """Refuse tensors whose elements take far more memory than they hold (stride 0, overlaps), and such without values.

    A little is fine: an expanded tensor of a few numbers is what people save.
    """
    import torch

    shared = 0
    for tensor in _tensors(content):
        if tensor.device.type == "meta":
            raise InputError(
                f"{path} holds a tensor of shape {tuple(tensor.shape)} without values (on the meta device)"
            )
        if tensor.layout != torch.strided or tensor.is_nested:
            continue  # stays as it is, whatever its shape
        needed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        shared += needed if needed > held else 0
        if shared > _SHARED:
            shape = "x".join(map(str, tensor.shape))
            raise RefusedError(
                f"{path} asks for memory that it does not hold (a tensor of shape {shape}, {needed:,} bytes, over "
                f"{held:,}), so it is refused"
            )


def _plain(stream: IO[bytes], claims: Claims) -> Any:
    memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    records = look(memory, claims)
    strange = [name for name in claims.names if not _known(name)]
    if strange:
        raise UnpicklingError(strange[0])
    import torch

    with inert.allowed() as placed:
        return placed(
            _checked(
                stream,
                memory,
                records,
                claims.path,
                partial(torch.load, map_location="cpu", weights_only=True),
            )
        )


def _trusted(stream: IO[bytes], path: Path) -> Any:
    memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    records = check_archive(memory, path)
    import torch

    with _on_the_path(path.parent):
        return _checked(stream, memory, records, path, partial(torch.load, map_location="cpu", weights_only=False))


def _checked(
    stream: IO[bytes],
    memory: mmap.mmap,
    records: Mapping[str, Record] | None,
    path: Path,
    load: Callable[[Any], Any],
) -> Any:
    """What `load` reads from the stream. Raises InputError where a record is not what its checksum says."""
    if records is None or without_checksums(records):
        return load(stream)
    checked = CheckedStream(stream, records)
    try:
        content = load(checked)
        checked.finish(memoryview(memory), str(path))
    finally:
        checked.close()
    return content


@contextmanager
def _on_the_path(folder: Path) -> Iterator[None]:
    """Modules beside the file, and in the current folder, can be imported: a pickled module needs its class."""
    added = [str(Path.cwd()), str(folder.resolve())]
    sys.path[:0] = added
    try:
        yield
    finally:
        for one in added:
            sys.path.remove(one)


def _known(name: str) -> bool:
    return name.startswith(_HARMLESS) or name in inert.NAMES


def _foreign(claims: Claims, error: Exception) -> str | None:
    """What the file asks for that no state dict needs: the first strange name, else what torch's reader stopped at."""
    names_missed = _MISSED.search(str(error)) if isinstance(error, UnpicklingError) else None
    strange = [name for name in claims.names if not _known(name)]
    if strange or names_missed is None:
        return next(iter(strange), None)
    return next((name for name in claims.names if name.endswith(names_missed[1])), names_missed[1])


def _runs_code(path: Path, name: str) -> str:
    whole = name.startswith("torch.nn.")
    what = "a whole module, which would run code" if whole else "no plain state dict: it would run code"
    return (
        f"{path} is {what} when read (it asks for {name[:200]}), so it is refused; save its tensors alone: "
        "torch.save(module.state_dict(), ...); or, if you trust whoever made it, read it with --trust-pickle (of prune "
        "and inspect)"
    )


def _tensors(content: Any) -> Iterator[Any]:
    import torch

    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, torch.nn.Module):
            waiting.extend(item.state_dict().values())
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
