"""Reading what torch.save wrote without running code from it: what a file claims and would call is looked at first."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError

_HARMLESS = ("torch", "collections OrderedDict", "_codecs encode")


def read_pickle(path: Path) -> Any:
    """Plain values and tensors (on the CPU) that torch.save wrote to `path`, in its zip or its older format.

    Raises InputError (exit 2) for a file that is missing, empty, truncated or damaged, RefusedError (exit 5) for one
    that would run code or claims more than it holds.
    """
    import torch

    try:
        with path.open("rb") as stream:
            check_claims(stream, path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's remarks on foreign pickles; what matters is told below
                return torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; name a model.pt, e.g. runs/<name>/1/model.pt") from None
    except IsADirectoryError:
        near = path / "model.pt"
        hint = f"; name the model in it: {near}" if near.is_file() else ", not a model.pt"
        raise InputError(f"{path} is a folder{hint}") from None
    except pickle.UnpicklingError:
        if names_foreign_code(path):
            raise RefusedError(
                f"{path} would run code when read, so it is refused; save its tensors alone (a state dict)"
            ) from None
        raise InputError(f"{path} cannot be read as a model: it is truncated, damaged, or no model at all") from None
    except ModeloptError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader do
        raise InputError(
            f"{path} cannot be read as a model ({type(error).__name__}): it is truncated or damaged"
        ) from None


def check_claims(stream: IO[bytes], path: str | Path) -> None:
    """Refuse an archive whose entries would unpack to more than the file holds (torch stores them uncompressed).

    Raises RefusedError for such an archive, InputError for an empty file. Leaves the stream at its start.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise InputError(f"{path} is empty")
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > size:
            raise RefusedError(f"{path} claims to hold {claimed:,} bytes in a file of {size:,}; it is refused")
    stream.seek(0)


def names_foreign_code(path: Path) -> bool:
    """True when the pickle in `path` names something to call that is not torch's own. Nothing is run to find out."""
    try:
        return any(not name.startswith(_HARMLESS) for name in _globals(_pickle_in(path)))
    except (OSError, ValueError, IndexError, KeyError, zipfile.BadZipFile):
        return False  # no pickle at all


def _pickle_in(path: Path) -> bytes:
    """The file's own pickle, or the `data.pkl` of torch's archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)


def _globals(data: bytes) -> Iterator[str]:
    """`module name` of every global that the pickles name, as far as they can be parsed.

    torch's older format is several pickles one after another, then the numbers.
    """
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        texts: list[str] = []
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name in ("GLOBAL", "INST"):
                yield str(argument)
            elif operation.name == "STACK_GLOBAL":
                yield " ".join(texts[-2:])
            elif "UNICODE" in operation.name or "STRING" in operation.name:
                texts.append(str(argument))
